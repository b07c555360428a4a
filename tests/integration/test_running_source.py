"""A source that runs: snapshots and shutdowns on the simulated vCenter, killed, slow, failing, undone."""

import logging
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from temporalio.exceptions import CancelledError

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.commit import MARKER
from hyperctl.activities.export.activity import export_disks
from hyperctl.activities.plan_source import plan_source
from hyperctl.activities.prepare_source import power_on_source, prepare_source, remove_job_snapshot
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.activities.verify.activity import verify_disks
from hyperctl.activities.vsphere import task as task_module
from hyperctl.activities.vsphere.task import insistently
from hyperctl.workflows.contract import (
    ExportInput,
    ExportResult,
    PowerOnSourceInput,
    PrepareSourceInput,
    PutBackResult,
    RemoveSnapshotInput,
    VerifyInput,
)
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.plan import SourcePlan
from hyperctl.workflows.request import RunningSource, TransportChoice, VerifyMode, WhenRunning
from hyperctl.workflows.source import PreparedSource
from hyperctl.workflows.status import Phase
from tests.integration.ledgers import is_whole
from tests.moments import SOON_SECONDS, once, until
from tests.simulator import VCenterSimulator

from .conftest import LEASE_TIMEOUT_SECONDS, MIB, make_guest, sha256
from .exporting import kill, start_export

JOB = "job-running"
SNAPSHOT = f"hyperctl-{JOB}"
SHUTDOWN = RunningSource(action=WhenRunning.SHUTDOWN, shutdown_timeout_seconds=20)
FORCED = RunningSource(action=WhenRunning.SHUTDOWN, shutdown_timeout_seconds=1, force_off=True)
AS_SNAPSHOT = RunningSource(action=WhenRunning.SNAPSHOT)


class Source:
    """A machine of one test's own that runs, and what a migration does to it."""

    def __init__(self, sim: VCenterSimulator, settings: HostSettings, name: str) -> None:
        self.sim = sim
        self.settings = settings
        self.name = name
        self.running = Attempt(Phase.EXPORT, logging.getLogger("test"))
        plan = self.plan(AS_SNAPSHOT)
        assert plan.machine is not None
        self.machine: Machine = plan.machine
        self.staging = Staging(settings.output_dir, JOB)

    def plan(self, asked: RunningSource, transport: TransportChoice = TransportChoice.AUTO) -> SourcePlan:
        request = self.sim.request(self.name).model_copy(update={"running": asked, "transport": transport})
        return plan_source(request, self.settings, self.running)

    def prepare_input(self, asked: RunningSource) -> PrepareSourceInput:
        return PrepareSourceInput(
            job_id=JOB,
            vcenter=self.sim.vcenter(),
            machine=self.machine,
            output_dir=self.settings.output_dir,
            running=asked,
        )

    def prepare(self, asked: RunningSource = AS_SNAPSHOT) -> PreparedSource:
        return prepare_source(self.prepare_input(asked), self.settings, self.running)

    def export(self, prepared: PreparedSource) -> ExportResult:
        return export_disks(self.export_input(prepared), self.settings, self.running)

    def export_input(self, prepared: PreparedSource) -> ExportInput:
        return ExportInput(
            job_id=JOB,
            vcenter=self.sim.vcenter(),
            machine=self.machine,
            transport="nfc",
            output_dir=self.settings.output_dir,
            snapshot=prepared.snapshot.moref if prepared.snapshot else "",
            copied=prepared.copied,
        )

    def remove_input(self) -> RemoveSnapshotInput:
        return RemoveSnapshotInput(job_id=JOB, vcenter=self.sim.vcenter(), machine=self.machine)

    def remove(self) -> PutBackResult:
        return insistently(
            self.running, lambda: remove_job_snapshot(self.remove_input(), self.settings, self.running)
        )

    def power_on(self, asked: RunningSource, *, switched_off: bool) -> PutBackResult:
        argument = PowerOnSourceInput(
            job_id=JOB,
            vcenter=self.sim.vcenter(),
            machine=self.machine,
            switched_off=switched_off,
            running=asked,
        )
        return power_on_source(argument, self.settings, Attempt(Phase.CLEANUP, logging.getLogger("test")))

    @property
    def report(self) -> Any:
        (found,) = [vm for vm in self.sim.call("GET", "/vms") if vm["name"] == self.name]
        return found

    @property
    def is_on(self) -> bool:
        return bool(self.report["power_state"] == "poweredOn")

    @property
    def snapshots(self) -> list[str]:
        return [snapshot["name"] for snapshot in self.report["snapshots"]]

    def is_waiting(self) -> bool:
        """For a task of the machine that is under way."""
        return "waiting for" in str(self.running.progress.message)

    def requests(self, method: str) -> int:
        return int(self.sim.call("GET", "/requests").get(method, 0))

    def power(self, state: str) -> None:
        self.sim.call("POST", f"/vms/{self.name}/power", {"state": state})

    def write(self, seed: int, disk: int = 0, offset: int = 2 * MIB, length: int = 70_000) -> None:
        body = {"disk": disk, "offset": offset, "length": length, "seed": seed}
        self.sim.call("POST", f"/vms/{self.name}/write", body)

    def digests(self, of: Any) -> list[str]:
        """Of a machine's disks as they are, or as a snapshot holds them."""
        return [sha256(Path(disk if isinstance(disk, str) else disk["path"])) for disk in of["disks"]]

    def kill_when(self, function: str, argument: BaseModel, reached: Callable[[], bool]) -> None:
        """Do something in a process of its own, and end that by kill -9 at a moment."""
        programme = (
            "import logging, sys\n"
            "from hyperctl.activities import prepare_source as module\n"
            "from hyperctl.activities.attempt import Attempt\n"
            "from hyperctl.activities.settings import HostSettings\n"
            "from hyperctl.workflows import contract\n"
            "from hyperctl.workflows.status import Phase\n"
            f"argument = contract.{type(argument).__name__}.model_validate_json(sys.stdin.read())\n"
            f"settings = HostSettings.model_validate_json({self.settings.model_dump_json()!r})\n"
            f"module.{function}(argument, settings, Attempt(Phase.EXPORT, logging.getLogger()))\n"
        )
        worker = subprocess.Popen([sys.executable, "-c", programme], stdin=subprocess.PIPE)
        assert worker.stdin is not None
        worker.stdin.write(argument.model_dump_json().encode())
        worker.stdin.close()
        until(lambda: reached() or worker.poll() is not None)
        assert worker.poll() is None, "it ended before it could be killed"
        worker.kill()
        worker.wait()


