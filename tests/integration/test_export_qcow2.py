"""Copies that land in qcow2 directly: right, sparse, resumed after anything."""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.exceptions import CancelledError
from temporalio.testing import ActivityEnvironment

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.chain import BaseDisk
from hyperctl.activities.commit import commit
from hyperctl.activities.convert.overlay import fresh_overlays
from hyperctl.activities.export.activity import ExportActivities, export_disks
from hyperctl.activities.export.image_reader import open_image
from hyperctl.activities.export.landing import Landing, open_landing
from hyperctl.activities.export.ledger import LedgerHeader, read_ledger
from hyperctl.activities.export.qcow2_image import CLUSTER_BYTES, Qcow2Image, table_bytes
from hyperctl.activities.plan_source import plan_source
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.activities.verify.activity import verify_disks
from hyperctl.workflows.contract import CommitInput, ExportInput, ExportResult
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.request import DiskFormat, FileSource, MigrationRequest
from tests.integration.ledgers import is_whole, recorded
from tests.integration.orders import export_input, verify_input
from tests.moments import SOON_SECONDS, once, until
from tests.processes import is_worked_on
from tests.simulator import VCenterSimulator

from .conftest import MIB
from .exporting import kill, start_export
from .filesystems import mounted
from .landing import start_landing

VM = "web-server-01"
BLOCK = 4 * MIB
CAPACITY = 15 * BLOCK + MIB


@pytest.fixture
def argument(sim: VCenterSimulator, settings: HostSettings, running: Attempt) -> ExportInput:
    return export_input(sim, settings, running, VM, "nfc", format=DiskFormat.QCOW2)


def same(raw: Path, image: Path) -> bool:
    compare = ["qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", str(raw), str(image)]
    return subprocess.run(compare).returncode == 0


def is_sound(image: Path) -> bool:
    return subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", str(image)]).returncode == 0


def assert_right(sim: VCenterSimulator, result: ExportResult) -> None:
    for disk in result.disks:
        assert disk.format == "qcow2"
        assert Path(disk.path).name == f"disk{disk.index}.qcow2"
        assert same(sim.raw_disk(VM, disk.index), Path(disk.path))
        assert is_sound(Path(disk.path))


