"""Comparing a landed image with its ledger, block by block, on all cores."""

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from hyperctl.activities.export.direct import aligned_buffer
from hyperctl.activities.export.ledger import Ledger
from hyperctl.activities.verify.landed import LandedReader

READ_BYTES = 4 << 20
"""What is read at a time; each thread keeps a buffer of this size."""
MOST_THREADS = 16
ZERO_BLOCKS_AT_ONCE = 4096
_UNREADABLE = (errno.EIO, errno.ENODATA, errno.EREMOTEIO)


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of a disk that is not what the ledger says."""

    blocks: range
    offset_bytes: int
    length_bytes: int

    def __str__(self) -> str:
        return f"{self.length_bytes} bytes at {self.offset_bytes}"


def differing(
    reader: LandedReader,
    ledger: Ledger,
    data_blocks: Iterable[int],
    advance: Callable[[int], None],
    threads: int | None = None,
) -> list[Extent]:
    """Of these blocks, which have data, and of all blocks of zeroes: those that are not what the ledger says.

    Neighbours are one extent. A block that the storage cannot read is one of them. `advance` is told the
    bytes of data that were read, and may raise to end it.
    """
    threads = threads or min(MOST_THREADS, 2 * len(os.sched_getaffinity(0)))  # one hashes, one reads
    comparison = _Comparison(reader, ledger)
    wrong: list[int] = []
    window: deque[tuple[Future[list[int]], int]] = deque()

    def settle() -> None:
        future, size = window.popleft()
        wrong.extend(future.result())
        advance(size)

    with ThreadPoolExecutor(threads, "verify") as pool:
        try:
            for portion in _zero_runs(ledger):
                window.append((pool.submit(comparison.wrong_zeroes, portion), 0))
                if len(window) >= 2 * threads:
                    settle()
            for block in data_blocks:
                window.append((pool.submit(comparison.wrong_data, block), ledger.header.length(block)))
                if len(window) >= 2 * threads:
                    settle()
            while window:
                settle()
        finally:
            for future, _ in window:
                future.cancel()
    return list(_extents(sorted(wrong), ledger))


def data_blocks(ledger: Ledger) -> list[int]:
    """The blocks that were recorded with something in them."""
    return [block for block in range(ledger.header.blocks) if ledger.blocks.has_data(block)]


class _Comparison:
    def __init__(self, reader: LandedReader, ledger: Ledger) -> None:
        self._reader = reader
        self._ledger = ledger
        self._own = threading.local()

    def wrong_data(self, block: int) -> list[int]:
        header = self._ledger.header
        start = block * header.block_bytes
        end = start + header.length(block)
        hasher = header.hasher()
        try:
            for offset in range(start, end, READ_BYTES):
                piece = self._read(offset, min(READ_BYTES, end - offset))
                hasher.update(piece)
        except OSError as error:
            return _unreadable(error, block)
        self._reader.read_once(start, end - start)
        return [] if hasher.digest() == self._ledger.blocks.digest(block) else [block]

    def wrong_zeroes(self, blocks: range) -> list[int]:
        """A hole costs a system call, however wide it is; what is none is read."""
        header = self._ledger.header
        size = header.block_bytes
        end = min(blocks.stop * size, header.capacity_bytes)
        wrong: set[int] = set()
        for start, stop in self._reader.data_extents(blocks.start * size, end - blocks.start * size):
            for at in range(start - start % size, stop, size):
                if not self._is_zero(max(at, start), min(at + size, stop)):
                    wrong.add(at // size)
        return sorted(wrong)

    def _is_zero(self, start: int, end: int) -> bool:
        try:
            for offset in range(start, end, READ_BYTES):
                piece = bytes(self._read(offset, min(READ_BYTES, end - offset)))
                if piece.count(0) != len(piece):
                    return False
        except OSError as error:
            return not _unreadable(error, 0)
        return True

    def _read(self, offset: int, length: int) -> memoryview:
        """So many bytes, in this thread's own buffer; a short image counts as one that cannot be read."""
        buffer = getattr(self._own, "buffer", None)
        if buffer is None:
            buffer = self._own.buffer = memoryview(aligned_buffer(READ_BYTES))
        piece: memoryview = buffer[:length]
        if self._reader.readinto(piece, offset) != length:
            raise OSError(errno.EIO, "the image ends too early")
        return piece


def _unreadable(error: OSError, block: int) -> list[int]:
    """The block as a wrong one, where the storage cannot read it; any other error is none of the image's."""
    if error.errno not in _UNREADABLE:
        raise error
    return [block]


def _zero_runs(ledger: Ledger) -> Iterator[range]:
    """The blocks of zeroes, in runs of no more than `ZERO_BLOCKS_AT_ONCE`."""
    start: int | None = None
    for block in range(ledger.header.blocks + 1):
        is_zero = block < ledger.header.blocks and ledger.blocks.is_zero(block)
        if start is not None and (not is_zero or block - start == ZERO_BLOCKS_AT_ONCE):
            yield range(start, block)
            start = None
        if is_zero and start is None:
            start = block


def _extents(blocks: list[int], ledger: Ledger) -> Iterator[Extent]:
    header = ledger.header
    start = 0
    for at in range(1, len(blocks) + 1):
        if at == len(blocks) or blocks[at] != blocks[at - 1] + 1:
            run = range(blocks[start], blocks[at - 1] + 1)
            length = sum(header.length(block) for block in run)
            yield Extent(run, run.start * header.block_bytes, length)
            start = at
