"""A migration's status from what Temporal itself records, with and without a worker that answers."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import ValidationError
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.common import SearchAttributeKey, TypedSearchAttributes

from hyperctl.client.pollers import PollerKind, live_pollers
from hyperctl.workflows import attributes
from hyperctl.workflows.contract import ALL_ACTIVITIES
from hyperctl.workflows.errors import Failure
from hyperctl.workflows.queues import WORKFLOW_QUEUE, Role
from hyperctl.workflows.rehearsal import RehearsalRequest, RehearsalResult, Rehearsed
from hyperctl.workflows.request import MigrationRequest, Priority
from hyperctl.workflows.status import (
    PHASES,
    JobKind,
    JobStatus,
    MigrationResult,
    MigrationStatus,
    Phase,
    PhaseRecord,
    PhaseState,
    Progress,
)

SLOT_PATIENCE = timedelta(seconds=5)
"""How long a step may wait before its queue is looked at."""
HEARTBEAT_PATIENCE = timedelta(seconds=15)
"""Steps beat every second; one that has been silent as long as this has probably lost its worker."""

_FINAL: Mapping[WorkflowExecutionStatus, JobStatus] = {
    WorkflowExecutionStatus.COMPLETED: JobStatus.COMPLETED,
    WorkflowExecutionStatus.FAILED: JobStatus.FAILED,
    WorkflowExecutionStatus.TIMED_OUT: JobStatus.FAILED,
    WorkflowExecutionStatus.TERMINATED: JobStatus.FAILED,
    WorkflowExecutionStatus.CANCELED: JobStatus.CANCELLED,
}

T = TypeVar("T")


def attribute(found: TypedSearchAttributes, key: SearchAttributeKey[str]) -> str:
    """A search attribute's value, empty where it is not set."""
    return found.get(key) or ""


def is_open(execution: WorkflowExecution) -> bool:
    return execution.status is WorkflowExecutionStatus.RUNNING


def job_status(execution: WorkflowExecution) -> JobStatus:
    """The state in one word: Temporal's own for how it ended, the workflow's for where it is."""
    said = _enum(JobStatus, attribute(execution.typed_search_attributes, attributes.STATUS))
    ended = _FINAL.get(execution.status) if execution.status is not None else None
    if ended is None:
        return said or JobStatus.PENDING
    if said is JobStatus.CANCELLED and ended is JobStatus.FAILED:
        return said  # a cancel by signal ends the workflow as failed
    return ended


def status_without_worker(
    execution: WorkflowExecution, request: MigrationRequest, result: MigrationResult | None
) -> MigrationStatus:
    """All that can be known when nobody answers the query: less, but never a guess."""
    status = _recorded(execution, JobKind.MIGRATION, request, has_result=result is not None)
    status.to_libvirt = request.to_libvirt
    if result is None:
        return status
    return status.model_copy(
        update={
            "vm_name": result.vm_name or status.vm_name,
            "host": result.host,
            "landed": result.landed,
            "verified": result.verified,
            "guest": result.guest,
            "steps": result.steps,
            "proof": result.proof,
            "outputs": result.disks,
            "output_dir": result.output_dir,
            "domain": result.domain,
        }
    )


def rehearsal_without_worker(
    execution: WorkflowExecution, request: RehearsalRequest, result: RehearsalResult | None
) -> MigrationStatus:
    """The same of a rehearsal."""
    status = _recorded(execution, JobKind.REHEARSAL, request, has_result=result is not None)
    if result is None:
        return status
    return status.model_copy(
        update={
            "host": result.host or status.host,
            "rehearsed": Rehearsed.model_validate(result.model_dump(include=set(Rehearsed.model_fields))),
            "guest": result.guest,
            "steps": result.steps,
            "proof": result.proof,
        }
    )


def _recorded(
    execution: WorkflowExecution,
    kind: JobKind,
    request: MigrationRequest | RehearsalRequest,
    *,
    has_result: bool,
) -> MigrationStatus:
    found = execution.typed_search_attributes
    state = job_status(execution)
    last = PHASES[kind][-1]
    phase = last if has_result else _enum(Phase, attribute(found, attributes.PHASE)) or Phase.PLAN
    return MigrationStatus(
        kind=kind,
        job_id=execution.id,
        vm_name=request.name,
        vcenter=request.vcenter.server if request.vcenter else "",
        source_file=request.file.path if request.file else "",
        status=state,
        phase=phase,
        priority=_enum(Priority, attribute(found, attributes.PRIORITY)) or request.priority,
        paused=state is JobStatus.PAUSED,
        host=attribute(found, attributes.TARGET_HOST),
        requested_by=request.requested_by,
        tags=request.tags,
        created_at=execution.start_time,
        updated_at=execution.close_time or datetime.now(UTC),
        completed_at=execution.close_time,
        phases=_records(kind, phase, state),
    )


