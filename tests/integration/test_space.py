"""A target file system that fills up in mid-copy, and gets room later: real ones, mounted for the test."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.exceptions import CancelledError

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.activity import export_disks
from hyperctl.activities.export.disk_copy import DiskCopy
from hyperctl.activities.export.ledger import BLOCK_BYTES, read_ledger
from hyperctl.activities.export.space_watch import SpaceWatch
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import ExportInput, ExportResult
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.request import DiskFormat
from tests.integration.ledgers import is_whole
from tests.integration.orders import export_input
from tests.moments import LONGEST_SECONDS, SOON_SECONDS, until
from tests.simulator import VCenterSimulator
from tests.unit.sources import SourceInMemory, disk_in_memory
from tests.unit.test_ranges import CONTENT, DiskInMemory

from .conftest import LEASE_TIMEOUT_SECONDS, MIB, sha256
from .exporting import copying_threads
from .filesystems import fill, mounted

VM = "web-server-01"


@pytest.fixture(params=["tmpfs", "ext4"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with mounted(request.param, tmp_path) as place:
        yield place


@pytest.fixture(params=[0, 2 * MIB], ids=["until it is full", "with a reserve"])
def settings(request: pytest.FixtureRequest, settings: HostSettings, small: Path) -> HostSettings:
    return settings.model_copy(
        update={"output_dir": str(small / "output"), "space_reserve_bytes": request.param}
    )


@pytest.fixture
def argument(sim: VCenterSimulator, settings: HostSettings, running: Attempt) -> ExportInput:
    sim.fault("stall", vm=VM, disk=0, after_bytes=MIB)
    return export_input(sim, settings, running, VM, "nfc", job_id="job-space")


class Copying:
    """An export on a thread, in whose way one can put things. Its first disk stalls soon."""

    def __init__(
        self,
        sim: VCenterSimulator,
        argument: ExportInput,
        settings: HostSettings,
        running: Attempt,
        log: pytest.LogCaptureFixture,
    ) -> None:
        self.staging = Staging(argument.output_dir, argument.job_id)
        self.result: ExportResult | None = None
        self.error: BaseException | None = None
        self._sim = sim
        self._arguments = argument, settings, running
        self._log = log
        log.set_level(logging.INFO)
        self._filler = Path(argument.output_dir).parent / "filler"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = export_disks(*self._arguments)
        except BaseException as error:
            self.error = error

    def fill(self) -> None:
        """Take all room there is, once the first disk has begun to land, and let that go on."""
        until(self.staging.image(1).exists, lambda: self._log.text)
        fill(self._filler)
        self._sim.call("DELETE", "/faults")
        until(lambda: self.is_held or not self._thread.is_alive(), lambda: self._log.text)
        assert self.is_held, self.error

    @property
    def is_held(self) -> bool:
        return f"no space left in {self.staging.folder}" in self._log.text

    def make_room(self) -> None:
        self._filler.unlink()

    def end(self, seconds: float = LONGEST_SECONDS) -> None:
        self._thread.join(seconds)
        assert not self._thread.is_alive()


def assert_right(sim: VCenterSimulator, result: ExportResult | None) -> None:
    assert result is not None
    for disk in result.disks:
        assert sha256(Path(disk.path)) == sha256(sim.raw_disk(VM, disk.index)), disk.source_name


def test_a_copy_holds_while_its_file_system_is_full_and_goes_on_by_itself(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    caplog: pytest.LogCaptureFixture,
) -> None:
    copying = Copying(sim, argument, settings, running, caplog)
    copying.fill()
    time.sleep(LEASE_TIMEOUT_SECONDS + 2)
    assert copying.error is None
    assert sim.active_leases() != [], "the lease is kept alive"
    copying.make_room()
    copying.end()
    assert copying.error is None
    assert_right(sim, copying.result)
    assert "MiB are missing" in caplog.text
    assert "going on" in caplog.text
    assert sim.leases(VM)[-1]["outcome"] == "completed"


def test_a_held_copy_stops_soon(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    caplog: pytest.LogCaptureFixture,
) -> None:
    copying = Copying(sim, argument, settings, running, caplog)
    copying.fill()
    running.stop()
    copying.end(SOON_SECONDS)
    assert isinstance(copying.error, CancelledError)
    assert sim.active_leases() == []
    until(lambda: not copying_threads(), copying_threads, SOON_SECONDS)


def test_a_copy_that_is_held_too_long_gives_up_and_keeps_what_is_whole(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    caplog: pytest.LogCaptureFixture,
) -> None:
    impatient = settings.model_copy(update={"space_patience_seconds": 1.0})
    copying = Copying(sim, argument, impatient, running, caplog)
    until(lambda: is_whole(copying.staging.ledger(2)), caplog.text)
    copying.fill()
    copying.end()
    assert isinstance(copying.error, HyperctlError)
    assert copying.error.code is ErrorCode.NO_SPACE
    assert "are missing" in str(copying.error)
    assert sim.leases(VM)[-1]["outcome"] == "aborted"
    inode = copying.staging.image(2).stat().st_ino

    with pytest.raises(HyperctlError) as refused:
        export_disks(argument, settings, running)
    assert refused.value.code is ErrorCode.NO_SPACE, "there is still no room"
    copying.make_room()
    assert_right(sim, export_disks(argument, settings, running))
    assert copying.staging.image(2).stat().st_ino == inode


def test_what_was_fetched_by_ranges_before_the_giving_up_is_not_fetched_again(
    small: Path, running: Attempt
) -> None:
    staging = Staging(small / "output", "job-space")
    staging.create()
    disk = disk_in_memory(1)
    reader = DiskInMemory()
    source = SourceInMemory(running, {disk.name: reader})

    def copy() -> DiskCopy:
        copy = DiskCopy(1, disk, staging, "vm", DiskFormat.RAW, running)
        watch = SpaceWatch(staging.folder, 0, 0.5, lambda: copy.bytes_to_come)
        copy.start(source, watch, threading.Event())
        assert copy.join(time.monotonic() + LONGEST_SECONDS)
        if copy.error is None:
            assert copy.confirm(source, last=True)
        copy.close()
        return copy

    filler = small / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 70 * MIB)
    first = copy()
    assert isinstance(first.error, HyperctlError)
    assert first.error.code is ErrorCode.NO_SPACE
    missing = read_ledger(staging.ledger(1)).blocks.missing()
    assert 4 < len(missing) < 20, "it was filled in the middle"

    filler.unlink()
    reader.asked.clear()
    assert copy().error is None
    assert sum(length for _, length in reader.asked) <= len(missing) * BLOCK_BYTES
    assert staging.image(1).read_bytes() == CONTENT
