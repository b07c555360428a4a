"""Where one disk lands: its image and its ledger, fed piece by piece by any transport."""

import hashlib
from pathlib import Path
from types import TracebackType

from hyperctl.activities.export.image import SparseImage
from hyperctl.activities.export.ledger import BLOCK_BYTES, Finish, LedgerHeader, LedgerWriter

SYNC_BYTES = 64 << 20
"""At most so much is moved again after a crash."""
_ZERO_BLOCK = bytes(BLOCK_BYTES)


class Landing:
    """Takes pieces of a disk in any order, best in ascending order, from one thread.

    A block is hashed and written when a piece of another block arrives. Pieces that come back to an earlier
    block are right too, only slower. Errors of the storage are `OSError`.
    """

    def __init__(self, image: Path, ledger: Path, header: LedgerHeader) -> None:
        self.header = header
        self.landed_bytes = 0
        """Bytes of pieces taken so far; other threads may read it."""
        self.allocated_bytes = 0
        self._unsynced_bytes = 0
        self._buffer = bytearray(BLOCK_BYTES)
        self._block: int | None = None
        self._reopened = False
        # The old ledger goes first: it must never vouch for a new image.
        ledger.unlink(missing_ok=True)
        self._image = SparseImage(image, header.capacity_bytes)
        try:
            self._ledger = LedgerWriter(ledger, header)
        except BaseException:
            self._image.close()
            raise

    def __enter__(self) -> "Landing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._image.close()
        self._ledger.close()

    def write(self, offset: int, data: bytes) -> None:
        """Take a piece that lies within the disk."""
        if offset < 0 or offset + len(data) > self.header.capacity_bytes:
            raise ValueError(f"a piece at {offset} of {len(data)} bytes lies outside of the disk")
        taken = 0
        while taken < len(data):
            block, within = divmod(offset + taken, BLOCK_BYTES)
            if block != self._block:
                self._seal()
                self._open(block)
            size = min(len(data) - taken, BLOCK_BYTES - within)
            self._buffer[within : within + size] = data[taken : taken + size]
            taken += size
        self.landed_bytes += len(data)

    def complete(self) -> None:
        """Everything was taken: what no piece covered is zero. All of it is durable on return."""
        self._seal()
        self._ledger.record_missing_as_zero()
        self._sync()

    def finish(self, received_bytes: int, source_checksum: str) -> Finish:
        """Record that the disk is whole; only after `complete`."""
        return self._ledger.finish(received_bytes, self.allocated_bytes, source_checksum)

    def _open(self, block: int) -> None:
        self._block = block
        self._reopened = self._ledger.blocks.known(block)
        if self._reopened:
            length = self.header.length(block)
            self._buffer[:length] = self._image.read(block * BLOCK_BYTES, length)
        else:
            self._buffer[:] = _ZERO_BLOCK

    def _seal(self) -> None:
        if self._block is None:
            return
        block, self._block = self._block, None
        length = self.header.length(block)
        content = self._buffer if length == BLOCK_BYTES else self._buffer[:length]
        is_zero = content == (_ZERO_BLOCK if length == BLOCK_BYTES else _ZERO_BLOCK[:length])
        offset = block * BLOCK_BYTES
        if self._reopened:
            written = self._image.write(offset, content)
        else:
            written = 0 if is_zero else self._image.write_sparse(offset, content)
            self.allocated_bytes += written
        self._ledger.record(block, None if is_zero else hashlib.sha256(content).digest())
        self._unsynced_bytes += written
        if self._unsynced_bytes >= SYNC_BYTES:
            self._sync()

    def _sync(self) -> None:
        self._image.sync()
        self._ledger.commit()
        self._unsynced_bytes = 0
