"""A disk that is far away, as somebody here may read it: every part of it is fetched once, and kept."""

import contextlib
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.ranges import Connection, DiskReader, persistently, runs
from hyperctl.activities.export.throttle import Stopped
from hyperctl.workflows.errors import ErrorCode, HyperctlError

BLOCK_BYTES = 64 << 10
"""What is fetched at least: a guest reads a twentieth of its disk, in small pieces all over it."""
REQUEST_BLOCKS = 16
"""What is fetched at once at most."""
READ_AHEAD_BLOCKS = 2
"""Fetched beyond what was asked for where a read goes on from what is here."""
TRIES = 6
"""Of one fetch: a quarter of a minute of pauses."""
SLOW_SECONDS = 60.0
"""Of waiting for the source, after each of which its rate is looked at."""
SLOWEST_BYTES_PER_SECOND = 256 << 10
"""Below it a guest does not start in the time that it is given, and its services time out."""


class FetchedDisk:
    """Reads through a `DiskReader` over several connections. Safe to use from several threads.

    What is here lies in a file without a name in `folder`, gone with this process. After a fetch that has
    failed for good every read fails; `check` says why.
    """

    def __init__(
        self,
        name: str,
        reader: DiskReader,
        capacity_bytes: int,
        folder: Path,
        stop: threading.Event,
        attempt: Attempt,
    ) -> None:
        """`stop` is the one that the reader obeys, and this disk's own."""
        self.name = name
        self.capacity_bytes = capacity_bytes
        self.fetched_bytes = 0
        self.waited_seconds = 0.0
        """During which at least one fetch was under way."""
        self._reader = reader
        self._attempt = attempt
        self._kept = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._changed = threading.Condition()
        self._here: set[int] = set()
        self._coming: set[int] = set()
        self._failure: BaseException | None = None
        self._stop = stop
        self._ways = threading.Semaphore(max(1, reader.connections))
        self._idle: deque[tuple[contextlib.ExitStack, Connection]] = deque()
        self._fetching = 0
        self._fetching_since = 0.0
        self._looked = (0.0, 0)

    def __enter__(self) -> "FetchedDisk":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End what is on its way and let everything go."""
        self.stop()
        with self._changed:
            self._changed.wait_for(lambda: not self._fetching)
        while self._idle:
            stack, _ = self._idle.pop()
            stack.close()
        self._kept.close()

    def stop(self) -> None:
        """From now on every read fails, also those that wait."""
        self._stop.set()
        with self._changed:
            self._failure = self._failure or Stopped()
            self._changed.notify_all()

    def has(self, offset_bytes: int, length_bytes: int) -> bool:
        """Whether a read would wait for nothing."""
        with self._changed:
            return self._failure is None and self._here.issuperset(self._blocks(offset_bytes, length_bytes))

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """A stretch within the capacity; blocks until it is here. Raises what `check` does, or `Stopped`."""
        if length_bytes <= 0:
            return b""
        wanted = self._blocks(offset_bytes, length_bytes)
        while True:
            with self._changed:
                if self._failure is not None:
                    raise self._failure
                missing = [block for block in wanted if block not in self._here]
                if not missing:
                    return os.pread(self._kept.fileno(), length_bytes, offset_bytes)
                run = self._claimed(missing)
                if run is None:
                    self._changed.wait()
                    continue
            self._fetch(run)

    def check(self) -> None:
        """Raise the `HyperctlError` for which it cannot be read, or cannot be read fast enough."""
        with self._changed:
            failure = self._failure or self._slowness()
            self._failure = failure
            if failure is not None:
                self._changed.notify_all()
        if failure is not None:
            raise failure

    @property
    def waited_until_now_seconds(self) -> float:
        with self._changed:
            return self.waited_seconds + self._current_wait()

    def _blocks(self, offset_bytes: int, length_bytes: int) -> range:
        return range(offset_bytes // BLOCK_BYTES, (offset_bytes + length_bytes - 1) // BLOCK_BYTES + 1)

    def _claimed(self, missing: list[int]) -> range | None:
        """A run of blocks that this thread is to fetch; None where others fetch all that is missing."""
        free = [block for block in missing if block not in self._coming]
        if not free:
            return None
        first = next(runs(free))
        run = range(first.start, min(first.stop, first.start + REQUEST_BLOCKS))
        if run.start - 1 in self._here and len(run) < REQUEST_BLOCKS:
            last = (self.capacity_bytes - 1) // BLOCK_BYTES
            stop = run.stop
            while stop < run.stop + READ_AHEAD_BLOCKS and stop <= last and not self._is_known(stop):
                stop += 1
            run = range(run.start, stop)
        self._coming.update(run)
        return run

    def _is_known(self, block: int) -> bool:
        return block in self._here or block in self._coming

    def _fetch(self, run: range) -> None:
        """Bring blocks that this thread has claimed; a failure is kept and ends every other read."""
        offset = run.start * BLOCK_BYTES
        buffer = bytearray(min(len(run) * BLOCK_BYTES, self.capacity_bytes - offset))
        failure: BaseException | None = None
        with self._under_way():
            try:
                persistently(lambda: self._fill(buffer, offset), self._attempt, self._stop, TRIES)
                os.pwrite(self._kept.fileno(), buffer, offset)
            except BaseException as error:
                failure = error
            with self._changed:
                self._coming.difference_update(run)
                if failure is None:
                    self._here.update(run)
                    self.fetched_bytes += len(buffer)
                elif self._failure is None:
                    self._failure = failure
                self._changed.notify_all()

    def _fill(self, buffer: bytearray, offset: int) -> None:
        view = memoryview(buffer)
        with self._connection() as connection, connection.open(offset, len(buffer)) as body:
            filled = 0
            while filled < len(view):
                size = body.readinto(view[filled:])
                if not size:
                    raise HyperctlError(
                        ErrorCode.TRANSFER_INTERRUPTED,
                        f"an answer for {self.name} ended {len(view) - filled} bytes too early",
                    )
                filled += size

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """One of those that are open, or another; one that broke is not used again."""
        with self._ways:
            with self._changed:
                stack, connection = self._idle.pop() if self._idle else (None, None)
            if stack is None or connection is None:
                with contextlib.ExitStack() as opening:
                    connection = opening.enter_context(self._reader.connect())
                    stack = opening.pop_all()
            try:
                yield connection
            except BaseException:
                stack.close()
                raise
            with self._changed:
                self._idle.append((stack, connection))

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        with self._changed:
            if not self._fetching:
                self._fetching_since = time.monotonic()
            self._fetching += 1
        try:
            yield
        finally:
            with self._changed:
                self.waited_seconds += self._current_wait() if self._fetching == 1 else 0.0
                self._fetching -= 1
                self._changed.notify_all()

    def _current_wait(self) -> float:
        return time.monotonic() - self._fetching_since if self._fetching else 0.0

    def _slowness(self) -> HyperctlError | None:
        """The source's rate over the last minute of waiting for it, where that is too low."""
        waited = self.waited_seconds + self._current_wait()
        since_seconds, since_bytes = self._looked
        seconds, size = waited - since_seconds, self.fetched_bytes - since_bytes
        if seconds < SLOW_SECONDS:
            return None
        self._looked = (waited, self.fetched_bytes)
        if size >= SLOWEST_BYTES_PER_SECOND * seconds:
            return None
        return too_slow(f"{self.name} comes", size / seconds)


def too_slow(what_comes: str, bytes_per_second: float) -> HyperctlError:
    """Of a source from which no guest would start in the time that it is given."""
    return HyperctlError(
        ErrorCode.TRANSFER_INTERRUPTED,
        f"{what_comes} at {bytes_per_second / 1024:.0f} KiB/s, too slow for a guest to start from",
        "See what the network and the datastore are busy with, and rehearse again.",
    )
