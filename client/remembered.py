"""Which of the jobs that Temporal knows belong to which machine of a vCenter."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hyperctl.client.visibility import JobSummary
from hyperctl.workflows.identity import derive_job_id, derive_rehearsal_id
from hyperctl.workflows.inventory import InventoryMachine
from hyperctl.workflows.status import JobKind


@dataclass(frozen=True, slots=True)
class Remembered:
    """A machine with its last rehearsal and its last migration."""

    machine: InventoryMachine
    rehearsal: JobSummary | None = None
    migration: JobSummary | None = None


def remember(
    machines: Sequence[InventoryMachine], jobs: Iterable[JobSummary], server: str
) -> list[Remembered]:
    """Give every machine its jobs, which are those of one vCenter, the newest first.

    A job knows its machine by name. Where two have the same, one counts only if its id was derived with the
    machine's datacenter.
    """
    names = Counter(machine.name for machine in machines)
    newest: dict[tuple[JobKind, str], JobSummary] = {}
    by_id: dict[str, JobSummary] = {}
    for job in jobs:
        newest.setdefault((job.kind, job.vm_name), job)
        by_id.setdefault(job.job_id, job)

    def last(kind: JobKind, machine: InventoryMachine) -> JobSummary | None:
        if names[machine.name] == 1:
            return newest.get((kind, machine.name))
        derive = derive_job_id if kind is JobKind.MIGRATION else derive_rehearsal_id
        return by_id.get(derive(server, machine.datacenter, machine.name))

    return [
        Remembered(machine, last(JobKind.REHEARSAL, machine), last(JobKind.MIGRATION, machine))
        for machine in machines
    ]


def jobs_document(rehearsal: JobSummary | None, migration: JobSummary | None) -> dict[str, object]:
    """What `--json` says of a machine's last jobs; null where there is none."""
    jobs = {"last_rehearsal": rehearsal, "last_migration": migration}
    return {key: job and job.model_dump(mode="json") for key, job in jobs.items()}
