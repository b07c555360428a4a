"""The ledger: which blocks of a disk have landed, and what is in them, durably.

A text file beside the image, only ever appended to, one record a line, each line closed by the CRC-32 of
what stands before it:

    hyperctl-ledger 1 sha256 BLOCK_BYTES CAPACITY_BYTES SOURCE CRC
    data OFFSET LENGTH SHA256 CRC
    zero OFFSET LENGTH CRC
    finish RECEIVED_BYTES ALLOCATED_BYTES SOURCE_CHECKSUM ROOT_DIGEST CRC

Blocks lie on a fixed grid from offset 0; the last may be shorter. A `zero` record may cover several. A
later record of a block replaces an earlier one. SOURCE names the disk and the state of the machine it was
copied in, percent-encoded. A record is written only after the image's bytes are on stable storage, so
that what the ledger says is true after any crash; a tail that was torn by one is cut off.

The root digest is the SHA-256 over one line `OFFSET LENGTH SHA256` a block, in the order of the offsets,
with the digest of zeroes for a block of zeroes. It names the disk's whole content, whatever transport
brought it and in whatever order.
"""

import hashlib
import os
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, unquote

from hyperctl.activities.staging import sync_folder

MAGIC = "hyperctl-ledger"
VERSION = "1"
ALGORITHM = "sha256"
BLOCK_BYTES = 4 << 20
_DIGEST_BYTES = 32
_NO_CHECKSUM = "-"


class LedgerError(Exception):
    """A ledger cannot be read, or contradicts itself."""