def test_a_copy_is_the_source_byte_for_byte(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    result = export_disks(argument, settings, running)
    assert_right(sim, result)
    for disk in result.disks:
        image = Path(disk.path)
        assert image.stat().st_mode & 0o077 == 0
        assert disk.allocated_bytes < disk.capacity_bytes
    assert len(verify_disks(verify_input(argument, result), running).disks) == 2
    raw = export_disks(argument.model_copy(update={"format": DiskFormat.RAW}), settings, running)
    assert [disk.root_digest for disk in raw.disks] == [disk.root_digest for disk in result.disks]
    for disk in result.disks:
        assert not Path(disk.path).exists(), "the image of the other format is gone"


def test_a_finished_copy_is_not_made_again(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    first = export_disks(argument, settings, running)
    leases = len(sim.leases(VM))
    staging.forget("export_disks")
    assert export_disks(argument, settings, running).disks == first.disks
    assert len(sim.leases(VM)) == leases


def test_a_byte_that_changed_is_found(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    result = export_disks(argument, settings, running)
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "write -P 9 6M 512", result.disks[1].path],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with pytest.raises(HyperctlError, match="disk2") as caught:
        verify_disks(verify_input(argument, result), running)
    assert caught.value.code is ErrorCode.VERIFICATION_FAILED
    assert "disk1" not in str(caught.value)
    assert_right(sim, export_disks(argument, settings, running))


def test_an_overlay_over_it_is_committed_into_it(
    settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    result = export_disks(argument, settings, running)
    converted = fresh_overlays(tuple(map(BaseDisk.landed, result.disks)), staging, running)
    assert {disk.base_format for disk in converted} == {"qcow2"}
    for disk in converted:
        write = ["qemu-io", "-f", "qcow2", "-c", "write -P 5 1M 1M", disk.overlay]
        subprocess.run(write, check=True, stdout=subprocess.DEVNULL)
    committed = commit(
        CommitInput(
            job_id=argument.job_id,
            output_dir=argument.output_dir,
            vm_name=VM,
            date="2026-01-17",
            disks=converted,
        ),
        running,
    )
    for out in committed.disks:
        assert out.format == "qcow2"
        assert Path(out.path).name == f"disk{out.index}.qcow2"
        read = ["qemu-io", "-f", "qcow2", "-c", "read -P 5 1M 1M", out.path]
        assert subprocess.run(read, stdout=subprocess.DEVNULL).returncode == 0
        assert is_sound(Path(out.path))


def test_a_worker_that_was_killed_is_gone_on_from(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    sim.fault("stall", vm=VM, disk=0, after_bytes=MIB)
    worker = start_export(argument, settings)
    until(lambda: is_whole(staging.ledger(2)) or not worker.is_alive())
    kill(worker)
    inode = staging.image(2, DiskFormat.QCOW2).stat().st_ino
    sim.call("DELETE", "/faults")
    assert_right(sim, export_disks(argument, settings, running))
    assert staging.image(2, DiskFormat.QCOW2).stat().st_ino == inode, "what was whole is kept"
    sim.fault("expire_sessions")  # the dead worker's own, which would idle out


def test_a_cancel_ends_the_making_of_a_large_image(
    tmp_path: Path, settings: HostSettings, running: Attempt
) -> None:
    """By an activity's own cancel, which reaches the thread of the activity alone."""
    source = tmp_path / "large.raw"
    source.write_bytes(b"a disk" * MIB)
    os.truncate(source, 8 << 40)
    file = FileSource(path=str(source))
    machine = plan_source(MigrationRequest(file=file), settings, running).machine
    assert machine is not None
    argument = ExportInput(
        job_id="job-large",
        file=file,
        machine=machine,
        transport="file",
        output_dir=settings.output_dir,
        format=DiskFormat.QCOW2,
    )
    image = Staging(argument.output_dir, argument.job_id).image(1, DiskFormat.QCOW2)
    environment = ActivityEnvironment()
    beats: list[object] = []
    environment.on_heartbeat = lambda *details: beats.append(details)

    def is_being_made() -> bool:
        return image.exists() and len(beats) >= 2

    with once(is_being_made, environment.cancel), pytest.raises(CancelledError):
        environment.run(ExportActivities(settings).export_disks, argument)
    until(lambda: not is_worked_on(image), "what makes it goes on", SOON_SECONDS)


# --- the image itself -----------------------------------------------------------------------------------


def content_of(seed: int) -> bytes:
    """Noise, holes of every size, single bytes."""
    source = random.Random(seed)
    content = bytearray(CAPACITY)
    for _ in range(12):
        start = source.randrange(CAPACITY)
        piece = source.randbytes(source.choice((1, 700, 5000, 70_000, 3 * MIB)))
        content[start : start + len(piece)] = piece[: CAPACITY - start]
    return bytes(content)


HEADER = LedgerHeader.of(CAPACITY, "test")


def opened(path: Path, ledger: Path, running: Attempt) -> Landing:
    return open_landing(lambda fresh: Qcow2Image(path, CAPACITY, running, fresh=fresh), ledger, HEADER)


def block_of(content: bytes, block: int) -> bytes:
    return content[block * BLOCK :][: HEADER.length(block)]


def assert_ledger_is_true(path: Path, ledger: Path, content: bytes, running: Attempt) -> int:
    """Every block that the ledger records is in the image; returns how many these are."""
    blocks = read_ledger(ledger).blocks
    with open_image(path, "qcow2", CAPACITY, running) as image:
        for block in range(HEADER.blocks):
            if blocks.known(block):
                found = bytearray(HEADER.length(block))
                image.readinto(memoryview(found), block * BLOCK)
                assert found == block_of(content, block)
    return blocks.known_count


def test_an_image_to_go_on_with_takes_nothing_for_granted(tmp_path: Path, running: Attempt) -> None:
    path = tmp_path / "disk.qcow2"
    first, second = content_of(1), content_of(2)
    image = Qcow2Image(path, CAPACITY, running, fresh=True)
    image.write(0, first)
    image.sync()
    assert image.read(0, CAPACITY) == first
    image.close()
    image = Qcow2Image(path, CAPACITY, running, fresh=False)
    image.write(0, second[: 5 * BLOCK])
    image.zero(5 * BLOCK, CAPACITY - 5 * BLOCK)
    image.sync()
    assert image.read(0, CAPACITY) == second[: 5 * BLOCK] + bytes(CAPACITY - 5 * BLOCK)
    image.close()
    assert is_sound(path)


def test_a_wide_hole_is_zeroed_at_once_and_takes_nothing(tmp_path: Path, running: Attempt) -> None:
    path = tmp_path / "disk.qcow2"
    capacity = 1 << 35
    Qcow2Image(path, capacity, running, fresh=True).close()
    image = Qcow2Image(path, capacity, running, fresh=False)
    image.write(capacity - CLUSTER_BYTES, b"end!" * (CLUSTER_BYTES // 4))
    image.zero(0, capacity)
    image.sync()
    assert image.read(capacity - CLUSTER_BYTES, CLUSTER_BYTES) == bytes(CLUSTER_BYTES)
    assert table_bytes(capacity) <= image.allocated_bytes <= table_bytes(capacity) + MIB
    image.close()


def test_what_cannot_be_gone_on_with_is_refused(tmp_path: Path, running: Attempt) -> None:
    path = tmp_path / "disk.qcow2"
    with pytest.raises(FileNotFoundError):
        Qcow2Image(path, CAPACITY, running, fresh=False)
    path.write_bytes(b"no image at all" * 1000)
    with pytest.raises(ValueError, match="cannot be opened"):
        Qcow2Image(path, CAPACITY, running, fresh=False)
    Qcow2Image(path, CAPACITY, running, fresh=True).close()
    with pytest.raises(ValueError, match="of its own"):
        Qcow2Image(path, CAPACITY + MIB, running, fresh=False)
    base = tmp_path / "base.raw"
    base.write_bytes(bytes(CAPACITY))
    path.unlink()
    subprocess.run(["qemu-img", "create", "-qf", "qcow2", "-F", "raw", "-b", base, path], check=True)
    with pytest.raises(ValueError, match="of its own"):
        Qcow2Image(path, CAPACITY, running, fresh=False)
    path.unlink()
    subprocess.run(["qemu-img", "create", "-qf", "qcow2", path, str(CAPACITY)], check=True)
    with pytest.raises(ValueError, match="no place for what is at 0"):
        Qcow2Image(path, CAPACITY, running, fresh=False)


@pytest.mark.parametrize("seed", range(6))
def test_a_process_that_is_killed_leaves_a_true_ledger(seed: int, tmp_path: Path, running: Attempt) -> None:
    path, ledger = tmp_path / "disk.qcow2", tmp_path / "ledger"
    content = random.Random(100 + seed).randbytes(CAPACITY)
    worker = start_landing(path, ledger, HEADER, content, seed)
    until(lambda: recorded(ledger) or not worker.is_alive())
    assert worker.is_alive()
    time.sleep(random.Random(seed).uniform(0.0, 0.1))
    kill(worker)
    known = assert_ledger_is_true(path, ledger, content, running)
    assert is_sound(path)
    with opened(path, ledger, running) as landing:
        assert landing.blocks.known_count == known, "nothing of it is landed again"
        for block in landing.blocks.missing():
            landing.land(block, block_of(content, block))
        landing.sync()
        landing.finish("")
    assert is_sound(path)
    assert assert_ledger_is_true(path, ledger, content, running) == HEADER.blocks


def test_a_disk_of_many_tables_is_where_qemu_finds_it(tmp_path: Path, running: Attempt) -> None:
    """Tables lie between the stretches of data: what crosses from one to the next is in both."""
    path, capacity = tmp_path / "disk.qcow2", (5 << 30) + 512
    image = Qcow2Image(path, capacity, running, fresh=True)
    places = [at - 3 * CLUSTER_BYTES - 700 for at in range(512 * MIB, 5 << 30, 512 * MIB)]
    places.append(capacity - 6 * CLUSTER_BYTES - 1000)
    pieces = {at: random.Random(at).randbytes(6 * CLUSTER_BYTES + 1000) for at in places}
    for at, piece in pieces.items():
        image.write(at, piece)
    image.sync()
    assert all(image.read(at, len(piece)) == piece for at, piece in pieces.items())
    image.close()
    assert is_sound(path)
    with open_image(path, "qcow2", capacity, running) as reader:
        for at, piece in pieces.items():
            found = bytearray(len(piece))
            reader.readinto(memoryview(found), at)
            assert found == piece
        data = sum(end - start for start, end in reader.data_extents(0, capacity))
    assert data < 2 * sum(map(len, pieces.values())), "the rest is known to be zero"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    with mounted("tmpfs", tmp_path, 24) as place:
        yield place


def test_a_full_disk_has_its_errno_and_is_gone_on_with(small_disk: Path, running: Attempt) -> None:
    path, ledger = small_disk / "disk.qcow2", small_disk / "ledger"
    content = random.Random(8).randbytes(CAPACITY)

    def land_all(landing: Landing) -> None:
        for block in landing.blocks.missing():
            landing.land(block, block_of(content, block))
            landing.sync()

    with pytest.raises(OSError, match="No space") as caught, opened(path, ledger, running) as landing:
        land_all(landing)
    assert caught.value.errno == 28
    known = assert_ledger_is_true(path, ledger, content, running)
    assert 3 <= known < HEADER.blocks
    subprocess.run(["mount", "-o", "remount,size=96m", str(small_disk)], check=True)
    with opened(path, ledger, running) as landing:
        land_all(landing)
    assert assert_ledger_is_true(path, ledger, content, running) == HEADER.blocks
    assert is_sound(path)


def test_a_full_disk_that_is_waited_for_loses_nothing(small_disk: Path, running: Attempt) -> None:
    """The same image goes on once there is room."""
    path, ledger = small_disk / "disk.qcow2", small_disk / "ledger"
    content = random.Random(9).randbytes(CAPACITY)
    told: list[int] = []

    def hold(error: OSError) -> None:
        told.append(error.errno or 0)
        subprocess.run(["mount", "-o", "remount,size=96m", str(small_disk)], check=True)

    with open_landing(
        lambda fresh: Qcow2Image(path, CAPACITY, running, fresh=fresh), ledger, HEADER, hold=hold
    ) as landing:
        for block in range(HEADER.blocks):
            landing.land(block, block_of(content, block))
        landing.sync()
        landing.finish("")
    assert told[:1] == [28]
    assert assert_ledger_is_true(path, ledger, content, running) == HEADER.blocks
    assert is_sound(path)


def test_a_full_disk_of_the_job_has_its_code(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput, small_disk: Path
) -> None:
    with pytest.raises(HyperctlError) as caught:
        export_disks(argument.model_copy(update={"output_dir": str(small_disk)}), settings, running)
    assert caught.value.code is ErrorCode.NO_SPACE
