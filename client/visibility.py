"""Lists of jobs, from Temporal's visibility store.

Migrations and rehearsals are told apart by the workflow's type, which Temporal records for itself: SQL
visibility has room for ten keywords of ours, and nine are taken.
"""

import difflib
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict
from temporalio.client import WorkflowExecution
from temporalio.service import RPCError, RPCStatusCode

from hyperctl.client.connection import Connection, translate
from hyperctl.client.errors import JobAmbiguous, JobNotFound
from hyperctl.client.observe import attribute, job_status
from hyperctl.workflows import attributes
from hyperctl.workflows.attributes import quoted
from hyperctl.workflows.rehearsal import REASON_MEMO, VERDICT_MEMO, Verdict
from hyperctl.workflows.request import normal_server
from hyperctl.workflows.status import JobKind, JobStatus

REMEMBERING_TIMEOUT = timedelta(seconds=2)
"""For what is only good to know."""
MOST_REMEMBERED = 5
LIST_PAGE = 1000


class JobSummary(BaseModel):
    """One migration or rehearsal in a list."""

    model_config = ConfigDict(frozen=True)

    kind: JobKind
    job_id: str
    vm_name: str
    vcenter: str
    status: JobStatus
    phase: str
    priority: str
    host: str
    esxi_host: str
    batch_id: str
    requested_by: str
    started_at: datetime
    ended_at: datetime | None
    verdict: Verdict | None = None
    """Of a rehearsal that has ended with one, or without: `not_rehearsed`."""
    reason: str = ""
    """Why it does not boot or was not rehearsed, shortened."""

    @classmethod
    async def of(cls, execution: WorkflowExecution) -> "JobSummary":
        found = execution.typed_search_attributes
        kind = next(kind for kind in JobKind if kind.workflow_type == execution.workflow_type)
        memo = await execution.memo() if kind is JobKind.REHEARSAL else {}
        said = str(memo.get(VERDICT_MEMO, ""))
        return cls(
            kind=kind,
            verdict=Verdict(said) if said in set(Verdict) else None,
            reason=str(memo.get(REASON_MEMO, "")),
            job_id=execution.id,
            vm_name=attribute(found, attributes.VM_NAME),
            vcenter=attribute(found, attributes.VCENTER),
            status=job_status(execution),
            phase=attribute(found, attributes.PHASE),
            priority=attribute(found, attributes.PRIORITY),
            host=attribute(found, attributes.TARGET_HOST),
            esxi_host=attribute(found, attributes.ESXI_HOST),
            batch_id=attribute(found, attributes.BATCH_ID),
            requested_by=attribute(found, attributes.REQUESTED_BY),
            started_at=execution.start_time,
            ended_at=execution.close_time,
        )


async def list_jobs(
    connection: Connection,
    *,
    status: JobStatus | None,
    vcenter: str | None,
    vm_name: str | None,
    since: datetime | None,
    limit: int,
    kind: JobKind | None = JobKind.MIGRATION,
) -> list[JobSummary]:
    """The newest run of every job that fits, the newest first; without a kind migrations and rehearsals.

    A state is compared here and not by the server: an older run of the same job would fit otherwise.
    """
    types = ", ".join(quoted(one.workflow_type) for one in JobKind if kind in (None, one))
    clauses = [f"WorkflowType IN ({types})"]
    if vcenter:
        vcenter = _as_recorded(vcenter)
        clauses.append(f"{attributes.VCENTER.name} = {quoted(vcenter)}")
    if vm_name:
        clauses.append(f"{attributes.VM_NAME.name} = {quoted(vm_name)}")
    if since:
        clauses.append(f"StartTime >= {quoted(since.isoformat())}")
    if status and not status.is_final:
        clauses.append('ExecutionStatus = "Running"')
    found: list[JobSummary] = []
    try:
        async for execution in _newest_runs(connection, " AND ".join(clauses)):
            summary = await JobSummary.of(execution)
            if status in (None, summary.status):
                found.append(summary)
            if len(found) >= limit:
                break
    except RPCError as error:
        if error.status is RPCStatusCode.INVALID_ARGUMENT:
            await connection.refuse_missing_attributes()
        raise translate(error, connection.settings) from error
    return found


