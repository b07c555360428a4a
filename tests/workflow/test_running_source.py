"""Migrations of sources that run: real workflow, real worker, which is killed, on a simulated vCenter.

The worker's libguestfs has no appliance, so that every migration ends in its conversion at the latest.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from hyperctl.workflows.errors import ErrorCode
from hyperctl.workflows.queues import WORKFLOW_QUEUE
from hyperctl.workflows.status import JobStatus, MigrationStatus, Phase
from tests.moments import LONGEST_SECONDS, SOON_SECONDS, until
from tests.replays import assert_replays
from tests.simulator import USERNAME, VCenterSimulator, running_vcenter

pytestmark = pytest.mark.asyncio(loop_scope="module")

PASSWORD = "a password for tests"
VM = "runs-01"
MIB = 1 << 20
JOB = "job-of-a-running-source"
SNAPSHOT = f"hyperctl-{JOB}"


class Site:
    """A Temporal server, a vCenter with one machine that runs, and a worker."""

    def __init__(self, client: Client, sim: VCenterSimulator, folder: Path) -> None:
        self.client = client
        self.sim = sim
        self._folder = folder
        self.output = folder / "output"
        self._worker: subprocess.Popen[bytes] | None = None

    def start_worker(self) -> None:
        environment = {
            **os.environ,
            "HYPERCTL_TEMPORAL_ADDRESS": self.client.service_client.config.target_host,
            "HYPERCTL_HOST": "kvm-test",
            "HYPERCTL_OUTPUT_DIR": str(self.output),
            "HYPERCTL_WORK_DIR": str(self._folder / "work"),
            "HYPERCTL_VSPHERE_CERTIFICATE_SHA256": self.sim.certificate_sha256,
            "HYPERCTL_DRAIN_SECONDS": "5",
            "VSPHERE_USERNAME": USERNAME,
            "VSPHERE_PASSWORD": PASSWORD,
            "LIBGUESTFS_PATH": str(self._folder / "no-appliance"),
        }
        self.output.mkdir(mode=0o711, exist_ok=True)
        log = self._folder / "worker.log"
        said = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file:
            self._worker = subprocess.Popen(
                [str(Path(sys.executable).parent / "hyperctl"), "worker"],
                env=environment,
                stdout=file,
                stderr=file,
            )
        deadline = time.monotonic() + LONGEST_SECONDS
        while b"worker ready" not in log.read_bytes()[said:]:
            assert self._worker.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    def kill_worker(self) -> None:
        assert self._worker is not None
        self._worker.kill()
        self._worker.wait()

    def stop_worker(self) -> None:
        if self._worker is not None:
            self._worker.terminate()
            try:
                self._worker.wait(20)
            except subprocess.TimeoutExpired:
                self._worker.kill()
                self._worker.wait()

    async def start(self, **running: Any) -> WorkflowHandle[Any, Any]:
        request = {
            "vm_name": VM,
            "vcenter": {"server": self.sim.server},
            "prove": "none",
            "running": running,
            "retry_policy": {"max_retries": 2, "retry_delay_seconds": 0.5},
        }
        return await self.client.start_workflow(
            "MigrationWorkflow", request, id=JOB, task_queue=WORKFLOW_QUEUE
        )

    async def status(self, handle: WorkflowHandle[Any, Any]) -> MigrationStatus:
        status: MigrationStatus = await handle.query("status", result_type=MigrationStatus)
        return status

    async def ended(self, handle: WorkflowHandle[Any, Any]) -> MigrationStatus:
        """Wait for its bad end, see that its history replays, and return its last word."""
        async with asyncio.timeout(240):
            with pytest.raises(WorkflowFailureError):
                await handle.result()
        kept = os.environ.get("HYPERCTL_KEEP_HISTORY")
        if kept:
            Path(kept).write_text((await handle.fetch_history()).to_json() + "\n")
        await assert_replays(handle)
        return await self.status(handle)

    async def until(self, reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LONGEST_SECONDS
        while not await asyncio.to_thread(reached):
            assert time.monotonic() < deadline, what
            await asyncio.sleep(0.05)

    def copying(self) -> bool:
        return self.sim.sent_bytes("nfc") > 0

    def requests(self, method: str) -> int:
        return int(self.sim.call("GET", "/requests").get(method, 0))

    @property
    def report(self) -> Any:
        (found,) = self.sim.call("GET", "/vms")
        return found

    @property
    def is_on(self) -> bool:
        return bool(self.report["power_state"] == "poweredOn")

    @property
    def snapshots(self) -> list[str]:
        return [snapshot["name"] for snapshot in self.report["snapshots"]]


@pytest.fixture
def site(server: Client) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="hyperctl-running-") as name:
        folder = Path(name)
        guest = folder / "guests" / VM
        guest.mkdir(parents=True)
        with (guest / "disk1.raw").open("wb") as disk:
            disk.truncate(32 * MIB)
            disk.seek(MIB)
            disk.write(os.urandom(8 * MIB))
        facts = {
            "name": VM,
            "guest_id": "debian12_64Guest",
            "host_name": VM,
            "power_state": "poweredOn",
            "disks": [{"flat": "disk1.raw"}],
        }
        (guest / "guest.json").write_text(json.dumps(facts))
        with running_vcenter(folder / "guests", folder / "state", PASSWORD, lease_timeout_seconds=5) as sim:
            site = Site(server, sim, folder)
            site.start_worker()
            try:
                yield site
            finally:
                site.stop_worker()
            until(lambda: not sim.active_leases(), seconds=SOON_SECONDS)


async def test_a_snapshot_goes_once_its_copy_is_verified_and_a_retry_needs_none(site: Site) -> None:
    handle = await site.start(action="snapshot")
    status = await site.ended(handle)
    assert status.phase is Phase.CONVERT, status.failures
    assert status.status is JobStatus.FAILED
    assert status.not_undone == ()
    assert status.source is not None
    assert status.source.snapshot is not None
    assert status.source.snapshot.name == SNAPSHOT
    assert site.snapshots == []
    assert site.is_on
    names = [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in (await handle.fetch_history()).events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert names.index("verify_disks") < names.index("remove_snapshot") < names.index("convert_guest")

    sent = site.sim.call("GET", "/traffic")["nfc"]
    again = await site.ended(await site.start(action="snapshot"))
    assert again.phase is Phase.CONVERT
    assert any("what it wrote since is not moved" in text for text in again.warnings)
    assert site.requests("CreateSnapshot_Task") == 1
    assert site.sim.call("GET", "/traffic")["nfc"] == sent, "a failed conversion costs no second copy"
    assert site.snapshots == []


async def test_a_cancelled_migration_removes_its_snapshot_however_long_it_takes(site: Site) -> None:
    site.sim.fault("slow", vm=VM, bytes_per_second=MIB // 16)
    site.sim.fault("slow_task", method="RemoveSnapshot_Task", vm=VM, seconds=6)
    site.sim.fault("fail_task", method="RemoveSnapshot_Task", vm=VM)
    handle = await site.start(action="snapshot")
    await site.until(site.copying, "it never copied")
    assert site.snapshots == [SNAPSHOT]
    await handle.signal("cancel", {"reason": "not tonight"})
    await site.until(lambda: site.requests("RemoveSnapshot_Task") == 1, "it was never removed")
    await handle.cancel()  # a second cancel does not end the compensation
    await handle.signal("cancel", {})
    status = await site.ended(handle)
    assert status.status is JobStatus.CANCELLED
    assert status.not_undone == ()
    assert site.requests("RemoveSnapshot_Task") == 2
    assert site.snapshots == []
    assert site.is_on


async def test_a_worker_killed_around_the_snapshot_leaves_none(site: Site) -> None:
    making = site.sim.fault("slow_task", method="CreateSnapshot_Task", vm=VM, seconds=600)
    removing = site.sim.fault("slow_task", method="RemoveSnapshot_Task", vm=VM, seconds=600)
    handle = await site.start(action="snapshot")
    await site.until(lambda: site.requests("CreateSnapshot_Task") == 1, "it never made a snapshot")
    site.kill_worker()
    site.sim.lift(making)
    site.start_worker()
    await site.until(lambda: site.requests("RemoveSnapshot_Task") == 1, "it was never removed")
    assert site.snapshots == [SNAPSHOT]
    site.kill_worker()
    site.start_worker()
    site.sim.lift(removing)
    status = await site.ended(handle)
    assert status.phase is Phase.CONVERT, status.failures
    assert site.snapshots == []
    assert (site.requests("CreateSnapshot_Task"), site.requests("RemoveSnapshot_Task")) == (1, 1)


async def test_what_cannot_be_removed_is_said(site: Site) -> None:
    site.sim.fault("fail_method", method="RemoveSnapshot_Task", vm=VM, fault="NoPermission", times=9)
    site.sim.fault("fail_method", method="ExportSnapshot", vm=VM, fault="NoPermission")
    status = await site.ended(await site.start(action="snapshot"))
    assert [failure.code for failure in status.failures] == [ErrorCode.PERMISSION_DENIED]
    (left,) = status.not_undone
    assert SNAPSHOT in left
    assert "remove it in vSphere" in left
    assert site.snapshots == [SNAPSHOT]

    site.sim.call("DELETE", "/faults")
    again = await site.ended(await site.start(action="snapshot"))
    assert again.phase is Phase.CONVERT
    assert site.requests("CreateSnapshot_Task") == 1, "the retry went on from the snapshot that was left"
    assert site.snapshots == []


@pytest.mark.parametrize("discard", [False, True])
async def test_a_cancelled_migration_powers_its_source_on_again(site: Site, discard: bool) -> None:
    site.sim.fault("slow", vm=VM, bytes_per_second=MIB // 16)
    handle = await site.start(action="shutdown")
    await site.until(site.copying, "it never copied")
    assert not site.is_on
    await handle.signal("cancel", {"discard": discard})
    status = await site.ended(handle)
    assert status.status is JobStatus.CANCELLED
    assert status.not_undone == ()
    assert site.is_on
    assert (site.output / ".jobs" / JOB).exists() is not discard


async def test_a_worker_killed_in_the_shutdown_and_a_failure_power_it_on_again(site: Site) -> None:
    site.sim.fault("shutdown", vm=VM, shutdown_seconds=3)
    site.sim.fault("fail_method", method="ExportVm", vm=VM, fault="NoPermission")
    site.sim.fault("fail_task", method="PowerOnVM_Task", vm=VM)
    handle = await site.start(action="shutdown")
    await site.until(lambda: site.requests("ShutdownGuest") == 1, "it was never asked")
    site.kill_worker()
    site.start_worker()
    status = await site.ended(handle)
    assert [failure.code for failure in status.failures] == [ErrorCode.PERMISSION_DENIED]
    assert status.source is not None
    assert status.source.switched_off
    assert status.not_undone == ()
    assert site.is_on
    assert site.requests("ShutdownGuest") == 1


async def test_a_guest_that_does_not_obey_ends_it_and_stays_on(site: Site) -> None:
    site.sim.fault("shutdown", vm=VM, shutdown_seconds="never")
    status = await site.ended(await site.start(action="shutdown", shutdown_timeout_seconds=1))
    assert [failure.code for failure in status.failures] == [ErrorCode.VM_POWERED_ON]
    assert "--force-off" in status.failures[0].hint
    assert any("still on" in text for text in status.warnings)
    assert site.is_on
    assert site.requests("PowerOffVM_Task") == 0


async def test_a_running_source_is_refused_unless_one_of_both_was_asked(site: Site) -> None:
    status = await site.ended(await site.start())
    assert [failure.code for failure in status.failures] == [ErrorCode.VM_POWERED_ON]
    assert "--shutdown" in status.failures[0].hint
    assert "--snapshot" in status.failures[0].hint
    assert site.is_on
    assert site.requests("ShutdownGuest") == 0
