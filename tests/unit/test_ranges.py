"""Fetching by ranges: what is missing, over several connections that break."""

import logging
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export import ranges
from hyperctl.activities.export.landing import Landing
from hyperctl.activities.export.ledger import BLOCK_BYTES, LedgerHeader, read_ledger
from hyperctl.activities.export.ranges import Body, Connection, Extent, copy_ranges
from hyperctl.activities.export.throttle import Stopped, Throttle
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.status import Phase

from .landings import landing_in

HEADER = LedgerHeader(21 * BLOCK_BYTES + 512, "test")
CONTENT = random.Random(1).randbytes(BLOCK_BYTES // 4) * 84 + random.Random(2).randbytes(512)


@dataclass
class DiskInMemory:
    """A disk that can be read anywhere, over connections that break as they are told."""

    connections: int = 4
    holes: tuple[Extent, ...] = ()
    break_after_bytes: list[int] = field(default_factory=list)
    """One connection each; the others hold."""
    asked: list[tuple[int, int]] = field(default_factory=list)
    before_byte: dict[int, Callable[[], None]] = field(default_factory=dict)
    """What happens when a byte of the disk is about to be read."""

    def extents(self) -> Iterable[Extent]:
        at = 0
        for hole in self.holes:
            yield Extent(at, hole.offset_bytes - at)
            yield hole
            at = hole.offset_bytes + hole.length_bytes
        yield Extent(at, len(CONTENT) - at)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        yield ConnectionInMemory(self, self.break_after_bytes.pop(0) if self.break_after_bytes else None)


@dataclass
class ConnectionInMemory:
    disk: DiskInMemory
    left_bytes: int | None

    @contextmanager
    def open(self, offset_bytes: int, length_bytes: int) -> Iterator[Body]:
        self.disk.asked.append((offset_bytes, length_bytes))
        content = BytesIO(CONTENT[offset_bytes : offset_bytes + length_bytes])
        yield BodyInMemory(content, self, offset_bytes)


@dataclass
class BodyInMemory:
    file: BytesIO
    connection: ConnectionInMemory
    start_bytes: int

    def readinto(self, buffer: memoryview) -> int:
        happens = self.connection.disk.before_byte.get(self.start_bytes + self.file.tell())
        if happens is not None:
            happens()
        size = min(len(buffer), 100_000)
        if self.connection.left_bytes is not None:
            self.connection.left_bytes -= size
            if self.connection.left_bytes < 0:
                raise HyperctlError(ErrorCode.TRANSFER_INTERRUPTED, "it broke")
        return self.file.readinto(buffer[:size])


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "FIRST_PAUSE_SECONDS", 0.001)


@pytest.fixture
def running() -> Attempt:
    return Attempt(Phase.EXPORT, logging.getLogger("test"))


def copy(disk: DiskInMemory, landing: Landing, running: Attempt, stop: threading.Event | None = None) -> int:
    return copy_ranges(disk, landing, Throttle(), running, stop or threading.Event())


def expected(holes: tuple[Extent, ...]) -> bytes:
    content = bytearray(CONTENT)
    for hole in holes:
        content[hole.offset_bytes : hole.offset_bytes + hole.length_bytes] = bytes(hole.length_bytes)
    return bytes(content)


@pytest.mark.parametrize("connections", [1, 4, 100])
def test_every_block_lands_once(tmp_path: Path, running: Attempt, connections: int) -> None:
    disk = DiskInMemory(connections)
    with landing_in(tmp_path / "disk.raw", tmp_path / "ledger", HEADER) as landing:
        assert copy(disk, landing, running) == len(CONTENT)
        finish = landing.finish("")
        assert landing.done_bytes == landing.total_bytes == len(CONTENT)
    assert (tmp_path / "disk.raw").read_bytes() == CONTENT
    assert finish.received_bytes == len(CONTENT)


def test_blocks_in_holes_are_not_fetched(tmp_path: Path, running: Attempt) -> None:
    holes = (
        Extent(BLOCK_BYTES, 3 * BLOCK_BYTES, True),
        Extent(9 * BLOCK_BYTES - 5, 5, True),
        Extent(20 * BLOCK_BYTES, BLOCK_BYTES + 512, True),
    )
    disk = DiskInMemory(holes=holes)
    with landing_in(tmp_path / "disk.raw", tmp_path / "ledger", HEADER) as landing:
        assert copy(disk, landing, running) == len(CONTENT) - 5 * BLOCK_BYTES - 512 + BLOCK_BYTES
        landing.finish("")
    whole_blocks = (holes[0], Extent(20 * BLOCK_BYTES, BLOCK_BYTES + 512))
    # Of a block with data all is fetched, and then the source has the say about its holes.
    assert (tmp_path / "disk.raw").read_bytes() == expected(whole_blocks)


def test_broken_connections_are_made_again_and_landed_blocks_not_asked_for(
    tmp_path: Path, running: Attempt
) -> None:
    disk = DiskInMemory(2, break_after_bytes=[BLOCK_BYTES * 2 + 5, 10, 0, BLOCK_BYTES + 1, 3 * BLOCK_BYTES])
    with landing_in(tmp_path / "disk.raw", tmp_path / "ledger", HEADER) as landing:
        copy(disk, landing, running)
        finish = landing.finish("")
    assert (tmp_path / "disk.raw").read_bytes() == CONTENT
    assert finish.received_bytes < len(CONTENT) + 5 * BLOCK_BYTES


def test_a_source_that_does_not_come_back_is_given_up(tmp_path: Path, running: Attempt) -> None:
    disk = DiskInMemory(2, break_after_bytes=[0] * 100)
    with (
        landing_in(tmp_path / "disk.raw", tmp_path / "ledger", HEADER) as landing,
        pytest.raises(HyperctlError, match="it broke"),
    ):
        copy(disk, landing, running)


def test_a_second_attempt_fetches_what_is_missing(tmp_path: Path, running: Attempt) -> None:
    paths = tmp_path / "disk.raw", tmp_path / "ledger"
    with landing_in(*paths, HEADER) as landing:
        for block in (0, 1, 2, 7, 21):
            landing.land(block, CONTENT[block * BLOCK_BYTES :][:BLOCK_BYTES])
        landing.sync()
    disk = DiskInMemory(3)
    with landing_in(*paths, HEADER) as landing:
        assert copy(disk, landing, running) == 17 * BLOCK_BYTES
        landing.finish("")
    assert sorted(disk.asked) == [
        (3 * BLOCK_BYTES, 4 * BLOCK_BYTES),
        (8 * BLOCK_BYTES, 8 * BLOCK_BYTES),
        (16 * BLOCK_BYTES, 5 * BLOCK_BYTES),
    ]
    assert paths[0].read_bytes() == CONTENT


def test_it_stops_when_told_to(tmp_path: Path, running: Attempt) -> None:
    stop = threading.Event()
    stop.set()
    with landing_in(tmp_path / "disk.raw", tmp_path / "ledger", HEADER) as landing, pytest.raises(Stopped):
        copy(DiskInMemory(), landing, running, stop)
    assert read_ledger(tmp_path / "ledger").finish is None