async def find_vm(connection: Connection, vm_name: str, vcenter: str | None) -> str:
    """The id of the one migration of a VM, or of the one that is under way.

    Raises `JobNotFound` with the nearest names, or `JobAmbiguous`.
    """
    found = await list_jobs(connection, status=None, vcenter=vcenter, vm_name=vm_name, since=None, limit=50)
    going = [job for job in found if not job.status.is_final]
    for one in (found, going):
        if len(one) == 1:
            return one[0].job_id
    if found:
        known = ", ".join(f"{job.job_id} ({job.vcenter}, {job.status})" for job in found)
        raise JobAmbiguous(f"there are {len(found)} migrations of {vm_name}: {known}", "Name one with --job.")
    everything = await list_jobs(connection, status=None, vcenter=None, vm_name=None, since=None, limit=1000)
    raise JobNotFound(
        f"no migration of {vm_name} is known", _nearest(vm_name, (job.vm_name for job in everything))
    )


async def last_rehearsal(connection: Connection, vm_name: str, vcenter: str) -> JobSummary | None:
    """The last rehearsal of a VM that has ended with a verdict or without; None also where none is known
    within two seconds."""
    return await _last_rehearsal(
        connection,
        f"{attributes.VM_NAME.name} = {quoted(vm_name)} AND {attributes.VCENTER.name} = "
        f"{quoted(_as_recorded(vcenter))}",
    )


async def last_rehearsal_by_id(connection: Connection, job_id: str) -> JobSummary | None:
    """The same by the rehearsal's id, by which that of a file is known."""
    return await _last_rehearsal(connection, f"WorkflowId = {quoted(job_id)}")


async def _last_rehearsal(connection: Connection, which: str) -> JobSummary | None:
    kind = quoted(JobKind.REHEARSAL.workflow_type)
    query = f'WorkflowType = {kind} AND ExecutionStatus != "Running" AND {which}'
    with suppress(RPCError):
        async for execution in connection.client.list_workflows(
            query, limit=MOST_REMEMBERED, page_size=MOST_REMEMBERED, rpc_timeout=REMEMBERING_TIMEOUT
        ):
            summary = await JobSummary.of(execution)
            if summary.verdict is not None:
                return summary
    return None


async def remembered_jobs(connection: Connection, vcenter: str) -> list[JobSummary]:
    """Of every machine of a vCenter that has any: its last migration, and its last rehearsal that goes on or
    has ended with a verdict or without. The newest first."""
    types = ", ".join(quoted(kind.workflow_type) for kind in JobKind)
    query = f"WorkflowType IN ({types}) AND {attributes.VCENTER.name} = {quoted(_as_recorded(vcenter))}"
    found: dict[str, JobSummary] = {}
    with connection.errors():
        async for execution in connection.client.list_workflows(
            query, page_size=LIST_PAGE, rpc_timeout=connection.timeout
        ):
            if execution.id not in found:
                summary = await JobSummary.of(execution)
                if summary.kind is JobKind.MIGRATION or summary.verdict or not summary.status.is_final:
                    found[execution.id] = summary
    return list(found.values())


async def hosts_of(connection: Connection, job_id: str) -> tuple[str, ...]:
    """The hosts that runs of a job have worked on, as far as Temporal still knows, the latest first."""
    migration = JobKind.MIGRATION.workflow_type
    query = f"WorkflowType = {quoted(migration)} AND WorkflowId = {quoted(job_id)}"
    try:
        runs = [run async for run in connection.client.list_workflows(query, rpc_timeout=connection.timeout)]
    except RPCError as error:
        raise translate(error, connection.settings) from error
    hosts = (attribute(run.typed_search_attributes, attributes.TARGET_HOST) for run in runs)
    return tuple(dict.fromkeys(host for host in hosts if host))


def _as_recorded(vcenter: str) -> str:
    try:
        return normal_server(vcenter)
    except ValueError:
        return vcenter  # no migration has it


async def _newest_runs(connection: Connection, query: str) -> AsyncIterator[WorkflowExecution]:
    """The server lists the open runs and then the closed ones from the newest on; a retry is another run."""
    seen: set[str] = set()
    runs = connection.client.list_workflows(query, page_size=200, rpc_timeout=connection.timeout)
    async for execution in runs:
        if execution.id not in seen:
            seen.add(execution.id)
            yield execution


def _nearest(vm_name: str, known: Iterable[str]) -> str:
    names = {name for name in known if name}
    near = difflib.get_close_matches(vm_name, names, n=3)
    if near:
        return f"Did you mean {', '.join(near)}? `hyperctl list` shows all."
    return "`hyperctl list` shows all; `hyperctl convert --vm NAME` starts one."