@pytest.fixture
def make_source(
    sim: VCenterSimulator, settings: HostSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Source]]:
    monkeypatch.setattr(task_module, "FIRST_PAUSE_SECONDS", 0.1)
    made: list[Source] = []

    def make(**facts: Any) -> Source:
        name = f"runs-{uuid.uuid4().hex[:8]}"
        guest = make_guest(
            tmp_path / "guests",
            name,
            [24 * MIB + 199 * 1024, 9 * MIB],
            power_state="poweredOn",
            **facts,
        )
        sim.call("POST", "/guests", {"directory": str(guest)})
        sim.call("DELETE", "/requests")
        made.append(Source(sim, settings, name))
        return made[-1]

    yield make
    until(lambda: not sim.active_leases(), seconds=SOON_SECONDS)


@pytest.fixture
def source(make_source: Callable[..., Source]) -> Source:
    return make_source()


# --- snapshots ------------------------------------------------------------------------------------------


def test_a_copy_is_the_moment_of_the_snapshot_while_the_machine_goes_on_writing(source: Source) -> None:
    source.write(seed=1)
    source.write(seed=2, disk=1)
    moment = source.digests(source.report)
    prepared = source.prepare()
    assert prepared.snapshot is not None
    assert prepared.snapshot.name == SNAPSHOT
    stop = threading.Event()

    def write_on() -> None:
        for seed in range(3, 10_000):
            source.write(seed, disk=seed % 2, offset=(seed % 8) * MIB)
            if stop.wait(0.02):
                return

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        source.sim.fault("slow", vm=source.name, bytes_per_second=3 * MIB)
        result = source.export(prepared)
    finally:
        stop.set()
        writer.join()
    assert [sha256(Path(disk.path)) for disk in result.disks] == moment
    assert source.digests(source.report["snapshots"][0]) == moment
    now = source.digests(source.report)
    assert now[0] != moment[0]
    assert now[1] != moment[1], "the test's machine did not write"
    assert source.is_on
    assert source.sim.leases(source.name)[-1]["outcome"] == "completed"

    assert source.remove() == PutBackResult()
    assert source.snapshots == []
    assert source.report["deltas"] == 0
    assert source.digests(source.report) == now, "the machine lost what it wrote"


