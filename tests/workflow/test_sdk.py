"""The client against a real Temporal server and the real workflow, with no host to do the work."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from hyperctl.client.errors import JobAmbiguous, JobNotFound, ServerUnreachable
from hyperctl.client.sdk import Migration, MigrationClient
from hyperctl.worker.registry import WORKFLOWS
from hyperctl.worker.service import ensure_search_attributes
from hyperctl.workflows.converter import data_converter
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.queues import WORKFLOW_QUEUE
from hyperctl.workflows.request import MigrationRequest, Priority, VCenter
from hyperctl.workflows.status import JobStatus
from tests.moments import LONGEST_SECONDS

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(server: Client) -> AsyncIterator[Client]:
    """A server as the set-up starts it, and a worker that serves workflows only."""
    await ensure_search_attributes(server)
    async with Worker(server, task_queue=WORKFLOW_QUEUE, workflows=WORKFLOWS):
        yield server


def _request(vm_name: str) -> MigrationRequest:
    return MigrationRequest(vm_name=vm_name, vcenter=VCenter(server="vcenter.example.com"))


async def _until(migration: Migration, wanted: JobStatus) -> None:
    async with asyncio.timeout(LONGEST_SECONDS):
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
    async with asyncio.timeout(LONGEST_SECONDS):
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


@pytest.mark.parametrize("payload", [True, {"discard": "maybe"}, [1], "now", {"hosts": 3, "reason": "why"}])
async def test_a_cancel_that_cannot_be_read_is_a_cancel_all_the_same(served: Client, payload: object) -> None:
    migration = await MigrationClient(served).start(_request(f"odd-{payload}"))
    await served.get_workflow_handle(migration.job_id).signal("cancel", payload)
    await _until(migration, JobStatus.CANCELLED)


async def test_what_is_wrong_with_a_request_is_told_by_code_and_without_what_was_refused(
    served: Client,
) -> None:
    config = served.config()
    config["data_converter"] = data_converter
    client = Client(**config)
    document = {
        "vm_name": "",
        "vcenter": {"server": "https://root:hunter2@vc", "password": "hunter2"},
        "output_dir": "hunter2",
        "colour": "red",
    }
    async with Worker(client, task_queue="strict", workflows=WORKFLOWS):
        handle = await client.start_workflow(
            "MigrationWorkflow", document, id="job-wrong", task_queue="strict"
        )
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
    cause = failed.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == ErrorCode.INVALID_REQUEST
    failures = [Failure.model_validate(detail) for detail in cause.details]
    assert {failure.message.partition(":")[0] for failure in failures} == {
        "vm_name",
        "vcenter.server",
        "vcenter.password",
        "output_dir",
        "colour",
    }
    assert all(failure.hint for failure in failures)
    history = (await handle.fetch_history()).to_json()
    closing = history[history.index("workflowExecutionFailedEventAttributes") :]
    assert "hunter2" not in closing
    assert "pydantic" not in closing
    status = await (await MigrationClient(served).get("job-wrong")).status()
    assert status.failures == tuple(failures)


async def test_of_several_jobs_of_a_vm_the_one_under_way_is_meant(served: Client) -> None:
    client = MigrationClient(served)
    request = _request("meant")
    for number in range(2):
        ended = await client.start(request, job_id=f"job-meant-{number}")
        await ended.cancel()
        await _until(ended, JobStatus.CANCELLED)
    going = await client.start(request, job_id="job-meant-going")
    async with asyncio.timeout(LONGEST_SECONDS):
        while len([job for job in await client.list() if job.vm_name == "meant"]) < 3:
            await asyncio.sleep(0.2)
    assert (await client.find_by_vm("meant")).job_id == going.job_id
    await going.cancel()
    await _until(going, JobStatus.CANCELLED)
    async with asyncio.timeout(LONGEST_SECONDS):
        while [job for job in await client.list() if job.vm_name == "meant" and not job.status.is_final]:
            await asyncio.sleep(0.2)
    with pytest.raises(JobAmbiguous):
        await client.find_by_vm("meant")
