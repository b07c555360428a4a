"""Where one disk lands: its image and its ledger, fed block by block by any transport."""

import threading
from collections.abc import Callable
from pathlib import Path

from hyperctl.activities.export.image import DiskImage, is_zero
from hyperctl.activities.export.ledger import (
    BlockMap,
    Content,
    Finish,
    LedgerHeader,
    LedgerWriter,
    create_ledger,
    recover_ledger,
)

SYNC_BYTES = 16 << 20
"""After so much a sync begins. As much again may land meanwhile, so that a crash costs twice this and the
blocks on their way: with four connections below the 64 MiB that are promised."""
CLOSE_SECONDS = 2.0

Hold = Callable[[OSError], None]
"""Waits until the storage may be written again, or raises."""
OpenImage = Callable[[bool], DiskImage]
"""Opens a disk's image: a fresh one, or the one that is there.

Raises `FileNotFoundError` or `ValueError` where that one cannot be gone on with.
"""


def no_hold(error: OSError) -> None:
    """Let an error of the storage be the end."""
    raise error


class Landing:
    """Takes whole blocks in any order, from any thread.

    What is known of a block already is compared, not written again. A thread of its own brings the image
    onto stable storage and then the records into the ledger; who lands blocks waits for it only when it
    falls behind. Errors of the storage are `OSError`, raised to whoever lands the next block.
    """

    def __init__(self, image: DiskImage, ledger: LedgerWriter, hold: Hold = no_hold) -> None:
        """`hold` is asked about every write that failed; it is tried again when `hold` returns."""
        self.header = header = ledger.blocks.header
        self.landed_bytes = sum(
            header.length(block) for block in range(header.blocks) if ledger.blocks.has_data(block)
        )
        """Of blocks with data in them. Other threads may read it, as the three that follow."""
        self.resumed_bytes = 0
        """What of `done_bytes` an earlier attempt has done."""
        self.done_bytes = 0
        """How far the transport is, in bytes of the disk."""
        self.total_bytes = 0
        """How far it will go; 0 where it does not know."""
        self._image = image
        self._ledger = ledger
        self._hold = hold
        self._state = threading.Condition()
        self._syncing = threading.Lock()
        self._pending: list[tuple[range, bytes | None]] = []
        self._unsynced_bytes = 0
        self._closing = False
        self._error: BaseException | None = None
        self._syncer = threading.Thread(target=self._keep_synced, name="disk-sync", daemon=True)
        self._syncer.start()

    def __enter__(self) -> "Landing":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def blocks(self) -> BlockMap:
        """What is known of each block, which is what has been synced."""
        return self._ledger.blocks

    def begin(self, version: str) -> None:
        """Note what the source calls the state of its file, before the first block lands."""
        with self._state:
            self._ledger.record_version(version)

    def received(self, size_bytes: int) -> None:
        """Count what has crossed the network."""
        with self._state:
            self._ledger.received_bytes += size_bytes

    def land(self, block: int, data: Content) -> None:
        """Take a whole block."""
        digest = None if is_zero(data) else self.header.digest(data)
        if self.blocks.known(block):
            if self.blocks.is_zero(block) if digest is None else self.blocks.digest(block) == digest:
                return
            self._lose(range(block, block + 1))
        offset = block * self.header.block_bytes
        if digest is None:
            self._holding(lambda: self._image.zero(offset, len(data)))
        else:
            self._holding(lambda: self._image.write(offset, data))
        self._landed(range(block, block + 1), digest, len(data))

    def land_zeroes(self, blocks: range) -> None:
        """Take a run of blocks that the source says are zeroes."""
        if any(self.blocks.has_data(block) for block in blocks):
            self._lose(blocks)
        start = self.header.block_bytes * blocks.start
        length = min(self.header.block_bytes * blocks.stop, self.header.capacity_bytes) - start
        self._holding(lambda: self._image.zero(start, length))
        self._landed(blocks, None, 0)

    def read(self, block: int) -> bytes:
        """What the image holds of a block."""
        return self._image.read(block * self.header.block_bytes, self.header.length(block))

    def sync(self) -> None:
        """Have everything that has landed so far durable and recorded."""
        with self._syncing:
            with self._state:
                if self._error is not None:
                    raise self._error
                pending, self._pending = self._pending, []
                synced_bytes = self._unsynced_bytes
            # Only what was written before this sync began may be recorded after it. A sync that failed is
            # not tried again: the kernel has dropped what it could not write, and the next one says nothing
            # of it.
            self._image.sync()
            with self._state:
                for blocks, digest in pending:
                    if digest is None:
                        self._ledger.record_zeroes(blocks)
                    else:
                        self._ledger.record(blocks.start, digest)
            self._holding(self._commit)
            with self._state:
                self._unsynced_bytes -= synced_bytes
                self._state.notify_all()

    def finish(self, source_checksum: str) -> Finish:
        """Record that the disk is whole: every block has landed and is synced."""
        with self._syncing, self._state:
            return self._ledger.finish(self._image.allocated_bytes, source_checksum)

    def close(self) -> None:
        """Let go of the files. What was not synced is not recorded and will be fetched again."""
        with self._state:
            self._closing = True
            self._state.notify_all()
        self._syncer.join(CLOSE_SECONDS)

    def _lose(self, blocks: range) -> None:
        """What is known of these blocks is about to be false: say so durably before it is."""
        with self._syncing:
            with self._state:
                self._ledger.record_lost(blocks)
            self._holding(self._commit)
        self._image.expect_rewrites()

    def _landed(self, blocks: range, digest: bytes | None, size_bytes: int) -> None:
        with self._state:
            self._pending.append((blocks, digest))
            self._unsynced_bytes += size_bytes
            if digest is not None:
                self.landed_bytes += size_bytes
            if self._unsynced_bytes >= SYNC_BYTES:
                self._state.notify_all()
                self._state.wait_for(
                    lambda: self._unsynced_bytes < 2 * SYNC_BYTES or self._closing or self._error
                )
            if self._error is not None:
                raise self._error

    def _keep_synced(self) -> None:
        """The syncer's life. It closes the files: a sync that hangs must not find them closed."""
        try:
            while self._wait_for_work():
                self.sync()
        except BaseException as error:
            with self._state:
                self._error = error
                self._state.notify_all()
        finally:
            with self._state:
                self._state.wait_for(lambda: self._closing)
            self._image.close()
            self._ledger.close()

    def _wait_for_work(self) -> bool:
        with self._state:
            self._state.wait_for(lambda: self._unsynced_bytes >= SYNC_BYTES or self._closing)
            return not self._closing

    def _commit(self) -> None:
        with self._state:
            self._ledger.commit()

    def _holding(self, write: Callable[[], None]) -> None:
        while True:
            try:
                write()
                return
            except OSError as error:
                self._hold(error)


def open_landing(
    open_image: OpenImage, ledger_path: Path, header: LedgerHeader, version: str = "", hold: Hold = no_hold
) -> Landing:
    """Go on where an earlier attempt stopped, or begin anew where nothing of it can be used.

    Only what was copied of the same disk, in the same state of its machine and, where the source tells
    `version`s, of its file, can be.
    """
    known = recover_ledger(ledger_path)
    if known is not None and known.header == header and version in ("", known.version or version):
        usable = known
        try:
            return _landing(open_image(False), lambda: LedgerWriter(ledger_path, usable), version, hold)
        except (FileNotFoundError, ValueError):
            pass  # no image that belongs to it
    # The old ledger goes first: it must never vouch for a new image.
    ledger_path.unlink(missing_ok=True)
    return _landing(open_image(True), lambda: create_ledger(ledger_path, header), version, hold)


def _landing(image: DiskImage, open_ledger: Callable[[], LedgerWriter], version: str, hold: Hold) -> Landing:
    try:
        ledger = open_ledger()
    except BaseException:
        image.close()
        raise
    landing = Landing(image, ledger, hold)
    if version and ledger.version != version:
        landing.begin(version)
    return landing
