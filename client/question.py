"""Asking a worker something that takes seconds and changes nothing, by a short workflow."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from pydantic import BaseModel
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import TimeoutError

from hyperctl.client.connection import Connection
from hyperctl.client.errors import NoWorker, QuestionFailed
from hyperctl.client.job import failures_of
from hyperctl.client.observe import read_notes
from hyperctl.client.pollers import PollerKind, live_pollers
from hyperctl.workflows.queues import WORKFLOW_QUEUE, Role, task_queue

LONGEST = timedelta(minutes=15)
"""Until an answer; a question that nobody waits for any more must not stay."""
LOOK_SECONDS = 1.0
PATIENCE_SECONDS = 5.0
"""Without anybody who could answer; one that has just been started is not known at once."""

ResultT = TypeVar("ResultT", bound=BaseModel)


async def ask(
    connection: Connection,
    workflow_type: str,
    argument: BaseModel,
    result_type: type[ResultT],
    *,
    workflow_id: str,
    summary: str,
    host: str | None,
    on_wait: Callable[[str], None],
) -> ResultT:
    """The workflow's result. Whoever is no longer there to hear it takes the question back.

    Raises `NoWorker` where no worker could answer, or `QuestionFailed`.
    """
    with connection.errors():
        handle = await connection.client.start_workflow(
            workflow_type,
            argument,
            id=workflow_id,
            task_queue=WORKFLOW_QUEUE,
            result_type=result_type,
            execution_timeout=LONGEST,
            static_summary=summary[:200],
            rpc_timeout=connection.timeout,
        )
        answer = asyncio.create_task(handle.result())
        try:
            await _wait(connection.client, handle, answer, host, on_wait)
            result: ResultT = answer.result()
            return result
        except WorkflowFailureError as error:
            if isinstance(error.cause, TimeoutError):
                raise NoWorker(
                    f"nobody has answered within {LONGEST.total_seconds() / 60:.0f} minutes",
                    "See whether the workers are well: hyperctl doctor",
                ) from error
            raise QuestionFailed(failures_of(error)) from error
        except NoWorker as error:
            await handle.terminate(error.message, rpc_timeout=connection.timeout)
            raise
        except asyncio.CancelledError:
            await handle.cancel(rpc_timeout=connection.timeout)
            raise
        finally:
            answer.cancel()


async def _wait(
    client: Client,
    handle: "WorkflowHandle[object, ResultT]",
    answer: "asyncio.Task[ResultT]",
    host: str | None,
    on_wait: Callable[[str], None],
) -> None:
    told: set[str] = set()
    last_seen = time.monotonic()
    while not (await asyncio.wait({answer}, timeout=LOOK_SECONDS))[0]:
        missing = await _missing_worker(client, host)
        if missing is None:
            last_seen = time.monotonic()
        elif time.monotonic() - last_seen > PATIENCE_SECONDS:
            raise missing
        for note in await read_notes(client, await handle.describe(), answered=True):
            if note not in told:
                told.add(note)
                on_wait(note)


async def _missing_worker(client: Client, host: str | None) -> NoWorker | None:
    for queue, kind, command in (
        (WORKFLOW_QUEUE, PollerKind.WORKFLOW, "hyperctl worker"),
        (task_queue(Role.SOURCE, host), PollerKind.ACTIVITY, f"hyperctl worker --role {Role.EXPORT}"),
    ):
        if not await live_pollers(client, queue, kind):
            where = f" on {host}" if host else ""
            return NoWorker(
                f"no worker{where} is there to look: nobody serves the queue {queue}",
                f"Start one{where}: {command}",
            )
    return None
