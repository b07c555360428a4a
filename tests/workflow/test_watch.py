"""A watched folder against a real Temporal server; how each migration ends is decided by the test."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio import workflow
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from hyperctl.activities.cleanup import ErrorRecord
from hyperctl.client.sdk import MigrationClient
from hyperctl.worker.dropped import find_parcels
from hyperctl.worker.settings import WorkerSettings
from hyperctl.worker.watch import Watcher
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.queues import WORKFLOW_QUEUE
from hyperctl.workflows.request import MigrationRequest
from hyperctl.workflows.status import MigrationResult
from tests.moments import LONGEST_SECONDS
from tests.unit import statuses
from tests.unit.archives import envelope

pytestmark = pytest.mark.asyncio(loop_scope="module")
REFUSED = Failure(code=ErrorCode.SOURCE_INVALID, message="it was cut off", hint="Fetch it again.")


@workflow.defn(name="MigrationWorkflow")
class _Told:
    """Ends as it is told to, as a migration would."""

    def __init__(self) -> None:
        self._end = ""

    @workflow.run
    async def run(self, request: MigrationRequest) -> MigrationResult:
        await workflow.wait_condition(lambda: bool(self._end))
        if self._end == "fail":
            raise ApplicationError(REFUSED.message, REFUSED, type=REFUSED.code, non_retryable=True)
        return statuses.result(job_id=workflow.info().workflow_id)

    @workflow.signal
    def end(self, how: str) -> None:
        self._end = how


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(client: Client) -> AsyncIterator[Client]:
    runner = UnsandboxedWorkflowRunner()
    async with Worker(client, task_queue=WORKFLOW_QUEUE, workflows=[_Told], workflow_runner=runner):
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "watched"
    folder.mkdir()
    (folder / "guest.ovf").write_bytes(envelope({"disk1.vmdk": 4}, 512))
    (folder / "disk1.vmdk").write_bytes(b"KDMV")
    return folder


def watcher(client: Client, folder: Path, *, stable: float = 0.0, deletes: bool = False) -> Watcher:
    settings = WorkerSettings(watch_dir=folder, file_stable_timeout=stable, cleanup_source=deletes)
    return Watcher(MigrationClient(client), "kvm-test", folder, settings)


async def end(client: Client, job_id: str, how: str) -> None:
    handle = client.get_workflow_handle(job_id)
    await handle.signal("end", how)
    async with asyncio.timeout(LONGEST_SECONDS):
        while (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
            await asyncio.sleep(0.05)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("deletes", [False, True])
async def test_what_is_migrated_is_put_away(served: Client, folder: Path, deletes: bool) -> None:
    watching = watcher(served, folder, deletes=deletes)
    (parcel,) = find_parcels(folder)
    await watching.look()
    await watching.look()
    request = await (await MigrationClient(served).get(parcel.job_id)).request()
    assert request.file is not None
    assert (request.file.path, request.host) == (str(folder / "guest.ovf"), "kvm-test")
    await end(served, parcel.job_id, "complete")
    await watcher(served, folder, deletes=deletes).look()  # another process, which remembers nothing
    assert names(folder) == [".processed"]
    assert names(folder / ".processed") == ([] if deletes else ["disk1.vmdk", "guest.ovf"])


async def test_another_file_of_the_same_name_is_another_job_and_both_are_kept(
    served: Client, folder: Path
) -> None:
    for content in (b"KDMV", b"KDMVx"):
        (folder / "guest.ovf").write_bytes(envelope({"disk1.vmdk": len(content)}, 512))
        (folder / "disk1.vmdk").write_bytes(content)
        (parcel,) = find_parcels(folder)
        await watcher(served, folder).look()
        await end(served, parcel.job_id, "complete")
        await watcher(served, folder).look()
    assert names(folder / ".processed") == sorted(["disk1.vmdk", "guest.ovf", parcel.job_id])
    assert (folder / ".processed" / parcel.job_id / "disk1.vmdk").read_bytes() == b"KDMVx"


async def test_a_failure_is_written_down_once_and_again_after_a_retry(served: Client, folder: Path) -> None:
    watching = watcher(served, folder)
    (parcel,) = find_parcels(folder)
    await watching.look()
    await end(served, parcel.job_id, "fail")
    await watching.look()
    file = folder / ".errors" / "guest.ovf.error.json"
    record = ErrorRecord.model_validate_json(file.read_bytes())
    assert (record.job_id, record.filename) == (parcel.job_id, "guest.ovf")
    assert (record.error, record.hint) == (REFUSED.message, REFUSED.hint)
    inode = file.stat().st_ino
    await watcher(served, folder).look()
    assert file.stat().st_ino == inode, "nothing new happened: the job is not started again either"
    await MigrationClient(served).retry(parcel.job_id)
    await end(served, parcel.job_id, "fail")
    await watching.look()
    assert ErrorRecord.model_validate_json(file.read_bytes()).timestamp > record.timestamp
    await MigrationClient(served).retry(parcel.job_id)
    await end(served, parcel.job_id, "complete")
    await watching.look()
    assert names(folder) == [".errors", ".processed"]
    assert names(folder / ".errors") == []


async def test_nothing_starts_while_something_is_written(served: Client, folder: Path) -> None:
    watching = watcher(served, folder, stable=0.3)
    for size in range(1, 4):
        (folder / "disk1.vmdk").write_bytes(b"K" * size)
        await watching.look()
        await asyncio.sleep(0.2)
    assert not [
        job async for job in served.list_workflows(f'WorkflowId = "{find_parcels(folder)[0].job_id}"')
    ]
    await asyncio.sleep(0.2)
    await watching.look()
    assert await MigrationClient(served).get(find_parcels(folder)[0].job_id)


async def test_a_move_that_was_cut_off_is_finished(served: Client, folder: Path) -> None:
    (folder / ".processed").mkdir()
    (folder / "disk1.vmdk").rename(folder / ".processed" / "disk1.vmdk")
    marker = folder / ".processed" / "job-1.moving.json"
    marker.write_text(json.dumps([str(marker.parent), "guest.ovf", "disk1.vmdk"]))
    await watcher(served, folder).look()
    assert names(folder) == [".processed"]
    assert names(folder / ".processed") == ["disk1.vmdk", "guest.ovf"]


async def test_a_move_that_cannot_be_finished_holds_nobody_up(served: Client, folder: Path) -> None:
    (folder / ".processed").mkdir()
    marker = folder / ".processed" / "job-1.moving.json"
    marker.write_text("torn")
    await watcher(served, folder).look()
    assert marker.exists()
    assert await MigrationClient(served).get(find_parcels(folder)[0].job_id)
