"""The client against a real Temporal server and the real workflow, with no host to do the work."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from hyperctl.client.errors import JobNotFound, ServerUnreachable
from hyperctl.client.sdk import Migration, MigrationClient
from hyperctl.worker.registry import WORKFLOWS
from hyperctl.worker.service import ensure_search_attributes
from hyperctl.workflows.attributes import ALL_ATTRIBUTES
from hyperctl.workflows.queues import WORKFLOW_QUEUE
from hyperctl.workflows.request import MigrationRequest, Priority, VCenter
from hyperctl.workflows.status import JobStatus

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(temporal: Path) -> AsyncIterator[Client]:
    """A server as the set-up starts it, and a worker that serves workflows only."""
    attributes = [word for key in ALL_ATTRIBUTES for word in ("--search-attribute", f"{key.name}=Keyword")]
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(temporal),
        data_converter=pydantic_data_converter,
        dev_server_log_level="error",
        dev_server_extra_args=attributes,
    ) as environment:
        await ensure_search_attributes(environment.client)
        async with Worker(environment.client, task_queue=WORKFLOW_QUEUE, workflows=WORKFLOWS):
            yield environment.client


def _request(vm_name: str) -> MigrationRequest:
    return MigrationRequest(vm_name=vm_name, vcenter=VCenter(server="vcenter.example.com"))


async def _until(migration: Migration, wanted: JobStatus) -> None:
    async with asyncio.timeout(20):
        while (await migration.status()).status is not wanted:
            await asyncio.sleep(0.1)


async def test_the_same_request_twice_is_one_migration(served: Client) -> None:
    client = MigrationClient(served)
    first = await client.start(_request("twice"))
    second = await client.start(_request("twice"))
    assert first.job_id == second.job_id
    status = await second.status()
    assert (status.vm_name, status.status) == ("twice", JobStatus.PENDING)


async def test_it_is_listed_paused_reprioritised_and_cancelled(served: Client) -> None:
    client = MigrationClient(served)
    migration = await client.start(_request("told"))
    await migration.set_priority("high")
    await migration.pause()
    await _until(migration, JobStatus.PAUSED)
    assert (await migration.status()).priority is Priority.HIGH
    await migration.resume()
    await _until(migration, JobStatus.PENDING)
    await migration.cancel(reason="not tonight")
    last = [status async for status in migration.watch()][-1]
    assert last.status is JobStatus.CANCELLED
    assert last.not_undone == ()
    async with asyncio.timeout(20):
        while migration.job_id not in {item.job_id for item in await client.list("cancelled")}:
            await asyncio.sleep(0.2)
    description = await served.get_workflow_handle(migration.job_id).describe()
    assert description.status is not None
    assert description.status.name == "CANCELED"


async def test_a_cancelled_migration_can_be_started_again(served: Client) -> None:
    client = MigrationClient(served)
    migration = await client.start(_request("again"))
    await migration.cancel()
    await _until(migration, JobStatus.CANCELLED)
    again = await client.start(_request("again"))
    await _until(again, JobStatus.PENDING)


async def test_an_unknown_job_is_said_to_be_unknown(served: Client) -> None:
    with pytest.raises(JobNotFound, match="job-nowhere"):
        await MigrationClient(served).get("job-nowhere")


async def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1 "):
        await MigrationClient.connect("127.0.0.1:1")
