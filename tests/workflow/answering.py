"""Hosts that answer by heart, for what a workflow makes of answers that no real host gives to order."""

from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from temporalio import activity
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from hyperctl.worker.failures import FailureInterceptor
from hyperctl.worker.registry import WORKFLOWS
from hyperctl.workflows.attributes import ALL_ATTRIBUTES
from hyperctl.workflows.contract import Activity
from hyperctl.workflows.queues import WORKFLOW_QUEUE, task_queue
from tests.moments import LONGEST_SECONDS

Answers = Mapping[Activity[Any, Any], Callable[[Any], BaseModel]]
BEAT = timedelta(milliseconds=200)


@asynccontextmanager
async def temporal_server(binary: Path) -> AsyncIterator[Client]:
    """A server that knows our search attributes."""
    attributes = [word for key in ALL_ATTRIBUTES for word in ("--search-attribute", f"{key.name}=Keyword")]
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(binary),
        data_converter=pydantic_data_converter,
        dev_server_log_level="error",
        dev_server_startup_timeout=timedelta(seconds=LONGEST_SECONDS),
        dev_server_extra_args=attributes,
    ) as environment:
        yield environment.client


@asynccontextmanager
async def serving(server: Client, host: str, answers: Answers) -> AsyncIterator[None]:
    """Workers for the workflows and, on a host's queues and the shared ones, for these activities."""
    queues: dict[str, list[Callable[..., Any]]] = {}
    for stub, answer in answers.items():
        for queue in (task_queue(stub.role), task_queue(stub.role, host)):
            queues.setdefault(queue, []).append(_activity(stub, answer))
    with ThreadPoolExecutor(16) as threads:
        async with AsyncExitStack() as workers:
            await workers.enter_async_context(Worker(server, task_queue=WORKFLOW_QUEUE, workflows=WORKFLOWS))
            for queue, functions in queues.items():
                await workers.enter_async_context(
                    Worker(
                        server,
                        task_queue=queue,
                        activities=functions,
                        activity_executor=threads,
                        interceptors=[FailureInterceptor()],
                        max_heartbeat_throttle_interval=BEAT,
                        default_heartbeat_throttle_interval=BEAT,
                    )
                )
            yield


def _activity(stub: Activity[Any, Any], answer: Callable[[Any], BaseModel]) -> Callable[..., Any]:
    def run(argument: Any) -> Any:
        return answer(argument)

    run.__annotations__ = {"argument": stub.input_type, "return": stub.result_type}
    return activity.defn(name=stub.name, no_thread_cancel_exception=True)(run)
