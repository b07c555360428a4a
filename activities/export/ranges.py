"""Fetching a disk that can be read anywhere: what is missing of it, in chunks, over several connections."""

import mmap
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.direct import aligned_buffer
from hyperctl.activities.export.landing import Landing
from hyperctl.activities.export.ledger import LedgerHeader
from hyperctl.activities.export.throttle import Stopped, Throttle
from hyperctl.workflows.errors import ErrorCode, HyperctlError

CHUNK_BYTES = 32 << 20
"""What one request asks for."""
TRIES = 8
"""In a row, of one connection, without a single block in between."""
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of a disk."""

    offset_bytes: int
    length_bytes: int
    is_zero: bool = False


class Body(Protocol):
    """The bytes that were asked for, in their order."""

    def readinto(self, buffer: memoryview) -> int:
        """Some more of them, 0 only at their end."""


class Connection(Protocol):
    """One way to the disk, used by one thread."""

    def open(self, offset_bytes: int, length_bytes: int) -> AbstractContextManager[Body]:
        """Ask for a stretch. What breaks on the way raises `HyperctlError` (`transfer_interrupted`)."""


class DiskReader(Protocol):
    """A disk that can be read anywhere."""

    connections: int
    """How many may be open at a time."""

    def extents(self) -> Iterable[Extent]:
        """The whole disk in ascending order; one extent with data where nothing is known of holes."""

    def connect(self) -> AbstractContextManager[Connection]:
        """Another connection. Raises `HyperctlError` as `Connection.open` does."""


def copy_ranges(
    reader: DiskReader, landing: Landing, throttle: Throttle, attempt: Attempt, stop: threading.Event
) -> int:
    """Land every block that is missing and return the bytes fetched; all is synced then.

    A connection that breaks is opened anew, after a pause that grows; what it had not landed is asked for
    again. Raises `Stopped`, and the last `HyperctlError` of a connection that does not come back.
    """
    zero, data = _missing(landing, reader.extents())
    for run in zero:
        landing.land_zeroes(run)
    chunks = deque(_chunks(data, landing.header))
    fetched = sum(landing.header.length(block) for chunk in chunks for block in chunk)
    landing.resumed_bytes = landing.done_bytes = landing.landed_bytes
    landing.total_bytes = landing.landed_bytes + fetched
    crew = _Crew(reader, landing, throttle, attempt, stop, chunks)
    crew.work()
    landing.sync()
    return fetched


def pause_seconds(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    longest = min(FIRST_PAUSE_SECONDS * 2.0**failures, LONGEST_PAUSE_SECONDS)
    return longest * random.uniform(0.5, 1)


def persistently(work: Callable[[], T], attempt: Attempt, stop: threading.Event, tries: int = TRIES) -> T:
    """Do something small that is as often broken off, in the same way. Raises as `copy_ranges` does."""
    failures = 0
    while True:
        try:
            return work()
        except HyperctlError as error:
            failures += 1
            if error.code is not ErrorCode.TRANSFER_INTERRUPTED or failures >= tries:
                raise
            pause = pause_seconds(failures)
            attempt.log.warning("%s; again in %.1f s", error, pause)
            if stop.wait(pause):
                raise Stopped from error


class _Crew:
    """The threads that fetch one disk."""

    def __init__(
        self,
        reader: DiskReader,
        landing: Landing,
        throttle: Throttle,
        attempt: Attempt,
        stop: threading.Event,
        chunks: deque[range],
    ) -> None:
        self._reader = reader
        self._landing = landing
        self._throttle = throttle
        self._attempt = attempt
        self._stop = stop
        self._chunks = chunks
        self._lock = threading.Lock()
        self._failed = threading.Event()
        self._error: BaseException | None = None

    def work(self) -> None:
        count = max(1, min(self._reader.connections, len(self._chunks)))
        threads = [threading.Thread(target=self._run, name="disk-range", daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._stop.is_set():
            raise Stopped
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._fetch_chunks()
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self._failed.set()

    def _fetch_chunks(self) -> None:
        failures = 0
        left = range(0)
        while True:
            try:
                with self._reader.connect() as connection:
                    while left := left or self._next():
                        for rest in self._fetch(connection, left):
                            left, failures = rest, 0
                return
            except HyperctlError as error:
                failures += 1
                if error.code is not ErrorCode.TRANSFER_INTERRUPTED or failures >= TRIES:
                    raise
                pause = pause_seconds(failures)
                self._attempt.log.warning("%s; again in %.1f s", error, pause)
                if self._stop.wait(pause):
                    raise Stopped from error

    def _fetch(self, connection: Connection, chunk: range) -> Iterator[range]:
        """Land a chunk block by block; yields what is left of it."""
        header = self._landing.header
        length = sum(header.length(block) for block in chunk)
        buffer = aligned_buffer(header.block_bytes)
        with connection.open(chunk.start * header.block_bytes, length) as body:
            for block in chunk:
                if len(buffer) != header.length(block):
                    buffer = aligned_buffer(header.length(block))
                self._fill(body, buffer)
                self._landing.land(block, buffer)
                with self._lock:
                    self._landing.done_bytes += len(buffer)
                yield range(block + 1, chunk.stop)

    def _fill(self, body: Body, buffer: mmap.mmap) -> None:
        view = memoryview(buffer)
        filled = 0
        while filled < len(view):
            if self._stop.is_set() or self._failed.is_set():
                raise Stopped
            size = body.readinto(view[filled:])
            if not size:
                raise HyperctlError(
                    ErrorCode.TRANSFER_INTERRUPTED, f"the answer ended {len(view) - filled} bytes too early"
                )
            filled += size
            self._landing.received(size)
            self._throttle.take(size, self._stop)

    def _next(self) -> range:
        """Another chunk; an empty one when there is none."""
        with self._lock:
            return self._chunks.popleft() if self._chunks else range(0)


def _missing(landing: Landing, extents: Iterable[Extent]) -> tuple[list[range], list[int]]:
    """Of the blocks that are missing: the runs that are nothing but zeroes, and those with data."""
    header = landing.header
    has_data = bytearray(header.blocks)
    for extent in extents:
        if extent.length_bytes and not extent.is_zero:
            first = extent.offset_bytes // header.block_bytes
            last = (extent.offset_bytes + extent.length_bytes - 1) // header.block_bytes
            has_data[first : last + 1] = b"\1" * (min(last, header.blocks - 1) - first + 1)
    missing = landing.blocks.missing()
    data = [block for block in missing if has_data[block]]
    zero = list(runs([block for block in missing if not has_data[block]]))
    return zero, data


def runs(blocks: Sequence[int]) -> Iterator[range]:
    """Ascending numbers as runs of neighbours."""
    start = 0
    for at in range(1, len(blocks) + 1):
        if at == len(blocks) or blocks[at] != blocks[at - 1] + 1:
            yield range(blocks[start], blocks[at - 1] + 1)
            start = at


def _chunks(blocks: Sequence[int], header: LedgerHeader) -> Iterator[range]:
    most = max(1, CHUNK_BYTES // header.block_bytes)
    for run in runs(blocks):
        for start in range(run.start, run.stop, most):
            yield range(start, min(start + most, run.stop))
