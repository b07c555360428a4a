"""Whole blocks from the pieces of a stream."""

import mmap
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from hyperctl.activities.export.direct import aligned_buffer
from hyperctl.activities.export.landing import Landing

THREADS = 2
"""Unpack, hash and write blocks while the next pieces arrive."""
MOST_BLOCKS = 4
"""That wait to be landed."""


class Piece(Protocol):
    """A part of a disk, within one block."""

    @property
    def offset_bytes(self) -> int: ...

    @property
    def length_bytes(self) -> int: ...

    def content(self) -> bytes | bytearray:
        """All of it; what it takes to get at it is done on a thread that lands blocks."""


def assemble(landing: Landing, pieces: Iterable[Piece]) -> None:
    """Land a whole disk that comes as pieces; see `BlockAssembler`."""
    with BlockAssembler(landing) as assembler:
        for piece in pieces:
            assembler.take(piece)
        assembler.complete()


class BlockAssembler:
    """Takes pieces of a disk in any order, best in ascending order, from one thread.

    A block lands, on another thread, when a piece of another block arrives. Pieces that come back to an
    earlier block are right too, only slower. Errors of the storage, and of a piece's `content`, are raised to
    whoever takes a later one. A context manager: after it nothing lands any more.
    """

    def __init__(self, landing: Landing) -> None:
        self._landing = landing
        self._header = landing.header
        self._seen = bytearray(self._header.blocks)
        self._block: int | None = None
        self._pieces: list[Piece] = []
        self._pool = ThreadPoolExecutor(THREADS, "disk-land")
        self._landings: deque[Future[None]] = deque()
        self._buffers: list[mmap.mmap] = []
        """Of whole blocks that have landed: memory that is there already is faster than new."""

    def __enter__(self) -> "BlockAssembler":
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, piece: Piece) -> None:
        """Take a piece. Raises `ValueError` for one outside of the disk or across blocks."""
        end = piece.offset_bytes + piece.length_bytes
        block, within = divmod(piece.offset_bytes, self._header.block_bytes)
        if piece.offset_bytes < 0 or end > self._header.capacity_bytes:
            raise ValueError(f"a piece from {piece.offset_bytes} to {end} lies outside of the disk")
        if within + piece.length_bytes > self._header.block_bytes:
            raise ValueError(f"a piece from {piece.offset_bytes} to {end} lies in more than one block")
        if block != self._block:
            self._seal()
            self._block = block
        self._pieces.append(piece)
        self._landing.done_bytes += piece.length_bytes

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

    def _seal(self) -> None:
        """Have what was taken of a block landed."""
        if self._block is None:
            return
        has_landed = bool(self._seen[self._block])
        if has_landed:
            # It must be known before it changes, or a crash in between would leave a record that is false.
            self._settle()
            self._landing.sync()
        pieces, self._pieces = self._pieces, []
        self._landings.append(
            self._pool.submit(self._land, self._block, pieces, bool(self._seen[self._block]))
        )
        self._seen[self._block] = 1
        self._block = None
        self._settle(MOST_BLOCKS)

    def _land(self, block: int, pieces: Sequence[Piece], has_landed: bool) -> None:
        start = block * self._header.block_bytes
        buffer = aligned_buffer(self._header.length(block)) if has_landed else self._buffer(block, pieces)
        if has_landed:
            buffer[:] = self._landing.read(block)
        for piece in pieces:
            at = piece.offset_bytes - start
            buffer[at : at + piece.length_bytes] = piece.content()
        self._landing.land(block, buffer)
        if len(buffer) == self._header.block_bytes:
            self._buffers.append(buffer)

    def _buffer(self, block: int, pieces: Sequence[Piece]) -> mmap.mmap:
        """Memory for a block that is zero where none of these pieces will be put."""
        length = self._header.length(block)
        if length < self._header.block_bytes:
            return aligned_buffer(length)
        try:
            buffer = self._buffers.pop()
        except IndexError:
            return aligned_buffer(length)
        at = start = block * self._header.block_bytes
        for piece in sorted(pieces, key=lambda piece: piece.offset_bytes):
            if piece.offset_bytes > at:
                buffer[at - start : piece.offset_bytes - start] = bytes(piece.offset_bytes - at)
            at = max(at, piece.offset_bytes + piece.length_bytes)
        buffer[at - start :] = bytes(start + length - at)
        return buffer

    def _settle(self, most: int = 0) -> None:
        """Wait until no more than so many blocks are still to be landed."""
        while len(self._landings) > most:
            self._landings.popleft().result()
