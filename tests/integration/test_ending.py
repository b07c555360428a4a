"""How migrations end: the real workflow, server and workers, and the copy of a simulated vCenter's machine.

Nothing in these machines could be converted, so a test puts the overlays and the record there that the
conversion would have left; whatever comes after takes them as its own.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowFailureError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.chain import BaseDisk
from hyperctl.activities.convert.overlay import fresh_overlays
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.client.errors import JobConflict
from hyperctl.client.sdk import Migration, MigrationClient
from hyperctl.worker.failures import FailureInterceptor
from hyperctl.worker.registry import WORKFLOWS, activities
from hyperctl.worker.service import ensure_search_attributes
from hyperctl.workflows.attributes import ALL_ATTRIBUTES
from hyperctl.workflows.contract import (
    CONVERT_GUEST,
    EXPORT_DISKS,
    REMOVE_DOMAIN,
    ConvertResult,
    ExportResult,
)
from hyperctl.workflows.control import DiscardRequest
from hyperctl.workflows.converter import data_converter
from hyperctl.workflows.errors import ErrorCode
from hyperctl.workflows.leftover import LeftoverKind
from hyperctl.workflows.queues import WORKFLOW_QUEUE, Role, task_queue
from hyperctl.workflows.request import MigrationRequest
from hyperctl.workflows.status import JobStatus, MigrationStatus, Phase
from tests.moments import LONGEST_SECONDS
from tests.simulator import VCenterSimulator
from tests.unit.machines import guest
from tests.workflow.conftest import temporal_binary

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = "kvm-test"
VM = "web-server-01"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Client]:
    attributes = [word for key in ALL_ATTRIBUTES for word in ("--search-attribute", f"{key.name}=Keyword")]
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(temporal_binary()),
        data_converter=data_converter,
        dev_server_log_level="error",
        dev_server_startup_timeout=timedelta(seconds=LONGEST_SECONDS),
        dev_server_extra_args=attributes,
    ) as environment:
        await ensure_search_attributes(environment.client)
        async with Worker(environment.client, task_queue=WORKFLOW_QUEUE, workflows=WORKFLOWS):
            yield environment.client


class Host:
    """A target host whose workers come and go by role, as machines under work do."""

    def __init__(self, client: Client, settings: HostSettings) -> None:
        self._client = client
        self._settings = settings
        self._threads = ThreadPoolExecutor(32)
        self._running: dict[Role, AsyncExitStack] = {}
        self.output_dir = Path(settings.output_dir)

    async def start(self, *roles: Role) -> None:
        for role in roles:
            stack = self._running.setdefault(role, AsyncExitStack())
            for queue in {task_queue(role, HOST), task_queue(role)}:
                worker = Worker(
                    self._client,
                    task_queue=queue,
                    activities=activities(self._settings)[role],
                    activity_executor=self._threads,
                    max_concurrent_activities=8,
                    graceful_shutdown_timeout=timedelta(seconds=5),
                    max_heartbeat_throttle_interval=timedelta(seconds=1),
                    interceptors=[FailureInterceptor()],
                )
                await stack.enter_async_context(worker)

    async def stop(self, *roles: Role) -> None:
        for role in roles:
            if role in self._running:
                await self._running.pop(role).aclose()

    async def close(self) -> None:
        await self.stop(*self._running)

    def staging(self, migration: Migration, output_dir: Path | None = None) -> Staging:
        return Staging(output_dir or self.output_dir, migration.job_id)

    def pretend_converted(self, migration: Migration) -> None:
        """Leave what a conversion would have left."""
        staging = self.staging(migration)
        exported = staging.finished(EXPORT_DISKS.name, ExportResult)
        assert exported is not None
        running = Attempt(Phase.CONVERT, logging.getLogger("test"))
        bases = tuple(map(BaseDisk.landed, exported.disks))
        overlays = fresh_overlays(bases, staging, running)
        result = ConvertResult(disks=overlays, guest=guest(), steps=(), duration_seconds=1)
        staging.finish(CONVERT_GUEST.name, result)

    @property
    def published(self) -> list[Path]:
        return [path for path in self.output_dir.glob(f"*/{VM}*") if ".jobs" not in path.parts]


@pytest_asyncio.fixture(loop_scope="module")
async def host(server: Client, settings: HostSettings) -> AsyncIterator[Host]:
    found = Host(server, settings.model_copy(update={"libvirt_uri": "test:///default"}))
    await found.start(Role.EXPORT, Role.VERIFY, Role.IMPORT, Role.CONTROL)
    yield found
    await found.close()


def _request(sim: VCenterSimulator, **changes: Any) -> MigrationRequest:
    document = {"vm_name": VM, "vcenter": sim.vcenter(), "prove": "none", "host": HOST, **changes}
    return MigrationRequest.model_validate(document)


async def _until(migration: Migration, wanted: Any) -> MigrationStatus:
    async with asyncio.timeout(LONGEST_SECONDS):
        while True:
            status = await migration.status()
            if wanted(status):
                return status
            assert not status.status.is_final, status.failures
            await asyncio.sleep(0.1)


async def _until_waits_for(migration: Migration, name: str) -> None:
    """Until the activity is scheduled, and its worker is not there."""
    async with asyncio.timeout(LONGEST_SECONDS):
        while True:
            pending = (await migration.describe()).raw_description.pending_activities
            if name in {one.activity_type.name for one in pending}:
                return
            await asyncio.sleep(0.1)


def _ended(status: MigrationStatus) -> bool:
    return status.status.is_final


async def _copied(client: MigrationClient, sim: VCenterSimulator, job_id: str, **changes: Any) -> Migration:
    """A migration that waits for somebody to convert what was copied."""
    migration = await client.start(_request(sim, **changes), job_id=job_id)
    await _until(migration, lambda status: status.phase is Phase.CONVERT)
    return migration


async def _kept(client: MigrationClient, host: Host, sim: VCenterSimulator, job_id: str) -> Migration:
    """A migration that was cancelled with its copy kept."""
    migration = await _copied(client, sim, job_id)
    await migration.cancel()
    await host.start(Role.CONVERT)
    await _until(migration, _ended)
    await host.stop(Role.CONVERT)
    return migration


async def _published(client: MigrationClient, host: Host, sim: VCenterSimulator, job_id: str) -> Migration:
    """A migration whose images are in the output folder, and which waits for somebody to import them."""
    migration = await _copied(client, sim, job_id, to_libvirt=True)
    host.pretend_converted(migration)
    await host.stop(Role.IMPORT)
    await host.start(Role.CONVERT)
    await _until(migration, lambda status: bool(status.outputs))
    return migration


async def test_a_discard_after_the_commit_takes_back_what_was_published(
    server: Client, host: Host, sim: VCenterSimulator
) -> None:
    client = MigrationClient(server)
    migration = await _published(client, host, sim, "job-published-1")
    (images,) = host.published
    (images / "notes.txt").write_text("somebody else's")
    await migration.cancel(discard=True)
    await _until_waits_for(migration, REMOVE_DOMAIN.name)
    await host.start(Role.IMPORT)
    status = await _until(migration, _ended)
    assert (status.status, status.not_undone) == (JobStatus.CANCELLED, ())
    (answer,) = status.leftovers
    assert {one.kind: one.path for one in answer.removed} == {
        LeftoverKind.IMAGES: str(images),
        LeftoverKind.COPY: str(host.staging(migration).folder),
    }
    assert all(one.size_bytes > 0 for one in answer.removed)
    assert answer.left == ()
    assert not host.staging(migration).folder.exists()
    assert [path.name for path in images.iterdir()] == ["notes.txt"], "only the job's own goes"


async def test_a_cancel_after_the_commit_keeps_what_was_published_and_a_retry_goes_on(
    server: Client, host: Host, sim: VCenterSimulator
) -> None:
    client = MigrationClient(server)
    migration = await _published(client, host, sim, "job-published-2")
    (images,) = host.published
    await migration.cancel()
    await _until_waits_for(migration, REMOVE_DOMAIN.name)
    await host.start(Role.IMPORT)
    status = await _until(migration, _ended)
    (answer,) = status.leftovers
    assert answer.removed == ()
    assert {one.kind for one in answer.left} == {LeftoverKind.IMAGES, LeftoverKind.COPY}
    leases = len(sim.leases(VM))
    again = await client.retry(migration.job_id)
    status = await _until(again, _ended)
    assert (status.status, status.failures) == (JobStatus.COMPLETED, ())
    assert host.published == [images]
    assert len(sim.leases(VM)) == leases, "nothing is copied again"


async def test_a_discard_in_the_plan_of_a_second_run_deletes_the_copy_of_the_first(
    server: Client, host: Host, sim: VCenterSimulator
) -> None:
    client = MigrationClient(server)
    migration = await _kept(client, host, sim, "job-second-run")
    folder = host.staging(migration).folder
    assert folder.is_dir()
    await host.stop(Role.EXPORT)
    again = await client.start(_request(sim, host=None), job_id=migration.job_id)
    await _until(again, lambda status: status.phase is Phase.PLAN)
    await again.cancel(discard=True)
    status = await _until(again, _ended)
    assert [one.path for answer in status.leftovers for one in answer.removed] == [str(folder)]
    assert not folder.exists()


async def test_a_foreign_clients_run_that_knows_no_host_claims_nothing(
    server: Client, host: Host, sim: VCenterSimulator
) -> None:
    await host.stop(Role.EXPORT)
    document = _request(sim, host=None).model_dump(mode="json", exclude_unset=True)
    handle = await server.start_workflow(
        "MigrationWorkflow", document, id="job-foreign", task_queue=WORKFLOW_QUEUE
    )
    await handle.signal("cancel", {"discard": True})
    status = await _until(await MigrationClient(server).get("job-foreign"), _ended)
    assert (status.status, status.leftovers) == (JobStatus.CANCELLED, ())


async def test_a_kept_copy_is_deleted_after_the_end_and_never_before(
    server: Client, host: Host, sim: VCenterSimulator
) -> None:
    client = MigrationClient(server)
    migration = await _copied(client, sim, "job-kept")
    with pytest.raises(JobConflict, match="under way"):
        await migration.discard()
    with pytest.raises(WorkflowFailureError) as refused:
        await server.execute_workflow(
            "DiscardWorkflow",
            DiscardRequest(job_id=migration.job_id, host=HOST),
            id="discard-by-hand",
            task_queue=WORKFLOW_QUEUE,
        )
    assert getattr(refused.value.cause, "type", "") == ErrorCode.JOB_RUNNING
    folder = host.staging(migration).folder
    assert folder.is_dir()
    await migration.cancel()
    await host.start(Role.CONVERT)
    await _until(migration, _ended)
    (seen,) = await migration.discard(look_only=True)
    assert [one.path for one in seen.left] == [str(folder)]
    assert folder.is_dir()
    (done,) = await migration.discard()
    assert (done.removed, done.left) == (seen.left, ())
    assert not folder.exists()
    assert (await migration.discard())[0].removed == (), "a second time there is nothing"


async def test_images_of_a_completed_migration_go_only_when_they_are_named(
    server: Client, host: Host, sim: VCenterSimulator
) -> None:
    client = MigrationClient(server)
    migration = await _copied(client, sim, "job-completed")
    host.pretend_converted(migration)
    await host.start(Role.CONVERT)
    status = await _until(migration, _ended)
    assert status.status is JobStatus.COMPLETED
    (images,) = host.published
    assert (await migration.discard())[0].removed == ()
    assert images.is_dir()
    (done,) = await migration.discard(images=True)
    assert [(one.kind, one.path) for one in done.removed] == [(LeftoverKind.IMAGES, str(images))]
    assert not images.exists()


async def test_a_changed_output_folder_goes_on_from_the_copy_in_the_earlier_one(
    server: Client, host: Host, sim: VCenterSimulator, tmp_path: Path
) -> None:
    client = MigrationClient(server)
    migration = await _kept(client, host, sim, "job-moved")
    earlier, elsewhere = host.staging(migration).folder, tmp_path / "elsewhere"
    leases = len(sim.leases(VM))
    again = await client.start(_request(sim, output_dir=str(elsewhere)), job_id=migration.job_id)
    status = await _until(again, lambda found: found.phase is Phase.CONVERT)
    assert status.plan is not None
    assert any(str(earlier) in text for text in status.plan.warnings)
    assert status.plan.staged_bytes > 0
    assert not earlier.exists()
    assert len(sim.leases(VM)) == leases, "nothing is copied again"
    await again.cancel(discard=True)
    await host.start(Role.CONVERT)
    status = await _until(again, _ended)
    moved = host.staging(migration, elsewhere).folder
    assert [one.path for answer in status.leftovers for one in answer.removed] == [str(moved)]
    assert not moved.exists()


async def test_a_discard_reaches_a_copy_that_was_left_below_another_output_folder(
    server: Client, host: Host, sim: VCenterSimulator, tmp_path: Path
) -> None:
    client = MigrationClient(server)
    elsewhere = tmp_path / "elsewhere"
    migration = await _copied(client, sim, "job-two-places", output_dir=str(elsewhere))
    await migration.cancel()
    await host.start(Role.CONVERT)
    await _until(migration, _ended)
    await host.stop(Role.CONVERT, Role.EXPORT)
    again = await client.start(_request(sim), job_id=migration.job_id)
    await again.cancel(discard=True)
    await _until(again, _ended)
    assert not host.staging(migration, elsewhere).folder.exists()


async def test_a_failure_while_taking_back_is_told(server: Client, host: Host, sim: VCenterSimulator) -> None:
    client = MigrationClient(server)
    migration = await _copied(client, sim, "job-unwritable")
    host.pretend_converted(migration)
    status = await migration.status()
    in_the_way = host.output_dir / f"{status.created_at:%Y-%m-%d}" / VM
    in_the_way.mkdir(parents=True)
    (host.output_dir / ".errors").write_text("no folder")
    await host.start(Role.CONVERT)
    status = await _until(migration, _ended)
    assert [failure.code for failure in status.failures] == [ErrorCode.OUTPUT_EXISTS]
    assert any("write the error file" in text for text in status.not_undone)
    (answer,) = status.leftovers
    assert [one.kind for one in answer.left] == [LeftoverKind.COPY]


async def test_one_machine_is_not_migrated_by_two_jobs(
    server: Client, host: Host, sim: VCenterSimulator
) -> None:
    client = MigrationClient(server)
    first = await _copied(client, sim, "job-without-datacenter")
    status = await _until(first, lambda found: found.plan is not None)
    assert status.plan is not None
    named = sim.vcenter(datacenter=status.plan.machine.datacenter)
    second = await client.start(_request(sim, vcenter=named), job_id="job-with-datacenter")
    refused = await _until(second, _ended)
    assert [failure.code for failure in refused.failures] == [ErrorCode.VM_MIGRATING]
    assert first.job_id in refused.failures[0].message
    await first.cancel()
    await host.start(Role.CONVERT)
    await _until(first, _ended)
