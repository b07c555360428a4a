"""`cancel`, `pause`, `resume`, `retry-now`, `set-...`: what tells a running migration something."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from hyperctl.client.cli.discard import discard_left
from hyperctl.client.cli.options import Job, VCenterOfJob, VmOfJob, find, find_job, parse_bandwidth
from hyperctl.client.cli.session import ExitCode, load_configuration, refuse, run
from hyperctl.client.errors import JobConflict
from hyperctl.client.migration import Migration
from hyperctl.client.observe import is_open, job_status
from hyperctl.client.rehearsal import BATCH_PREFIX, Rehearsal
from hyperctl.client.render.ending import remains
from hyperctl.client.render.text import safe, size
from hyperctl.client.sdk import MigrationClient
from hyperctl.workflows.request import Priority
from hyperctl.workflows.status import JobStatus, MigrationStatus


def cancel(
    job: Job = None,
    vm: VmOfJob = None,
    vcenter: VCenterOfJob = None,
    discard: Annotated[
        bool, typer.Option("--discard", help="Also delete the copied disks, of an ended migration too.")
    ] = False,
    reason: Annotated[str, typer.Option(help="For the record.", show_default=False)] = "",
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
) -> None:
    """Stop a migration and take back what it did; the copied disks stay unless --discard is given.

    A rehearsal, or a batch of them, named by its id, is stopped as well; it leaves nothing.
    """
    which = find_job(job, vm, vcenter)

    async def act(client: MigrationClient) -> ExitCode:
        if job is not None and job.startswith(BATCH_PREFIX):
            await client.rehearsal_batch(job).cancel()
            print(f"Asked {job} to stop.", flush=True)
            return ExitCode.OK
        migration = await which(client)
        if isinstance(migration, Rehearsal):
            await migration.cancel(reason=reason)
            print(f"Asked {migration.job_id} to stop.", flush=True)
            return ExitCode.OK if detach else await _until_ended(migration)
        if discard and not is_open(description := await migration.describe()):
            state = job_status(description)
            if state is JobStatus.COMPLETED:
                raise JobConflict(
                    f"{migration.job_id} is completed; a cancel does not delete finished images",
                    f"If that is meant: hyperctl discard --images --job {migration.job_id}",
                )
            print(f"{migration.job_id} has ended before: it is {state}.", flush=True)
            return await discard_left(migration)
        await migration.cancel(discard=discard, reason=reason)
        print(f"Asked {migration.job_id} to stop.", flush=True)
        return ExitCode.OK if detach else await _until_ended(migration)

    raise typer.Exit(run(load_configuration(), act))


async def _until_ended(migration: Migration | Rehearsal) -> ExitCode:
    told: set[str] = set()
    last: MigrationStatus | None = None
    async for status in migration.watch():
        last = status
        for note in status.notes:
            if note not in told:
                told.add(note)
                print(safe(note), flush=True)
    if last is None or last.status is not JobStatus.CANCELLED:
        print(f"It had already ended: it is {last.status if last else 'gone'}.")
        return ExitCode.FAILED
    print("Cancelled.")
    for text in remains(last):
        print(safe(text))
    return ExitCode.OK


def pause(job: Job = None, vm: VmOfJob = None, vcenter: VCenterOfJob = None) -> None:
    """Hold a migration before its next step; a copy stops at once."""
    _tell(job, vm, vcenter, lambda migration: migration.pause(), "will pause")


def resume(job: Job = None, vm: VmOfJob = None, vcenter: VCenterOfJob = None) -> None:
    """Let a paused migration go on."""
    _tell(job, vm, vcenter, lambda migration: migration.resume(), "goes on")


def retry_now(job: Job = None, vm: VmOfJob = None, vcenter: VCenterOfJob = None) -> None:
    """Do not wait for the next try."""
    _tell(job, vm, vcenter, lambda migration: migration.retry_now(), "tries again now, if it was waiting to")


def set_priority(
    priority: Annotated[Priority, typer.Argument(help="How urgent it is from now on.", show_default=False)],
    job: Job = None,
    vm: VmOfJob = None,
    vcenter: VCenterOfJob = None,
) -> None:
    """Change how urgent a migration is."""
    _tell(
        job, vm, vcenter, lambda migration: migration.set_priority(priority), f"has priority {priority} now"
    )


def set_bandwidth(
    bandwidth: Annotated[
        str, typer.Argument(help="Bytes a second, 200MiB; none lifts the cap.", show_default=False)
    ],
    job: Job = None,
    vm: VmOfJob = None,
    vcenter: VCenterOfJob = None,
) -> None:
    """Cap what a migration's copy takes from the network, also while it runs."""
    problems: list[str] = []
    cap = parse_bandwidth(bandwidth, problems, what="")
    if problems:
        refuse([problem.strip() for problem in problems])
    done = f"copies with {size(cap)}/s at most from now on" if cap else "copies without a cap from now on"
    which = find(job, vm, vcenter)

    async def act(client: MigrationClient) -> None:
        migration = await which(client)
        await migration.set_bandwidth(cap)
        print(f"{migration.job_id} {done}.")

    run(load_configuration(), act)


def _tell(
    job: str | None,
    vm: str | None,
    vcenter: str | None,
    tell: Callable[[Migration | Rehearsal], Awaitable[None]],
    done: str,
) -> None:
    which = find_job(job, vm, vcenter)

    async def act(client: MigrationClient) -> None:
        found = await which(client)
        await tell(found)
        print(f"{found.job_id} {done}.")

    run(load_configuration(), act)
