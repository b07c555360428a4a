"""Reading a job's log from the host that wrote it, through the short `LogsWorkflow`."""

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowFailureError

from hyperctl.client.errors import ClientError, NoWorker
from hyperctl.client.observe import attribute, is_open
from hyperctl.client.pollers import PollerKind, live_pollers
from hyperctl.workflows import attributes
from hyperctl.workflows.contract import PLAN_SOURCE, ReadLogResult
from hyperctl.workflows.control import LogsRequest
from hyperctl.workflows.plan import SourcePlan
from hyperctl.workflows.queues import WORKFLOW_QUEUE, Role, task_queue

WAIT_SECONDS = 10.0
ANSWER_SECONDS = 20.0
"""What a worker may take beyond the wait before the read is given up."""


async def follow_log(
    client: Client, description: WorkflowExecutionDescription, *, tail: int | None, follow: bool
) -> AsyncIterator[str]:
    """The log in pieces of whole lines. Raises `NoWorker`, `ClientError` or `RPCError`."""
    job_id = description.id
    handle = client.get_workflow_handle(job_id)
    host = attribute(description.typed_search_attributes, attributes.TARGET_HOST) or await _planned_host(
        client, job_id
    )
    if not host:
        raise ClientError(
            f"no host has worked on {job_id} yet, so there is no log",
            "`hyperctl status` says what it waits for.",
        )
    await _require_workers(client, host)
    offset = -tail if tail else 0
    waiting = follow and is_open(description)
    if tail == 0:
        offset = await _end(client, job_id, host)
    while True:
        read = await _read(client, job_id, host, offset, WAIT_SECONDS if waiting else 0.0)
        offset = read.next_offset
        if read.text:
            yield read.text
        elif not waiting:
            return
        if waiting and not read.text:
            waiting = is_open(await handle.describe())


async def _end(client: Client, job_id: str, host: str) -> int:
    return (await _read(client, job_id, host, -1, 0.0)).next_offset


async def _read(client: Client, job_id: str, host: str, offset: int, wait_seconds: float) -> ReadLogResult:
    try:
        result: ReadLogResult = await client.execute_workflow(
            "LogsWorkflow",
            LogsRequest(job_id=job_id, host=host, offset=offset, wait_seconds=wait_seconds),
            id=f"logs-{job_id}-{uuid.uuid4().hex[:12]}",
            task_queue=WORKFLOW_QUEUE,
            result_type=ReadLogResult,
            execution_timeout=timedelta(seconds=wait_seconds + ANSWER_SECONDS),
        )
    except WorkflowFailureError as error:
        raise NoWorker(
            f"the log of {job_id} could not be read from {host}: {error.cause or error}",
            f"See whether the worker on {host} is well: hyperctl doctor",
        ) from error
    return result


async def _require_workers(client: Client, host: str) -> None:
    queue = task_queue(Role.CONTROL, host)
    found = await live_pollers(client, queue, PollerKind.ACTIVITY)
    if not found or not await live_pollers(client, WORKFLOW_QUEUE, PollerKind.WORKFLOW):
        raise NoWorker(
            f"the log is on {host}, and no worker is there to read it",
            f"Start one on {host}: hyperctl worker. Its files are in the worker's work folder, logs/.",
        )


async def _planned_host(client: Client, job_id: str) -> str:
    """The host that looked at the source, for a job that never came as far as having a host of its own."""
    scheduled: set[int] = set()
    host = ""
    async for event in client.get_workflow_handle(job_id).fetch_history_events():
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            if event.activity_task_scheduled_event_attributes.activity_type.name == PLAN_SOURCE.name:
                scheduled.add(event.event_id)
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            done = event.activity_task_completed_event_attributes
            if done.scheduled_event_id in scheduled:
                (plan,) = await client.data_converter.decode(done.result.payloads, [SourcePlan])
                host = plan.host
    return host
