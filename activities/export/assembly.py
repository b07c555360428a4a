"""Whole blocks from the pieces of a stream."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from hyperctl.activities.export.landing import Landing

THREADS = 2
"""Hash and write blocks while the next pieces are decoded."""
MOST_BLOCKS = 4
"""That wait to be landed."""


class BlockAssembler:
    """Takes pieces of a disk in any order, best in ascending order, from one thread.

    A block lands, on another thread, when a piece of another block arrives. Pieces that come back to an
    earlier block are right too, only slower. Errors of the storage are raised to whoever writes next. A
    context manager: after it nothing lands any more.
    """

    def __init__(self, landing: Landing) -> None:
        self._landing = landing
        self._header = landing.header
        self._seen = bytearray(self._header.blocks)
        self._block: int | None = None
        self._buffer = bytearray()
        self._pool = ThreadPoolExecutor(THREADS, "disk-land")
        self._landings: deque[Future[None]] = deque()

    def __enter__(self) -> "BlockAssembler":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def write(self, offset: int, data: bytes) -> None:
        """Take a piece that lies within the disk."""
        if offset < 0 or offset + len(data) > self._header.capacity_bytes:
            raise ValueError(f"a piece at {offset} of {len(data)} bytes lies outside of the disk")
        block_bytes = self._header.block_bytes
        taken = 0
        while taken < len(data):
            block, within = divmod(offset + taken, block_bytes)
            if block != self._block:
                self._seal()
                self._open(block)
            size = min(len(data) - taken, block_bytes - within)
            self._buffer[within : within + size] = data[taken : taken + size]
            taken += size
        self._landing.done_bytes += len(data)

    def complete(self) -> None:
        """Everything was taken: what no piece covered is zero. All of it is durable on return."""
        self._seal()
        self._settle()
        start: int | None = None
        for block in range(self._header.blocks + 1):
            unseen = block < self._header.blocks and not (self._seen[block] or self._is_zero(block))
            if unseen and start is None:
                start = block
            elif not unseen and start is not None:
                self._landing.land_zeroes(range(start, block))
                start = None
        self._landing.sync()

    def _is_zero(self, block: int) -> bool:
        return self._landing.blocks.known(block) and self._landing.blocks.is_zero(block)

    def _open(self, block: int) -> None:
        if self._seen[block]:
            # It must be known before it changes, or a crash in between would leave a record that is false.
            self._settle()
            self._landing.sync()
            self._buffer = bytearray(self._landing.read(block))
        else:
            self._buffer = bytearray(self._header.length(block))
        self._block = block

    def _seal(self) -> None:
        if self._block is None:
            return
        self._landings.append(self._pool.submit(self._landing.land, self._block, self._buffer))
        self._seen[self._block] = 1
        self._block = None
        self._settle(MOST_BLOCKS)

    def _settle(self, most: int = 0) -> None:
        """Wait until no more than so many blocks are still to be landed."""
        while len(self._landings) > most:
            self._landings.popleft().result()