@dataclass(frozen=True, slots=True)
class LedgerHeader:
    """What the ledger is about."""

    capacity_bytes: int
    source: str
    block_bytes: int = BLOCK_BYTES

    @property
    def blocks(self) -> int:
        return -(-self.capacity_bytes // self.block_bytes)

    def length(self, block: int) -> int:
        """The bytes of one block; the last may be shorter."""
        return min(self.block_bytes, self.capacity_bytes - block * self.block_bytes)


@dataclass(frozen=True, slots=True)
class Finish:
    """The disk is whole."""

    received_bytes: int
    allocated_bytes: int
    source_checksum: str
    """`sha1:...` as the source stated it and as was found; empty where it states none."""
    root_digest: str


class BlockMap:
    """What is known of each block: nothing, its digest, or that it is zero. 33 bytes a block."""

    def __init__(self, header: LedgerHeader) -> None:
        self.header = header
        self._digests = bytearray(header.blocks * _DIGEST_BYTES)
        self._known = bytearray(header.blocks)
        self._zero = bytearray(header.blocks)

    def set(self, block: int, digest: bytes | None) -> None:
        """Record a block's digest, or None for a block of zeroes."""
        length = self.header.length(block)
        at = block * _DIGEST_BYTES
        self._digests[at : at + _DIGEST_BYTES] = digest if digest is not None else zero_digest(length)
        self._known[block] = 1
        self._zero[block] = digest is None

    def known(self, block: int) -> bool:
        return bool(self._known[block])

    def is_zero(self, block: int) -> bool:
        """Whether the block was recorded as zeroes."""
        return bool(self._zero[block])

    def digest(self, block: int) -> bytes:
        return bytes(self._digests[block * _DIGEST_BYTES : (block + 1) * _DIGEST_BYTES])

    def missing(self) -> list[int]:
        """The blocks of which nothing is known."""
        return [block for block in range(self.header.blocks) if not self._known[block]]

    def root_digest(self) -> str:
        """See the module's own text. Raises `LedgerError` while blocks are missing."""
        if not all(self._known):
            raise LedgerError("the ledger does not cover the whole disk")
        root = hashlib.sha256()
        for block in range(self.header.blocks):
            offset, length = block * self.header.block_bytes, self.header.length(block)
            root.update(f"{offset} {length} {self.digest(block).hex()}\n".encode())
        return root.hexdigest()


@dataclass(frozen=True, slots=True)
class Ledger:
    """A ledger as read."""

    header: LedgerHeader
    blocks: BlockMap
    finish: Finish | None
    valid_bytes: int
    """How much of the file is whole; what follows was torn."""


class LedgerWriter:
    """A new ledger. Records are gathered by `record` and written by `commit`."""

    def __init__(self, path: Path, header: LedgerHeader) -> None:
        path.unlink(missing_ok=True)
        self._header = header
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self.blocks = BlockMap(header)
        source = quote(header.source, safe="")
        self._pending = [
            f"{MAGIC} {VERSION} {ALGORITHM} {header.block_bytes} {header.capacity_bytes} {source}"
        ]
        try:
            self.commit()
            sync_folder(path.parent)
        except BaseException:
            self.close()
            raise

    def record(self, block: int, digest: bytes | None) -> None:
        """Note one block: its digest, or None for zeroes."""
        self.blocks.set(block, digest)
        offset, length = block * self._header.block_bytes, self._header.length(block)
        if digest is None:
            self._pending.append(f"zero {offset} {length}")
        else:
            self._pending.append(f"data {offset} {length} {digest.hex()}")

    def record_missing_as_zero(self) -> None:
        """Note every block that nothing was said of as zeroes, run by run."""
        run: list[int] = []
        for block in [*self.blocks.missing(), -1]:
            if run and block != run[-1] + 1:
                offset = run[0] * self._header.block_bytes
                length = sum(self._header.length(each) for each in run)
                self._pending.append(f"zero {offset} {length}")
                for each in run:
                    self.blocks.set(each, None)
                run = []
            run.append(block)

    def commit(self) -> None:
        """Write what was noted, durably. The image's bytes must be on stable storage by now."""
        data = b"".join(_line(text) for text in self._pending)
        while data:
            data = data[os.write(self._descriptor, data) :]
        os.fdatasync(self._descriptor)
        self._pending = []

    def finish(self, received_bytes: int, allocated_bytes: int, source_checksum: str) -> Finish:
        """Close the record of a disk that is whole."""
        done = Finish(received_bytes, allocated_bytes, source_checksum, self.blocks.root_digest())
        checksum = source_checksum or _NO_CHECKSUM
        self._pending.append(f"finish {received_bytes} {allocated_bytes} {checksum} {done.root_digest}")
        self.commit()
        return done

    def close(self) -> None:
        os.close(self._descriptor)


def read_ledger(path: Path) -> Ledger:
    """Read a ledger up to its first damaged line; nothing behind one is believed.

    Raises `LedgerError` where not even the header can be read, `OSError` where there is no file.
    """
    with path.open("rb") as file:
        header_text = _checked(file.readline())
        header = _header(header_text, path)
        blocks = BlockMap(header)
        finish: Finish | None = None
        valid = file.tell()
        for line in file:
            text = _checked(line)
            if text is None or finish is not None:
                break
            try:
                finish = _apply(text.split(" "), blocks)
            except (ValueError, IndexError, LedgerError):
                break
            valid += len(line)
    return Ledger(header, blocks, finish, valid)


def recover_ledger(path: Path) -> Ledger | None:
    """Read a ledger after a possible crash and cut off what was torn; None where nothing can be used."""
    try:
        ledger = read_ledger(path)
    except (FileNotFoundError, LedgerError):
        return None
    if path.stat().st_size > ledger.valid_bytes:
        os.truncate(path, ledger.valid_bytes)
    return ledger


@lru_cache(maxsize=16)
def zero_digest(length: int) -> bytes:
    """The SHA-256 of so many zeroes."""
    return hashlib.sha256(bytes(length)).digest()


def _line(text: str) -> bytes:
    return f"{text} {zlib.crc32(text.encode()):08x}\n".encode()


def _checked(line: bytes) -> str | None:
    """The text of a whole, undamaged line."""
    text, _, check = line.removesuffix(b"\n").rpartition(b" ")
    if not line.endswith(b"\n") or check != f"{zlib.crc32(text):08x}".encode():
        return None
    return text.decode(errors="replace")


def _header(text: str | None, path: Path) -> LedgerHeader:
    fields = (text or "").split(" ")
    try:
        magic, version, algorithm, block_bytes, capacity_bytes, source = fields
        header = LedgerHeader(int(capacity_bytes), unquote(source), int(block_bytes))
    except ValueError as error:
        raise LedgerError(f"{path} does not begin with a ledger's header") from error
    if (magic, version, algorithm) != (MAGIC, VERSION, ALGORITHM):
        raise LedgerError(f"{path} is no ledger of version {VERSION}")
    if header.block_bytes <= 0 or header.capacity_bytes < 0:
        raise LedgerError(f"{path} has an impossible header")
    return header


def _apply(fields: list[str], blocks: BlockMap) -> Finish | None:
    """Take one record in; returns the finish record. Raises for a record that cannot be."""
    match fields:
        case ["data", offset, length, digest]:
            block = _blocks(blocks.header, int(offset), int(length))
            raw = bytes.fromhex(digest)
            if len(block) != 1 or len(raw) != _DIGEST_BYTES:
                raise LedgerError("a data record covers one block")
            blocks.set(block[0], raw)
        case ["zero", offset, length]:
            for each in _blocks(blocks.header, int(offset), int(length)):
                blocks.set(each, None)
        case ["finish", received, allocated, checksum, root]:
            if blocks.root_digest() != root:
                raise LedgerError("the root digest is not that of the records")
            return Finish(int(received), int(allocated), "" if checksum == _NO_CHECKSUM else checksum, root)
        case _:
            raise LedgerError("unknown record")
    return None


def _blocks(header: LedgerHeader, offset: int, length: int) -> range:
    first, odd = divmod(offset, header.block_bytes)
    end = offset + length
    if odd or offset < 0 or length <= 0 or end > header.capacity_bytes:
        raise LedgerError("a record lies off the grid")
    if end % header.block_bytes and end != header.capacity_bytes:
        raise LedgerError("a record ends off the grid")
    return range(first, -(-end // header.block_bytes))
