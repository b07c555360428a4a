"""A copy on a real Temporal server that is told something while it runs, or finds no room."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from hyperctl.activities.attempt import LOG_FILE
from hyperctl.activities.export.bandwidth import FILE, BandwidthOrder
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.client.config import Temporal
from hyperctl.client.connection import Connection
from hyperctl.client.migration import Migration
from hyperctl.worker.service import build_workers, ensure_search_attributes
from hyperctl.worker.settings import WORK_ROLES, WorkerSettings
from hyperctl.workflows.migration import MigrationWorkflow
from hyperctl.workflows.queues import WORKFLOW_QUEUE, Role
from hyperctl.workflows.request import MigrationRequest, ProveMode, TransportChoice
from hyperctl.workflows.retry import RetryPolicy
from hyperctl.workflows.status import JobStatus, MigrationStatus
from tests.moments import LONGEST_SECONDS
from tests.replays import assert_replays
from tests.simulator import VCenterSimulator
from tests.workflow.conftest import temporal_binary

from .conftest import MIB, sha256
from .filesystems import fill, mounted

pytestmark = pytest.mark.asyncio(loop_scope="module")

VM = "web-server-01"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(temporal_binary()),
        data_converter=pydantic_data_converter,
        dev_server_log_level="error",
        dev_server_startup_timeout=timedelta(seconds=LONGEST_SECONDS),
    ) as environment:
        await ensure_search_attributes(environment.client)
        yield environment.client


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with mounted("tmpfs", tmp_path, 512) as place:
        yield place


@asynccontextmanager
async def worker(
    client: Client, settings: HostSettings, roles: Sequence[Role] = WORK_ROLES
) -> AsyncIterator[None]:
    # A client of its own, as a process of its own would have.
    own = await Client.connect(
        client.service_client.config.target_host, data_converter=pydantic_data_converter
    )
    workers, threads = build_workers(own, settings, WorkerSettings(drain_seconds=1), roles)
    async with AsyncExitStack() as running:
        for one in workers:
            await running.enter_async_context(one)
        yield
    threads.shutdown()


class Job:
    """One migration, by the client that users have."""

    def __init__(self, client: Client, settings: HostSettings, request: MigrationRequest) -> None:
        self.id = f"job-{uuid.uuid4().hex[:10]}"
        self.staging = Staging(settings.output_dir, self.id)
        self.handle = client.get_workflow_handle(self.id)
        self._client = client
        self._settings = settings
        self._request = request

    async def start(self) -> None:
        await self._client.start_workflow(
            MigrationWorkflow.run, self._request, id=self.id, task_queue=WORKFLOW_QUEUE
        )
        self.migration = Migration(Connection(self._client, Temporal()), self.id)

    async def until(
        self, true: Callable[[MigrationStatus], bool], what: str, seconds: float = LONGEST_SECONDS
    ) -> MigrationStatus:
        status: MigrationStatus | None = None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    status = await self.migration.status()
                    if true(status):
                        return status
                    assert not status.status.is_final, status.failures
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pytest.fail(f"{what} did not come: {status}")

    def log(self) -> str:
        file = self._settings.log_dir / self.id / LOG_FILE
        return file.read_text() if file.exists() else ""

    async def until_logged(self, text: str, times: int = 1) -> None:
        async with asyncio.timeout(LONGEST_SECONDS):
            while self.log().count(text) < times:
                await asyncio.sleep(0.1)

    async def cancel(self) -> None:
        await self.migration.cancel(discard=True)
        await self.until(lambda status: status.status is JobStatus.CANCELLED, "the cancel")
        await assert_replays(self.handle)  # whatever happened to it


def is_copying(status: MigrationStatus) -> bool:
    progress = status.progress
    return bool(progress and progress.overall and progress.overall.done_bytes > 0)


def has_landed(status: MigrationStatus) -> bool:
    return bool(status.landed)


def request(sim: VCenterSimulator, **changes: object) -> MigrationRequest:
    return sim.request(VM).model_copy(update={"prove": ProveMode.NONE, **changes})


async def test_a_running_copy_obeys_a_new_bandwidth_and_keeps_it_over_restarts(
    client: Client, sim: VCenterSimulator, settings: HostSettings
) -> None:
    job = Job(client, settings, request(sim, bandwidth_bytes_per_second=300_000))
    async with worker(client, settings):
        await job.start()
        status = await job.until(is_copying, "the copy")
        assert status.bandwidth_bytes_per_second == 300_000
        await job.until_logged("bandwidth: at most 293.0 KiB/s")

        await job.migration.set_bandwidth(200_000)
        await job.migration.set_bandwidth(100_000)
        await job.until_logged("bandwidth from now on: at most 97.7 KiB/s")
        await job.until(lambda status: status.bandwidth_bytes_per_second == 100_000, "the newest bandwidth")
        order = BandwidthOrder.model_validate_json((job.staging.folder / FILE).read_bytes())
        assert (order.revision, order.bytes_per_second) == (2, 100_000)

        await job.handle.signal("set_bandwidth", 5)  # too little to be meant
        await job.handle.signal("set_bandwidth", "fast")
        await job.until(lambda status: status.bandwidth_bytes_per_second == 100_000, "the same bandwidth")

    # The worker is gone; the next one begins with the input of old, and finds the newer order.
    async with worker(client, settings):
        await job.until_logged("bandwidth from now on: at most 97.7 KiB/s", times=2)

        # A copy that starts anew after a pause is given the cap as it is by then.
        await job.migration.pause()
        await job.until(lambda status: status.paused and status.progress is None, "the pause")
        await job.migration.set_bandwidth(150_000)
        await job.migration.resume()
        await job.until_logged("bandwidth: at most 146.5 KiB/s")

        await job.migration.set_bandwidth(None)
        status = await job.until(has_landed, "the end of the copy")
        assert status.bandwidth_bytes_per_second is None
        await job.cancel()


async def test_an_order_of_another_run_is_none(
    client: Client, sim: VCenterSimulator, settings: HostSettings
) -> None:
    job = Job(client, settings, request(sim))
    job.staging.create()
    stale = BandwidthOrder(run_id="of yesterday", revision=9, bytes_per_second=1024)
    (job.staging.folder / FILE).write_text(stale.model_dump_json())
    async with worker(client, settings):
        await job.start()
        await job.until(has_landed, "the end of the copy")
        assert "bandwidth from now on" not in job.log()
        await job.cancel()


@pytest.mark.parametrize("way_out", ["resume", "retry_now"])
async def test_a_host_without_room_pauses_the_job_until_there_is_some(
    client: Client, sim: VCenterSimulator, settings: HostSettings, small: Path, way_out: str
) -> None:
    settings = settings.model_copy(
        update={
            "output_dir": str(small / "output"),
            "space_reserve_bytes": 2 * MIB,
            "space_patience_seconds": 1.0,
        }
    )
    job = Job(client, settings, request(sim, bandwidth_bytes_per_second=750_000))
    async with worker(client, settings):
        await job.start()
        await job.until(is_copying, "the copy")
        filler = small / "filler"
        fill(filler)
        status = await job.until(lambda status: status.status is JobStatus.PAUSED, "the pause")
        assert status.space_wait is not None
        assert str(job.staging.folder) in status.paused_reason
        assert "are missing" in status.paused_reason
        assert status.space_wait.next_attempt_at > status.updated_at
        assert sim.active_leases() == [], "it does not sit on the source meanwhile"
        description = await job.handle.describe()
        assert [*description.search_attributes["Status"]] == ["paused"]

        await getattr(job.migration, way_out)()  # too early: it is paused again, and has not counted it
        again = await job.until(
            lambda status: status.space_wait is not None and status.space_wait.tries == 1, "the second pause"
        )
        assert again.retry_count == 0
        assert again.space_wait is not None
        assert again.space_wait.since == status.space_wait.since

        filler.unlink()
        await job.migration.set_bandwidth(None)
        await getattr(job.migration, way_out)()
        status = await job.until(has_landed, "the end of the copy")
        assert (status.retry_count, status.paused, status.paused_reason) == (0, False, "")
        verified = await job.until(lambda status: bool(status.verified), "the verification")
        assert [disk.is_whole for disk in verified.verified] == [True, True]
        await job.cancel()


async def test_a_job_that_waits_for_room_can_be_cancelled(
    client: Client, sim: VCenterSimulator, settings: HostSettings, small: Path
) -> None:
    settings = settings.model_copy(
        update={
            "output_dir": str(small / "output"),
            "space_reserve_bytes": 2 * MIB,
            "space_patience_seconds": 0.5,
        }
    )
    job = Job(client, settings, request(sim, bandwidth_bytes_per_second=750_000))
    async with worker(client, settings):
        await job.start()
        await job.until(is_copying, "the copy")
        fill(small / "filler")
        await job.until(lambda status: status.space_wait is not None, "the pause")
        await job.cancel()
        assert not job.staging.folder.exists()


@pytest.mark.parametrize("transport", [TransportChoice.NFC, TransportChoice.DATASTORE])
async def test_damage_between_copy_and_verification_is_repaired_by_the_retry(
    client: Client, sim: VCenterSimulator, settings: HostSettings, transport: TransportChoice
) -> None:
    policy = RetryPolicy(retry_delay_seconds=1)
    job = Job(client, settings, request(sim, retry_policy=policy, transport=transport))
    async with worker(client, settings, (Role.EXPORT, Role.IMPORT)):
        await job.start()
        landed = (await job.until(has_landed, "the end of the copy")).landed
        with job.staging.image(1).open("r+b") as image:  # in a hole
            image.seek(17 * MIB + 3)
            image.write(b"!")
            image.seek(24 * MIB)  # in the last block, which is short
            image.write(b"!")
        async with worker(client, settings, (Role.VERIFY, Role.CONVERT)):
            status = await job.until(lambda status: bool(status.verified), "the verification")
            assert status.retry_count == 1
            assert [disk.root_digest for disk in status.verified] == [disk.root_digest for disk in landed]
            assert status.landed[1] == landed[1]
            again = status.landed[0].received_bytes - landed[0].received_bytes
            if transport is TransportChoice.DATASTORE:
                assert again == 4 * MIB + 199 * 1024, "nothing but the two blocks"
            else:
                assert again == landed[0].received_bytes, "a stream comes whole"
            assert sha256(job.staging.image(1)) == sha256(sim.raw_disk(VM, 1))
            await job.cancel()
