"""Reading a job's log from the host that wrote it, through the short `LogsWorkflow`."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowFailureError
from temporalio.exceptions import TimeoutError
from temporalio.service import RPCError, RPCStatusCode

from hyperctl.client.errors import ClientError, NoWorker
from hyperctl.client.observe import attribute, is_open
from hyperctl.client.pollers import PollerKind, live_pollers
from hyperctl.workflows import attributes
from hyperctl.workflows.contract import PLAN_SOURCE, ReadLogResult
from hyperctl.workflows.control import LogsRequest
from hyperctl.workflows.plan import SourcePlan
from hyperctl.workflows.queues import WORKFLOW_QUEUE, Role, task_queue

WAIT_SECONDS = 10.0
PAUSE_SECONDS = 2.0
UNANSWERED = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})
ANSWER_SECONDS = 20.0
"""What a worker may take beyond the wait before the read is given up."""


class NoAnswer(NoWorker):
    """A worker may be there, and has not answered in time."""


async def follow_log(
    client: Client,
    description: WorkflowExecutionDescription,
    *,
    tail: int | None,
    follow: bool,
    on_wait: Callable[[str], None],
) -> AsyncIterator[str]:
    """The log in pieces of whole lines. Raises `NoWorker`, `ClientError` or `RPCError`.

    Who follows a migration under way waits for a worker or server that is away; `on_wait` is told why.
    """
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
    offset = -tail if tail is not None else 0
    if not follow:
        await require_host(client, host, f"the log is on {host}, and no worker is there to read it")
    waiting = follow and is_open(description)
    while True:
        try:
            if tail == 0:
                offset, tail = (await _read(client, job_id, host, -1, 0.0)).next_offset, None
            read = await _read(client, job_id, host, offset, WAIT_SECONDS if waiting else 0.0)
        except NoAnswer as silent:
            if not waiting:
                raise
            on_wait(f"{silent.message}; waiting for it")
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        except RPCError as error:
            if not waiting or error.status not in UNANSWERED:
                raise
            on_wait("Temporal does not answer; waiting for it")
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        offset = read.next_offset
        if read.text:
            yield read.text
        elif not waiting:
            return
        if waiting and not read.text:
            with contextlib.suppress(RPCError):  # the next read says what is wrong
                waiting = is_open(await handle.describe())


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
        if isinstance(error.cause, TimeoutError):
            raise NoAnswer(
                f"the worker on {host} does not answer", f"Start it there: hyperctl worker (on {host})"
            ) from error
        raise NoWorker(
            f"the log of {job_id} could not be read from {host}: {error.cause or error}",
            f"See whether the worker on {host} is well: hyperctl doctor",
        ) from error
    return result


async def require_host(client: Client, host: str, without: str) -> None:
    """Raise `NoWorker`, with what that means, where no worker of this host is there."""
    queue = task_queue(Role.CONTROL, host)
    found = await live_pollers(client, queue, PollerKind.ACTIVITY)
    if not found or not await live_pollers(client, WORKFLOW_QUEUE, PollerKind.WORKFLOW):
        raise NoWorker(without, f"Start one on {host}: hyperctl worker.")


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
