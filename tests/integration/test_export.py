"""Copy and verify against the simulated vCenter: right, sparse, and right under every fault."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import CancelledError

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.commit import MARKER
from hyperctl.activities.discard import discard
from hyperctl.activities.export.activity import export_disks
from hyperctl.activities.export.ledger import read_ledger
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.activities.verify.activity import verify_disks
from hyperctl.activities.vsphere import task as task_module
from hyperctl.activities.vsphere.inventory import find_machine
from hyperctl.activities.vsphere.lease import export_lease
from hyperctl.activities.vsphere.session import open_session
from hyperctl.workflows.contract import DiscardInput, ExportInput, ExportResult
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from tests.integration.ledgers import is_whole
from tests.integration.orders import export_input, verify_input
from tests.moments import SOON_SECONDS, once, until
from tests.simulator import VCenterSimulator

from .conftest import LEASE_TIMEOUT_SECONDS, MIB, sha256
from .exporting import copying_threads, kill, start_export

VM = "web-server-01"


@pytest.fixture
def argument(sim: VCenterSimulator, settings: HostSettings, running: Attempt) -> ExportInput:
    return export_input(sim, settings, running, VM, "nfc")


@pytest.fixture(autouse=True)
def no_lease_is_left(sim: VCenterSimulator) -> Iterator[None]:
    yield
    until(lambda: not sim.active_leases() and not sim.sessions(), seconds=SOON_SECONDS)


def assert_no_copying_threads() -> None:
    until(lambda: not copying_threads(), copying_threads, SOON_SECONDS)


def assert_right(sim: VCenterSimulator, result: ExportResult) -> None:
    for disk in result.disks:
        assert sha256(Path(disk.path)) == sha256(sim.raw_disk(VM, disk.index)), disk.source_name


def test_a_copy_is_the_source_byte_for_byte(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    result = export_disks(argument, settings, running)

    assert_right(sim, result)
    assert [disk.source_name for disk in result.disks] == ["web-server-01.vmdk", "web-server-01_1.vmdk"]
    for disk in result.disks:
        used = Path(disk.path).stat().st_blocks * 512
        assert abs(used - disk.allocated_bytes) <= MIB, "zeroes take no space"
        assert used < disk.capacity_bytes / 2 or disk.index == 2
        assert disk.source_checksum.startswith("sha1:")
        assert 0 < disk.received_bytes < disk.capacity_bytes
        assert Path(disk.path).stat().st_mode & 0o077 == 0
        ledger = read_ledger(Path(disk.ledger))
        assert ledger.finish is not None
        assert ledger.finish.root_digest == disk.root_digest
    assert sim.leases(VM)[-1]["outcome"] == "completed"


def test_a_verified_copy_says_what_was_proved(
    settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    result = export_disks(argument, settings, running)
    verified = verify_disks(verify_input(argument, result), running)
    assert [disk.is_whole for disk in verified.disks] == [True, True]
    assert result.disks[0].root_digest in verified.disks[0].statement
    assert result.disks[0].source_checksum in verified.disks[0].statement


def test_finished_work_is_not_done_again(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    first = export_disks(argument, settings, running)
    leases = len(sim.leases(VM))
    assert export_disks(argument, settings, running) == first
    staging.forget("export_disks")
    again = export_disks(argument, settings, running)
    assert again.disks == first.disks
    assert len(sim.leases(VM)) == leases, "the ledgers say that every disk is whole"


def test_a_change_of_the_machine_makes_both_disks_old(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    first = export_disks(argument, settings, running)
    staging.forget("export_disks")
    ledger = Path(first.disks[0].ledger)
    before = read_ledger(ledger).header.source
    assert argument.machine.moref in before
    with open_session(sim.vcenter(), settings, running) as session:
        source = find_machine(session, VM, None)
        task = source.reference.ReconfigVM_Task(type_of_config_spec()(annotation="the shop"))
        until(lambda: task.info.state in ("success", "error"))
        assert task.info.state == "success"
    leases = len(sim.leases(VM))
    export_disks(argument, settings, running)
    assert len(sim.leases(VM)) == leases + 1
    assert read_ledger(ledger).header.source != before


def type_of_config_spec() -> Callable[..., object]:
    from pyVmomi import vim

    spec: Callable[..., object] = vim.vm.ConfigSpec
    return spec


def test_a_machine_that_ran_in_between_is_copied_again(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    result = export_disks(argument, settings, running)
    verify_disks(verify_input(argument, result), running)
    staging.finish("convert_guest", result)
    staging.finish("prove_boot", result)
    for state in ("poweredOn", "poweredOff"):
        sim.call("POST", f"/vms/{VM}/power", {"state": state})
    leases = len(sim.leases(VM))

    assert_right(sim, export_disks(argument, settings, running))
    assert len(sim.leases(VM)) == leases + 1
    for step in ("verify_disks", "convert_guest", "prove_boot"):
        assert not (staging.folder / f"{step}.done.json").exists(), "it was of the old disks"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "drop_connection", "after_bytes": 3 * MIB}, ErrorCode.TRANSFER_INTERRUPTED),
        ({"kind": "drop_connection", "after_bytes": 0}, ErrorCode.TRANSFER_INTERRUPTED),
        ({"kind": "truncate", "after_bytes": 3 * MIB}, ErrorCode.TRANSFER_INTERRUPTED),
        ({"kind": "flip_byte", "offset": 3 * MIB}, ErrorCode.TRANSFER_CORRUPT),
        ({"kind": "flip_byte", "offset": 3}, ErrorCode.TRANSFER_CORRUPT),
        ({"kind": "flip_byte", "offset": 600}, ErrorCode.TRANSFER_CORRUPT),
        ({"kind": "expire_sessions", "after_bytes": 2 * MIB}, ErrorCode.LEASE_LOST),
        ({"kind": "lease_expire", "after_bytes": 2 * MIB}, ErrorCode.LEASE_LOST),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_a_fault_has_its_code_and_a_retry_ends_well(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    fault: dict[str, Any],
    expected: ErrorCode,
) -> None:
    sim.fault(vm=VM, disk=0, transport="nfc", **fault)
    with pytest.raises(HyperctlError) as caught:
        export_disks(argument, settings, running)
    assert caught.value.code is expected, caught.value
    assert caught.value.code.is_transient
    how = {"expire_sessions": "session_ended", "lease_expire": "timed_out"}.get(fault["kind"], "aborted")
    assert sim.leases(VM)[-1]["outcome"] == how

    assert_right(sim, export_disks(argument, settings, running))


def test_what_the_manifest_denies_is_corrupt(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    """A byte of the header that no decoder looks at: only the source's checksum tells."""
    sim.fault("flip_byte", vm=VM, disk=1, offset=500)
    with pytest.raises(HyperctlError, match="SHA-1") as caught:
        export_disks(argument, settings, running)
    assert caught.value.code is ErrorCode.TRANSFER_CORRUPT
    assert read_ledger(staging.ledger(2)).finish is None


