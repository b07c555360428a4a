"""The estimate of a migration: bounds that hold, from reads of a real file, and no figure out of thin air."""

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from temporalio.exceptions import CancelledError

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.ranges import Extent
from hyperctl.activities.rehearse import estimate as module
from hyperctl.activities.rehearse.estimate import estimate, share_bounds, take_sample
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.estimate import Sample
from hyperctl.workflows.request import TransportChoice
from hyperctl.workflows.status import Phase
from tests.unit.machines import GIB, disk, machine

MIB = 1 << 20


@dataclass
class FileDisk:
    """A sparse file as a disk that is far away: so many bytes a second and connection, or none at all."""

    path: Path
    connections: int = 4
    bytes_per_second: float = 0.0
    breaks: int = 0
    """So many requests break before one is answered."""

    def extents(self) -> Iterable[Extent]:
        return (Extent(0, self.path.stat().st_size),)

    @contextmanager
    def connect(self) -> "Iterator[FileConnection]":
        with self.path.open("rb", buffering=0) as file:
            yield FileConnection(self, file.fileno())


@dataclass
class FileConnection:
    disk: FileDisk
    descriptor: int

    @contextmanager
    def open(self, offset_bytes: int, length_bytes: int) -> "Iterator[FileBody]":
        if self.disk.breaks > 0:
            self.disk.breaks -= 1
            raise HyperctlError(ErrorCode.TRANSFER_INTERRUPTED, "the line is cut")
        yield FileBody(self, offset_bytes, offset_bytes + length_bytes)


@dataclass
class FileBody:
    connection: FileConnection
    at: int
    end: int

    def readinto(self, buffer: memoryview) -> int:
        size = os.preadv(self.connection.descriptor, [buffer[: self.end - self.at]], self.at)
        if self.connection.disk.bytes_per_second:
            time.sleep(size / self.connection.disk.bytes_per_second)
        self.at += size
        return size


def _file(folder: Path, capacity_bytes: int, data_bytes: int) -> Path:
    path = folder / "disk.raw"
    with path.open("wb") as file:
        file.truncate(capacity_bytes)
        for at in range(0, data_bytes, MIB):
            file.seek(at)
            file.write(b"x" * min(MIB, data_bytes - at))
    return path


def _attempt() -> Attempt:
    return Attempt(Phase.REHEARSE, logging.getLogger("test"))


def test_a_sample_says_how_fast_and_how_full(tmp_path: Path) -> None:
    capacity = 256 * MIB
    slow = FileDisk(_file(tmp_path, capacity, capacity // 2), bytes_per_second=32 * MIB)
    sample = take_sample([(disk(capacity_bytes=capacity), slow)], _attempt(), threading.Event())
    assert sample.blocks == module.PLACES
    assert sample.data_blocks == pytest.approx(sample.blocks / 2, abs=2)
    assert sample.connections == 4
    assert 0 < sample.read_bytes < module.SAMPLE_BYTES
    assert 4 * MIB < sample.bytes_per_second < 4 * 32 * MIB
    found = estimate(machine(disks=(disk(capacity_bytes=capacity),), allocated_bytes=capacity), sample, 60)
    assert found is not None
    assert found.land_bytes_low < capacity // 2 < found.land_bytes_high < capacity
    assert found.copy_seconds == pytest.approx(capacity / sample.bytes_per_second, abs=0.1)


def test_a_slow_source_is_read_for_seconds_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE_SECONDS", 0.5)
    slow = FileDisk(_file(tmp_path, 64 * MIB, 0), bytes_per_second=200_000)
    began = time.monotonic()
    sample = take_sample([(disk(capacity_bytes=64 * MIB), slow)], _attempt(), threading.Event())
    assert time.monotonic() - began < 60, "all of it takes five minutes"
    assert sample.bytes_per_second < 1_000_000
    assert sample.blocks < module.PLACES


def test_a_connection_that_breaks_is_opened_anew(tmp_path: Path) -> None:
    broken = FileDisk(_file(tmp_path, 8 * MIB, 0), breaks=2)
    sample = take_sample([(disk(capacity_bytes=8 * MIB), broken)], _attempt(), threading.Event())
    assert sample.read_bytes > 0
    broken.breaks = 1000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TRIES", 2)
        with pytest.raises(HyperctlError, match="the line is cut"):
            take_sample([(disk(capacity_bytes=8 * MIB), broken)], _attempt(), threading.Event())


def test_a_cancel_ends_it(tmp_path: Path) -> None:
    stop, attempt = threading.Event(), _attempt()
    slow = FileDisk(_file(tmp_path, 64 * MIB, 0), bytes_per_second=100_000)
    threading.Timer(0.3, attempt.stop).start()
    began = time.monotonic()
    with pytest.raises(CancelledError):
        take_sample([(disk(capacity_bytes=64 * MIB), slow)], attempt, stop)
    assert stop.is_set()
    assert time.monotonic() - began < 60, "all of it takes ten minutes"


def test_what_the_datastore_has_allocated_bounds_what_lands() -> None:
    sample = Sample(connections=4, read_bytes=MIB, seconds=1, blocks=64, data_blocks=8)
    thin = disk().model_copy(update={"allocated_bytes": GIB // 4})
    found = estimate(machine(disks=(thin,), allocated_bytes=GIB // 4), sample, 0)
    assert found is not None
    assert found.land_bytes_high == GIB // 4
    assert found.land_bytes_low <= found.land_bytes_high
    assert "allocated" in found.land_basis
    assert found.transfer_bytes == machine().capacity_bytes, "HTTP knows no holes"
    by_library = estimate(machine(disks=(thin,), allocated_bytes=GIB // 4), sample, 0, TransportChoice.VDDK)
    assert by_library is not None
    assert by_library.transfer_bytes == found.land_bytes_high
    unknown = estimate(machine(disks=(disk(),), allocated_bytes=GIB // 4), sample, 0)
    assert unknown is not None
    assert unknown.land_bytes_high > GIB // 4
    assert "allocated" not in unknown.land_basis


def test_without_a_measure_there_is_no_figure() -> None:
    assert estimate(machine(), Sample(connections=4, read_bytes=0, seconds=0), 10) is None
    nothing_seen = estimate(machine(), Sample(connections=1, read_bytes=MIB, seconds=1), 10)
    assert nothing_seen is not None
    assert (nothing_seen.land_bytes_low, nothing_seen.land_bytes_high) == (0, machine().capacity_bytes)


@pytest.mark.parametrize("hits", [0, 1, 32, 63, 64])
def test_bounds_hold_the_share(hits: int) -> None:
    low, high = share_bounds(hits, 64)
    assert 0 <= low <= hits / 64 <= high <= 1
    assert high - low < 0.26
    assert low < high