def end_by_force(execution: WorkflowExecution, status: MigrationStatus) -> MigrationStatus:
    """Correct a status that the workflow had no time to finish: it was terminated or timed out."""
    if is_open(execution) or status.status.is_final:
        return status
    state = job_status(execution)
    return status.model_copy(
        update={
            "status": state,
            "completed_at": execution.close_time,
            "progress": None,
            "retry": None,
            "space_wait": None,
        }
    )


def end_with(status: MigrationStatus, failures: tuple[Failure, ...]) -> MigrationStatus:
    """The failures as Temporal recorded them, where the workflow could not say them itself."""
    if status.failures or not failures or status.status is JobStatus.COMPLETED:
        return status
    return status.model_copy(update={"failures": failures})


async def read_progress(client: Client, description: WorkflowExecutionDescription) -> Progress | None:
    """What the running activity last said, from its heartbeat; no worker is asked."""
    for activity in description.raw_description.pending_activities:
        if not activity.HasField("heartbeat_details"):
            continue
        try:
            details = await client.data_converter.decode(activity.heartbeat_details.payloads, [Progress])
        except ValidationError:
            continue  # an activity of another version, which says it in another way
        if details and isinstance(details[0], Progress):
            return details[0]
    return None


async def read_notes(
    client: Client, description: WorkflowExecutionDescription, *, answered: bool
) -> tuple[str, ...]:
    """Why nothing moves, in words, as far as Temporal can tell."""
    if not is_open(description):
        return ()
    notes: list[str] = []
    if not answered:
        notes.append(await _silence(client, description))
    for activity in description.raw_description.pending_activities:
        note = await _waiting(client, activity)
        if note:
            notes.append(note)
    return tuple(notes)


async def _silence(client: Client, description: WorkflowExecutionDescription) -> str:
    if not await live_pollers(client, WORKFLOW_QUEUE, PollerKind.WORKFLOW):
        return f"waiting for a worker on queue {WORKFLOW_QUEUE}; start one with: hyperctl worker"
    if description.raw_description.pending_workflow_task.attempt > 1:
        return "the worker cannot go on with this job's workflow; its log says why"
    return f"the worker on queue {WORKFLOW_QUEUE} does not answer; it may be busy or gone"


async def _waiting(client: Client, activity: PendingActivityInfo) -> str:
    now = datetime.now(UTC)
    step = activity.activity_type.name
    if activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED:
        heard = _time(activity.last_heartbeat_time) or _time(activity.last_started_time)
        if heard and now - heard > HEARTBEAT_PATIENCE:
            return f"no sign of life from the worker that runs {step}; the next one will take it over"
        return ""
    if activity.state != PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
        return ""
    queue = activity.activity_options.task_queue.name
    if not await live_pollers(client, queue, PollerKind.ACTIVITY):
        return f"waiting for a worker on queue {queue}; start one with: {_worker_command(step, queue)}"
    if activity.attempt > 1:
        return f"{step} was interrupted ({activity.last_failure.message}) and starts again"
    scheduled = _time(activity.scheduled_time)
    if scheduled and now - scheduled > SLOT_PATIENCE:
        return f"waiting for a free slot on queue {queue}"
    return ""


def _worker_command(step: str, queue: str) -> str:
    role = next((stub.role for stub in ALL_ACTIVITIES if stub.name == step), None)
    _, _, host = queue.partition("@")
    if role is Role.SOURCE:
        role = Role.EXPORT
    roles = f" --role {role}" if role and role is not Role.CONTROL else ""
    return f"hyperctl worker{roles}" + (f" (on {host})" if host else "")


def _records(kind: JobKind, phase: Phase, status: JobStatus) -> list[PhaseRecord]:
    phases = PHASES[kind]
    reached = phases.index(phase)
    here = {
        JobStatus.COMPLETED: PhaseState.DONE,
        JobStatus.FAILED: PhaseState.FAILED,
        JobStatus.CANCELLED: PhaseState.FAILED,
    }.get(status, PhaseState.RUNNING)
    states = [PhaseState.DONE] * reached + [here] + [PhaseState.WAITING] * (len(phases) - reached - 1)
    return [PhaseRecord(phase=name, state=state) for name, state in zip(phases, states, strict=True)]


def _time(stamp: Timestamp) -> datetime | None:
    return stamp.ToDatetime(UTC) if stamp.seconds else None


def _enum(kind: type[T], text: str) -> T | None:
    try:
        return kind(text)  # type: ignore[call-arg]
    except ValueError:
        return None