def test_a_snapshot_is_quiesced_where_that_was_asked(source: Source) -> None:
    plain = source.prepare()
    asked = RunningSource(action=WhenRunning.SNAPSHOT, quiesce=True)
    quiesced = source.prepare(asked)
    assert quiesced.snapshot is not None
    assert quiesced.snapshot.quiesced
    assert quiesced.snapshot != plain.snapshot, "one that is not quiesced does not do"
    assert source.snapshots == [SNAPSHOT]
    source.remove()


def test_old_snapshots_stay_and_the_newest_state_is_copied(make_source: Callable[..., Source]) -> None:
    source = make_source(has_snapshot=True)
    source.write(seed=4)
    moment = source.digests(source.report)
    result = source.export(source.prepare())
    assert [sha256(Path(disk.path)) for disk in result.disks] == moment
    source.remove()
    assert source.snapshots == ["before"]


def test_a_machine_that_is_off_with_old_snapshots_is_copied_as_it_is(
    make_source: Callable[..., Source],
) -> None:
    source = make_source(has_snapshot=True)
    source.write(seed=4)
    source.power("poweredOff")
    prepared = source.prepare()
    assert prepared == PreparedSource()
    result = source.export(prepared)
    assert [sha256(Path(disk.path)) for disk in result.disks] == source.digests(source.report)
    assert source.snapshots == ["before"]


def test_a_worker_killed_while_the_snapshot_is_made_leaves_one_that_is_found(source: Source) -> None:
    slow = source.sim.fault("slow_task", method="CreateSnapshot_Task", vm=source.name, seconds=600)
    source.kill_when(
        "prepare_source",
        source.prepare_input(AS_SNAPSHOT),
        lambda: source.requests("CreateSnapshot_Task") == 1,
    )
    assert source.snapshots == []
    with once(source.is_waiting, lambda: source.sim.lift(slow)):
        prepared = source.prepare()
    assert prepared.snapshot is not None
    assert source.snapshots == [SNAPSHOT]
    assert source.requests("CreateSnapshot_Task") == 1, "it waited for the task that was under way"
    assert source.prepare().snapshot == prepared.snapshot
    source.remove()


def test_a_creation_that_fails_leaves_nothing(source: Source) -> None:
    source.sim.fault("fail_task", method="CreateSnapshot_Task", vm=source.name, half_done=True)
    with pytest.raises(HyperctlError, match=SNAPSHOT) as caught:
        source.prepare()
    assert caught.value.code.is_transient
    assert source.snapshots == []


