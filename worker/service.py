"""One worker process: connect, serve its roles' queues, drain when told to stop."""

import asyncio
import logging
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from hyperctl.activities.settings import HostSettings
from hyperctl.worker.failures import FailureInterceptor
from hyperctl.worker.registry import WORKFLOWS, activities
from hyperctl.worker.settings import WorkerSettings
from hyperctl.worker.watch import watching
from hyperctl.workflows.attributes import ALL_ATTRIBUTES
from hyperctl.workflows.converter import data_converter
from hyperctl.workflows.queues import WORKFLOW_QUEUE, Role, task_queue

logger = logging.getLogger("hyperctl.worker")

CONNECT_PAUSE_SECONDS = 2.0
HEARTBEAT_THROTTLE = timedelta(seconds=1)
"""A cancel reaches an activity with its heartbeat; the SDK's own throttle of up to a minute is too slow."""


async def connect(settings: WorkerSettings) -> Client:
    """Connect to Temporal, however long it takes to be there."""
    while True:
        try:
            return await Client.connect(
                settings.temporal_address,
                namespace=settings.temporal_namespace,
                data_converter=data_converter,
            )
        except RuntimeError as error:
            logger.warning("Temporal at %s is not reachable yet: %s", settings.temporal_address, error)
            await asyncio.sleep(CONNECT_PAUSE_SECONDS)


async def ensure_search_attributes(client: Client) -> None:
    """Register the search attributes that the namespace lacks.

    Without them every migration would stand still at its first step, so a server that refuses ends the
    worker with the reason.
    """
    operator = client.operator_service
    listed = await operator.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
    known = set(listed.custom_attributes) | set(listed.system_attributes)
    missing = [key.name for key in ALL_ATTRIBUTES if key.name not in known]
    if not missing:
        return
    keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    try:
        await operator.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=client.namespace, search_attributes=dict.fromkeys(missing, keyword)
            )
        )
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise
    logger.info("registered search attributes: %s", ", ".join(missing))


def build_workers(
    client: Client, host: HostSettings, settings: WorkerSettings, roles: Sequence[Role]
) -> tuple[list[Worker], ThreadPoolExecutor]:
    """One Temporal worker a queue: the workflows', each role's shared one, each role's own of this host."""
    puts_back = Role.EXPORT in roles or Role.REHEARSE in roles
    shared = (*roles, *([Role.SOURCE] if puts_back else []))
    by_role = activities(host)
    queues = [(role, task_queue(role, host.host)) for role in (*shared, Role.CONTROL) if by_role[role]]
    queues += [(role, task_queue(role)) for role in shared if by_role[role]]
    threads = ThreadPoolExecutor(
        sum(settings.slots(role) for role, _ in queues), thread_name_prefix="activity"
    )
    workers = [Worker(client, task_queue=WORKFLOW_QUEUE, workflows=WORKFLOWS)]
    for role, queue in queues:
        workers.append(
            Worker(
                client,
                task_queue=queue,
                activities=by_role[role],
                activity_executor=threads,
                max_concurrent_activities=settings.slots(role),
                graceful_shutdown_timeout=timedelta(seconds=settings.drain_seconds),
                max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
                default_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
                interceptors=[FailureInterceptor()],
            )
        )
    return workers, threads


async def serve(host: HostSettings, settings: WorkerSettings, roles: Sequence[Role]) -> None:
    """Serve until SIGTERM or SIGINT, then drain: nothing new is taken, what runs stops at a safe point."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    connecting = asyncio.create_task(connect(settings))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([connecting, stopping], return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        connecting.cancel()
        return
    client = await connecting
    await ensure_search_attributes(client)
    workers, threads = build_workers(client, host, settings, roles)
    async with AsyncExitStack() as running:
        for worker in workers:
            await running.enter_async_context(worker)
        if Role.EXPORT in roles:
            await running.enter_async_context(watching(client, host, settings))
        logger.info(
            "worker ready: host %s, roles %s, Temporal %s (%s)",
            host.host,
            ",".join(roles),
            settings.temporal_address,
            settings.temporal_namespace,
        )
        await stop.wait()
        logger.info("draining, at most %.0f s", settings.drain_seconds)
        await asyncio.gather(*(worker.shutdown() for worker in workers))
    threads.shutdown()
    logger.info("worker stopped")
