"""Who polls a task queue, by Temporal's own record."""

from datetime import UTC, datetime, timedelta
from enum import Enum

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

POLL_PERIOD = timedelta(seconds=75)
"""A worker polls again after 60 s at the latest; the server remembers one for minutes after its death."""


class PollerKind(Enum):
    """A queue's name stands for two queues."""

    WORKFLOW = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
    ACTIVITY = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY


async def live_pollers(client: Client, queue: str, kind: PollerKind) -> tuple[str, ...]:
    """The identities of the workers that have polled the queue of late. Raises `RPCError`."""
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind.value
        ),
        timeout=timedelta(seconds=5),
    )
    oldest = datetime.now(UTC) - POLL_PERIOD
    return tuple(
        sorted(
            {poller.identity for poller in answer.pollers if poller.last_access_time.ToDatetime(UTC) > oldest}
        )
    )