def test_a_disk_that_was_whole_is_kept_when_another_fails(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    stalled = sim.fault("stall", vm=VM, disk=0, after_bytes=4 * MIB)

    def cut() -> None:
        sim.fault("drop_connection", vm=VM, disk=0, after_bytes=4 * MIB)
        sim.lift(stalled)

    with once(lambda: is_whole(staging.ledger(2)), cut), pytest.raises(HyperctlError):
        export_disks(argument, settings, running)
    inode = staging.image(2).stat().st_ino
    sim.call("DELETE", "/faults")

    assert_right(sim, export_disks(argument, settings, running))
    assert staging.image(2).stat().st_ino == inode
    (first, second) = sorted(sim.leases(VM)[-1]["files"], key=lambda file: file["target"])
    assert first["sent_whole"]
    assert second["sent_bytes"] == 0, "the second disk did not cross the network again"


def test_a_stalled_stream_times_out(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    sim.fault("stall", vm=VM, disk=0, after_bytes=MIB)
    settings = settings.model_copy(update={"stream_silence_seconds": 2.0})
    with pytest.raises(HyperctlError, match="no data for too long") as caught:
        export_disks(argument, settings, running)
    assert caught.value.code is ErrorCode.TRANSFER_INTERRUPTED


def test_a_stream_may_be_silent_for_longer_than_a_call(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    """An ESXi host reads what is zero of a thick disk, for minutes, and sends none of it."""
    sim.fault("stall", vm=VM, disk=0, after_bytes=MIB, seconds=8)
    settings = settings.model_copy(update={"vsphere_timeout_seconds": 5.0})
    before = len(sim.leases(VM))
    assert_right(sim, export_disks(argument, settings, running))
    assert len(sim.leases(VM)) == before + 1, "the stream was begun anew"


def test_a_stream_that_only_trickles_is_given_up(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    sim.fault("slow", vm=VM, disk=0, bytes_per_second=5000)
    settings = settings.model_copy(update={"stream_silence_seconds": 2.0})
    with pytest.raises(HyperctlError, match="not even 256 KiB") as caught:
        export_disks(argument, settings, running)
    assert caught.value.code is ErrorCode.TRANSFER_INTERRUPTED
    assert_no_copying_threads()


def test_progress_calls_keep_a_slow_copy_alive(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    size = (sim.guests / VM / "disk1.vmdk").stat().st_size
    sim.fault("slow", vm=VM, disk=0, bytes_per_second=size // (LEASE_TIMEOUT_SECONDS + 3))
    started = time.monotonic()
    assert_right(sim, export_disks(argument, settings, running))
    assert time.monotonic() - started > LEASE_TIMEOUT_SECONDS, "the copy took longer than the lease's timeout"


def test_one_failing_progress_call_is_no_loss(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    sim.fault("slow", vm=VM, disk=0, bytes_per_second=2 * MIB)
    sim.fault("fail_method", method="HttpNfcLeaseProgress", fault="HostCommunication")
    assert_right(sim, export_disks(argument, settings, running))


@pytest.mark.parametrize("state", ["before", "slow", "stalled"])
def test_a_cancel_stops_it_soon(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    state: str,
) -> None:
    if state == "stalled":
        sim.fault("stall", vm=VM, disk=0, after_bytes=MIB)
    else:
        sim.fault("slow", vm=VM, bytes_per_second=MIB // 16)
    settings = settings.model_copy(update={"vsphere_timeout_seconds": 60.0})
    size_bytes = {"before": 0, "slow": 1, "stalled": MIB}[state]
    with once(sim.sends("nfc", size_bytes), running.stop) as stopped, pytest.raises(CancelledError):
        export_disks(argument, settings, running)
    assert stopped.seconds < SOON_SECONDS
    assert state == "before" or sim.leases(VM)[-1]["outcome"] == "aborted"
    assert_no_copying_threads()


def test_a_lease_that_a_dead_worker_left_is_waited_for(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    with open_session(sim.vcenter(), settings, running) as session:
        find_machine(session, VM, None).reference.ExportVm()
        assert_right(sim, export_disks(argument, settings, running))
    assert [lease["outcome"] for lease in sim.leases(VM)[-2:]] == ["timed_out", "completed"]


def test_a_worker_that_was_killed_leaves_nothing_that_stands_in_the_way(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    sim.fault("stall", vm=VM, disk=0, after_bytes=MIB)
    worker = start_export(argument, settings)
    until(lambda: is_whole(staging.ledger(2)) or not worker.is_alive())
    kill(worker)
    assert is_whole(staging.ledger(2))
    assert read_ledger(staging.ledger(1)).finish is None
    inode = staging.image(2).stat().st_ino
    sim.call("DELETE", "/faults")

    assert_right(sim, export_disks(argument, settings, running))
    assert staging.image(2).stat().st_ino == inode, "what was whole is kept"
    sim.fault("expire_sessions")  # the dead worker's own, which would idle out


def test_a_lease_that_stays_makes_the_machine_busy(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_session(sim.vcenter(), settings, running) as session:
        source = find_machine(session, VM, None)
        again = export_lease(session, source, running, busy_wait_seconds=LEASE_TIMEOUT_SECONDS + 1)
        with export_lease(session, source, running), pytest.raises(HyperctlError) as caught, again:
            raise AssertionError("two leases on one machine")
    assert caught.value.code is ErrorCode.VM_BUSY
    assert task_module.BUSY_WAIT_SECONDS > 300, "longer than a vCenter's usual lease timeout"


@pytest.mark.parametrize(
    ("method", "expected"),
    [("ExportVm", ErrorCode.PERMISSION_DENIED), ("HttpNfcLeaseGetManifest", ErrorCode.PERMISSION_DENIED)],
)
def test_a_missing_privilege_is_named(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    method: str,
    expected: ErrorCode,
) -> None:
    sim.fault("fail_method", method=method, fault="NoPermission", vm=VM)
    with pytest.raises(HyperctlError, match=r"VApp\.Export") as caught:
        export_disks(argument, settings, running)
    assert caught.value.code is expected


def test_a_complete_that_fails_does_not_cost_the_copy(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    sim.fault("fail_method", method="HttpNfcLeaseComplete", fault="HostCommunication", vm=VM)
    assert_right(sim, export_disks(argument, settings, running))
    assert sim.leases(VM)[-1]["outcome"] == "aborted"


def test_a_machine_that_was_powered_on_is_not_copied(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    sim.call("POST", f"/vms/{VM}/power", {"state": "poweredOn"})
    try:
        with pytest.raises(HyperctlError) as caught:
            export_disks(argument, settings, running)
    finally:
        sim.call("POST", f"/vms/{VM}/power", {"state": "poweredOff"})
    assert caught.value.code is ErrorCode.VM_POWERED_ON


def test_a_byte_that_changed_on_disk_is_found_and_only_its_disk_is_fetched_again(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    result = export_disks(argument, settings, running)
    kept, damaged = staging.image(1).stat().st_ino, staging.image(2).stat().st_ino
    flip(staging.image(2), 6 * MIB)

    with pytest.raises(HyperctlError) as caught:
        verify_disks(verify_input(argument, result), running)
    assert caught.value.code is ErrorCode.VERIFICATION_FAILED
    assert "disk2" in str(caught.value)
    assert "disk1" not in str(caught.value)
    assert f"{4 * MIB} bytes at {4 * MIB}" in str(caught.value)

    again = export_disks(argument, settings, running)
    assert_right(sim, again)
    assert [disk.root_digest for disk in again.disks] == [disk.root_digest for disk in result.disks]
    assert again.disks[0] == result.disks[0]
    assert staging.image(1).stat().st_ino == kept
    assert staging.image(2).stat().st_ino == damaged
    assert again.disks[1].received_bytes == 2 * result.disks[1].received_bytes, "a stream comes whole"
    assert records_after(staging.ledger(2), "lost") == [("data", 4 * MIB)], "one block was written"
    assert len(verify_disks(verify_input(argument, again), running).disks) == 2


def test_data_in_a_hole_is_found(
    settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    result = export_disks(argument, settings, running)
    flip(staging.image(1), 17 * MIB)
    with pytest.raises(HyperctlError, match=f"{4 * MIB} bytes at {16 * MIB}"):
        verify_disks(verify_input(argument, result), running)


def records_after(ledger: Path, kind: str) -> list[tuple[str, int]]:
    """The blocks that were recorded after the last record of a kind."""
    records = [line.split() for line in ledger.read_text().splitlines()]
    last = max(number for number, record in enumerate(records) if record[0] == kind)
    return [(record[0], int(record[1])) for record in records[last:] if record[0] in ("data", "zero")]


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes((byte[0] ^ 0x01,)))


def test_a_discarded_copy_is_gone(
    settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    export_disks(argument, settings, running)
    asked = DiscardInput(job_id=argument.job_id, output_dir=argument.output_dir)
    assert [one.path for one in discard(asked, settings, running).removed] == [str(staging.folder)]
    assert not staging.folder.exists()
    assert discard(asked, settings, running).removed == ()


def test_images_in_commit_are_left_alone(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    result = export_disks(argument, settings, running)
    verified = verify_disks(verify_input(argument, result), running)
    (staging.folder / MARKER).write_text('{"folder": "/output"}')
    for disk in result.disks:
        Path(disk.path).unlink()
    assert export_disks(argument, settings, running) == result
    assert verify_disks(verify_input(argument, result), running) == verified
    staging.forget("verify_disks", "export_disks")
    assert verify_disks(verify_input(argument, result), running).disks == ()
    with pytest.raises(HyperctlError, match="final images"):
        export_disks(argument, settings, running)