def test_a_removal_takes_as_long_as_it_takes_and_tells_how_far_it_is(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.prepare()
    slow = source.sim.fault("slow_task", method="RemoveSnapshot_Task", vm=source.name, seconds=60)
    said: list[str] = []
    monkeypatch.setattr(source.running, "report", lambda **told: said.append(str(told["message"])))

    def shares() -> list[int]:
        return [int(text.rsplit(" ", 1)[1][:-1]) for text in said if text.endswith("%")]

    with once(lambda: len(set(shares())) > 2, lambda: source.sim.lift(slow)):
        source.remove()
    assert source.snapshots == []
    assert shares() == sorted(shares())


def test_a_removal_that_fails_twice_succeeds(source: Source) -> None:
    source.prepare()
    source.sim.fault("fail_task", method="RemoveSnapshot_Task", vm=source.name, times=2)
    assert source.remove() == PutBackResult()
    assert source.snapshots == []
    assert source.requests("RemoveSnapshot_Task") == 3


def test_a_removal_that_may_not_be_done_says_what_to_do(source: Source) -> None:
    source.prepare()
    source.sim.fault("fail_method", method="RemoveSnapshot_Task", vm=source.name, fault="NoPermission")
    with pytest.raises(HyperctlError) as caught:
        source.remove()
    assert caught.value.code is ErrorCode.PERMISSION_DENIED
    assert SNAPSHOT in caught.value.failure.message
    assert "remove it in vSphere" in caught.value.failure.hint
    assert source.remove() == PutBackResult()


def test_a_removal_that_leaves_deltas_says_what_to_do(source: Source) -> None:
    source.prepare()
    source.write(seed=5)
    source.sim.fault("fail_task", method="RemoveSnapshot_Task", vm=source.name, half_done=True)
    (warning,) = source.remove().warnings
    assert "Consolidate" in warning
    assert source.snapshots == []
    assert source.report["consolidation_needed"]


def test_a_worker_killed_during_the_removal_is_followed_by_one_that_waits(source: Source) -> None:
    source.prepare()
    slow = source.sim.fault("slow_task", method="RemoveSnapshot_Task", vm=source.name, seconds=600)
    source.kill_when(
        "remove_job_snapshot", source.remove_input(), lambda: source.requests("RemoveSnapshot_Task") == 1
    )
    assert source.snapshots == [SNAPSHOT]
    with once(source.is_waiting, lambda: source.sim.lift(slow)):
        source.remove()
    assert source.snapshots == []
    assert source.requests("RemoveSnapshot_Task") == 1


def test_a_cancel_leaves_a_removal_soon_and_the_next_one_finds_it(source: Source) -> None:
    source.prepare()
    slow = source.sim.fault("slow_task", method="RemoveSnapshot_Task", vm=source.name, seconds=600)
    removing = once(lambda: source.requests("RemoveSnapshot_Task"), source.running.stop)
    with removing as stopped, pytest.raises(CancelledError):
        source.remove()
    assert stopped.seconds < SOON_SECONDS
    source.running = Attempt(Phase.CLEANUP, logging.getLogger("test"))
    with once(source.is_waiting, lambda: source.sim.lift(slow)):
        source.remove()
    assert source.snapshots == []
    assert source.requests("RemoveSnapshot_Task") == 1


def test_a_removal_waits_for_the_lease_of_a_worker_that_was_killed(source: Source) -> None:
    prepared = source.prepare()
    source.sim.fault("slow", vm=source.name, bytes_per_second=MIB // 8)
    argument = source.export_input(prepared)
    sends = source.sim.sends("nfc")
    worker = start_export(argument, source.settings)
    until(lambda: sends() or not worker.is_alive())
    kill(worker)
    started = time.monotonic()
    source.remove()
    assert source.snapshots == []
    assert time.monotonic() - started < LEASE_TIMEOUT_SECONDS + SOON_SECONDS
    assert source.sim.leases(source.name)[-1]["outcome"] == "timed_out"


def test_a_retry_keeps_what_is_whole_of_the_same_snapshot_and_nothing_of_another(source: Source) -> None:
    prepared = source.prepare()
    stalled = source.sim.fault("stall", vm=source.name, disk=0, after_bytes=4 * MIB)

    def cut() -> None:
        source.sim.fault("drop_connection", vm=source.name, disk=0, after_bytes=4 * MIB)
        source.sim.lift(stalled)

    with once(lambda: is_whole(source.staging.ledger(2)), cut), pytest.raises(HyperctlError):
        source.export(prepared)
    source.sim.call("DELETE", "/faults")
    source.write(seed=6, disk=1)  # the machine goes on; the snapshot does not
    again = source.prepare()
    assert again.snapshot == prepared.snapshot
    assert "not moved" in again.warnings[0]
    moment = source.digests(source.report["snapshots"][0])
    result = source.export(again)
    assert [sha256(Path(disk.path)) for disk in result.disks] == moment
    sent = {file["target"]: file["sent_bytes"] for file in source.sim.leases(source.name)[-1]["files"]}
    assert sent["disk-1.vmdk"] == 0, "the second disk did not cross the network again"

    source.remove()
    source.staging.forget("prepare_source")
    other = source.prepare()
    assert other.snapshot != prepared.snapshot
    moment = source.digests(source.report["snapshots"][0])
    result = source.export(other)
    assert [sha256(Path(disk.path)) for disk in result.disks] == moment
    source.remove()


def test_a_copy_that_is_whole_needs_no_snapshot_any_more(source: Source) -> None:
    first = source.export(source.prepare())
    verify_disks(
        VerifyInput(
            job_id=JOB, output_dir=source.settings.output_dir, disks=first.disks, mode=VerifyMode.FULL
        ),
        source.running,
    )
    source.remove()
    leases = len(source.sim.leases(source.name))
    prepared = source.prepare()
    assert prepared.copied
    assert source.export(prepared) == first
    assert source.snapshots == []
    assert len(source.sim.leases(source.name)) == leases
    assert "what it wrote since is not moved" in prepared.warnings[0]

    source.staging.ledger(2).unlink()
    assert not source.prepare().copied, "a disk is no longer whole"
    source.remove()


def test_a_snapshot_that_somebody_removes_is_made_anew(source: Source) -> None:
    prepared = source.prepare()
    source.remove()
    with pytest.raises(HyperctlError) as caught:
        source.export(prepared)
    assert caught.value.code is ErrorCode.SNAPSHOT_LOST
    assert caught.value.code.is_transient
    source.export(source.prepare())
    source.remove()


# --- shutdown -------------------------------------------------------------------------------------------


def test_a_guest_that_obeys_is_copied_and_powered_on_when_the_migration_fails(source: Source) -> None:
    source.write(seed=7)
    prepared = source.prepare(SHUTDOWN)
    assert prepared == PreparedSource(switched_off=True)
    assert not source.is_on
    result = source.export(prepared)
    assert [sha256(Path(disk.path)) for disk in result.disks] == source.digests(source.report)
    assert source.prepare(SHUTDOWN).switched_off, "a retry knows who has switched it off"
    assert source.power_on(SHUTDOWN, switched_off=False) == PutBackResult()
    assert source.is_on


def test_a_guest_that_does_not_obey_stays_on(source: Source) -> None:
    source.sim.fault("shutdown", vm=source.name, shutdown_seconds="never")
    asked = RunningSource(action=WhenRunning.SHUTDOWN, shutdown_timeout_seconds=1)
    with pytest.raises(HyperctlError, match="has not shut down in 1 s") as caught:
        source.prepare(asked)
    assert caught.value.code is ErrorCode.VM_POWERED_ON
    assert not caught.value.code.is_transient
    (warning,) = source.power_on(asked, switched_off=False).warnings
    assert "still on" in warning
    assert source.is_on
    assert source.requests("PowerOffVM_Task") == 0


@pytest.mark.parametrize("tools", ["running", "absent"])
def test_force_powers_it_off(make_source: Callable[..., Source], tools: str) -> None:
    source = make_source(tools=tools, shutdown_seconds="never")
    prepared = source.prepare(FORCED)
    assert (prepared.switched_off, prepared.forced) == (True, True)
    assert not source.is_on
    source.power_on(FORCED, switched_off=False)
    assert source.is_on


def test_without_tools_and_force_nothing_is_done(make_source: Callable[..., Source]) -> None:
    source = make_source(tools="absent")
    with pytest.raises(HyperctlError) as caught:
        source.prepare(SHUTDOWN)
    assert caught.value.code is ErrorCode.TOOLS_NOT_RUNNING
    started = time.monotonic()
    assert source.power_on(SHUTDOWN, switched_off=False) == PutBackResult()
    waited = SHUTDOWN.shutdown_timeout_seconds
    assert time.monotonic() - started < waited, "a guest that could not be asked is not waited for"
    assert source.is_on


def test_what_somebody_else_has_switched_off_stays_off(source: Source) -> None:
    source.power("poweredOff")
    assert source.prepare(SHUTDOWN) == PreparedSource()
    source.power_on(SHUTDOWN, switched_off=False)
    assert not source.is_on


def test_a_record_of_an_earlier_run_of_the_machine_is_of_the_past(source: Source) -> None:
    source.prepare(SHUTDOWN)
    for state in ("poweredOn", "poweredOff"):
        source.power(state)
    assert not source.prepare(SHUTDOWN).switched_off
    source.power_on(SHUTDOWN, switched_off=False)
    assert not source.is_on


def test_a_cancel_ends_the_wait_and_the_guest_that_goes_down_later_is_powered_on(source: Source) -> None:
    source.sim.fault("shutdown", vm=source.name, shutdown_seconds=8)
    shutting = once(lambda: source.requests("ShutdownGuest"), source.running.stop)
    with shutting as stopped, pytest.raises(CancelledError):
        source.prepare(SHUTDOWN)
    assert stopped.seconds < 8
    assert source.is_on
    source.power_on(SHUTDOWN, switched_off=False)
    assert source.is_on
    assert source.requests("PowerOnVM_Task") == 1


def test_a_worker_killed_in_the_wait_is_followed_by_one_that_goes_on_waiting(source: Source) -> None:
    source.sim.fault("shutdown", vm=source.name, shutdown_seconds=4)
    source.kill_when(
        "prepare_source", source.prepare_input(SHUTDOWN), lambda: source.requests("ShutdownGuest") == 1
    )
    assert source.prepare(SHUTDOWN).switched_off
    assert not source.is_on
    assert source.requests("PowerOffVM_Task") == 0


def test_a_power_on_that_fails_twice_succeeds(source: Source) -> None:
    source.prepare(SHUTDOWN)
    source.sim.fault("fail_task", method="PowerOnVM_Task", vm=source.name, times=2)
    insistently(source.running, lambda: source.power_on(SHUTDOWN, switched_off=True))
    assert source.is_on


def test_final_images_that_are_older_than_the_machine_are_refused(source: Source) -> None:
    source.export(source.prepare(SHUTDOWN))
    (source.staging.folder / MARKER).write_text('{"folder": "/output"}')
    assert source.prepare(SHUTDOWN).switched_off, "it has been off since"
    source.power_on(SHUTDOWN, switched_off=True)
    with pytest.raises(HyperctlError, match="has been running since") as caught:
        source.prepare(SHUTDOWN)
    assert caught.value.code is ErrorCode.OUTPUT_EXISTS
    assert source.is_on, "nothing was done to it"


# --- the plan -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "asked", "transport", "expected"),
    [
        ({}, RunningSource(), "auto", [ErrorCode.VM_POWERED_ON]),
        ({}, SHUTDOWN, "datastore", []),
        ({}, AS_SNAPSHOT, "auto", []),
        ({}, AS_SNAPSHOT, "datastore", [ErrorCode.VM_UNSUPPORTED]),
        ({"has_snapshot": True}, SHUTDOWN, "datastore", [ErrorCode.VM_UNSUPPORTED]),
        ({"has_snapshot": True}, SHUTDOWN, "nfc", []),
        ({"tools": "absent"}, SHUTDOWN, "auto", [ErrorCode.TOOLS_NOT_RUNNING]),
        ({"tools": "absent"}, FORCED, "auto", []),
        (
            {"tools": "absent", "independent_disk": True, "has_snapshot": True},
            RunningSource(action=WhenRunning.SNAPSHOT, quiesce=True),
            "datastore",
            [ErrorCode.TOOLS_NOT_RUNNING, ErrorCode.VM_UNSUPPORTED, ErrorCode.VM_UNSUPPORTED],
        ),
    ],
)
def test_the_plan_says_what_stands_against_it(
    make_source: Callable[..., Source],
    facts: dict[str, Any],
    asked: RunningSource,
    transport: str,
    expected: list[ErrorCode],
) -> None:
    plan = make_source(**facts).plan(asked, TransportChoice(transport))
    assert [problem.code for problem in plan.problems] == expected
    assert all(problem.hint for problem in plan.problems)


def test_the_plan_says_what_will_be_done(source: Source) -> None:
    shutdown = " ".join(source.plan(SHUTDOWN).warnings)
    for words in ("20 s", "stays off when the migration succeeds", "powered on again", "the migration fails"):
        assert words in shutdown
    assert "pulling its plug" in " ".join(source.plan(FORCED).warnings)
    snapshot = " ".join(source.plan(AS_SNAPSHOT).warnings)
    for words in ("crash-consistent", "not moved", "do not start both on one network"):
        assert words in snapshot
    quiesced = RunningSource(action=WhenRunning.SNAPSHOT, quiesce=True)
    assert "quiesced" in " ".join(source.plan(quiesced).warnings)
    source.power("poweredOff")
    assert not any("not moved" in text or "stays off" in text for text in source.plan(AS_SNAPSHOT).warnings)
