"""The ledger: which blocks of a disk have landed, and what is in them, durably.

A text file beside the image, only ever appended to, one record a line, each line closed by the CRC-32 of
what stands before it:

    hyperctl-ledger 2 ALGORITHM BLOCK_BYTES CAPACITY_BYTES SOURCE CRC
    data OFFSET LENGTH DIGEST CRC
    zero OFFSET LENGTH CRC
    lost OFFSET LENGTH CRC
    received BYTES CRC
    version TEXT CRC
    finish RECEIVED_BYTES ALLOCATED_BYTES SOURCE_CHECKSUM ROOT_DIGEST CRC

Blocks lie on a fixed grid from offset 0; the last may be shorter. A `zero` record may cover several. A
later record of a block replaces an earlier one; `lost` says that a block has to be fetched again, and takes
a `finish` back. `received` is what has crossed the network so far, of all attempts; `version` what the
source calls the state of its file (an HTTP ETag), percent-encoded. SOURCE names the disk and the state of the
machine it was copied in, percent-encoded. A record is written only after the image's bytes are on stable
storage, so that what the ledger says is true after any crash; a tail that was torn by one is cut off.

The root digest is the digest over one line `OFFSET LENGTH DIGEST` a block, in the order of the offsets,
with the digest of zeroes for a block of zeroes. It names the disk's whole content, whatever transport
brought it and in whatever order.
"""

import hashlib
import mmap
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol, TypeAlias
from urllib.parse import quote, unquote

from blake3 import blake3

from hyperctl.activities.staging import sync_folder

MAGIC = "hyperctl-ledger"
VERSION = "2"
ALGORITHM = "blake3"
"""What new ledgers are made with: `make bench-copy` shows what it takes beside SHA-256."""
BLOCK_BYTES = 4 << 20
_DIGEST_BYTES = 32
_NO_CHECKSUM = "-"

Content: TypeAlias = bytes | bytearray | mmap.mmap

_MOST_BLOCKS = 1 << 21
"""Of a disk: what is kept in memory of each stays below 75 MB, however large the disk."""


class Hasher(Protocol):
    """What the digests of Python's hashlib look like."""

    def update(self, content: Content | memoryview, /) -> object: ...
    def digest(self) -> bytes: ...


_HASHERS: dict[str, Callable[[Content], Hasher]] = {"blake3": blake3, "sha256": hashlib.sha256}


class LedgerError(Exception):
    """A ledger cannot be read, or contradicts itself."""


@dataclass(frozen=True, slots=True)
class LedgerHeader:
    """What the ledger is about."""

    capacity_bytes: int
    source: str
    block_bytes: int = BLOCK_BYTES
    algorithm: str = ALGORITHM

    @classmethod
    def of(cls, capacity_bytes: int, source: str) -> "LedgerHeader":
        """For a new ledger: blocks of 4 MiB, larger ones for disks of more than 8 TiB."""
        block_bytes = BLOCK_BYTES
        while capacity_bytes > block_bytes * _MOST_BLOCKS:
            block_bytes *= 2
        return cls(capacity_bytes, source, block_bytes)

    @property
    def blocks(self) -> int:
        return -(-self.capacity_bytes // self.block_bytes)

    def length(self, block: int) -> int:
        """The bytes of one block; the last may be shorter."""
        return min(self.block_bytes, self.capacity_bytes - block * self.block_bytes)

    def digest(self, content: Content) -> bytes:
        """The digest of a block's content, by the ledger's algorithm; 32 bytes."""
        return _HASHERS[self.algorithm](content).digest()

    def hasher(self) -> Hasher:
        """For a digest of content that comes in pieces."""
        return _HASHERS[self.algorithm](b"")


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
        if digest is None:
            digest = zero_digest(self.header.algorithm, length)
            self._zero[block] = 1
        else:
            self._zero[block] = 0
        self._digests[at : at + _DIGEST_BYTES] = digest
        self._known[block] = 1

    def forget(self, block: int) -> None:
        """The block has to be fetched again."""
        self._known[block] = self._zero[block] = 0

    def known(self, block: int) -> bool:
        return bool(self._known[block])

    def is_zero(self, block: int) -> bool:
        """Whether the block was recorded as zeroes."""
        return bool(self._zero[block])

    def has_data(self, block: int) -> bool:
        """Whether the block was recorded with something in it."""
        return bool(self._known[block]) and not self._zero[block]

    def digest(self, block: int) -> bytes:
        return bytes(self._digests[block * _DIGEST_BYTES : (block + 1) * _DIGEST_BYTES])

    def missing(self) -> list[int]:
        """The blocks of which nothing is known."""
        return [block for block, known in enumerate(self._known) if not known]

    @property
    def known_count(self) -> int:
        return self._known.count(1)

    def root_digest(self) -> str:
        """See the module's own text. Raises `LedgerError` while blocks are missing."""
        if not all(self._known):
            raise LedgerError("the ledger does not cover the whole disk")
        root = _HASHERS[self.header.algorithm](b"")
        for block in range(self.header.blocks):
            offset, length = block * self.header.block_bytes, self.header.length(block)
            root.update(f"{offset} {length} {self.digest(block).hex()}\n".encode())
        return root.digest().hex()


@dataclass(frozen=True, slots=True)
class Ledger:
    """A ledger as read."""

    header: LedgerHeader
    blocks: BlockMap
    finish: Finish | None
    received_bytes: int
    """What has crossed the network for it so far."""
    version: str
    """What the source calls the state of its file; empty where it has not said."""
    valid_bytes: int
    """How much of the file is whole; what follows was torn."""


class LedgerWriter:
    """Appends to a ledger. Records are gathered by `record` and its like, and written by `commit`.

    Not for several threads at once; `blocks` shows what was gathered too.
    """

    def __init__(self, path: Path, known: Ledger) -> None:
        """Go on with a ledger as it was recovered; `create_ledger` makes a new one."""
        self._header = known.header
        self.blocks = known.blocks
        self.version = known.version
        self.received_bytes = known.received_bytes
        """Of all attempts together; its owner counts on, `commit` writes it."""
        self._received_written = known.received_bytes
        self._pending = b""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def record(self, block: int, digest: bytes | None) -> None:
        """Note one block: its digest, or None for zeroes."""
        self.blocks.set(block, digest)
        offset, length = block * self._header.block_bytes, self._header.length(block)
        self._add(f"zero {offset} {length}" if digest is None else f"data {offset} {length} {digest.hex()}")

    def record_zeroes(self, blocks: range) -> None:
        """Note a run of blocks as zeroes."""
        for block in blocks:
            self.blocks.set(block, None)
        self._add(f"zero {self._extent(blocks)}")

    def record_lost(self, blocks: range) -> None:
        """Note that these blocks have to be fetched again."""
        for block in blocks:
            self.blocks.forget(block)
        self._add(f"lost {self._extent(blocks)}")

    def record_version(self, version: str) -> None:
        """Note what the source calls the state of its file."""
        self.version = version
        self._add(f"version {quote(version, safe='')}")

    def commit(self) -> None:
        """Write what was noted, durably. The image's bytes must be on stable storage by now.

        After an `OSError` it may be called again, and goes on where it stopped.
        """
        self._note_received()
        while self._pending:
            self._pending = self._pending[os.write(self._descriptor, self._pending) :]
        os.fdatasync(self._descriptor)

    def finish(self, allocated_bytes: int, source_checksum: str) -> Finish:
        """Close the record of a disk that is whole. Raises `LedgerError` while blocks are missing."""
        self._note_received()
        done = Finish(self.received_bytes, allocated_bytes, source_checksum, self.blocks.root_digest())
        checksum = source_checksum or _NO_CHECKSUM
        self._add(f"finish {done.received_bytes} {allocated_bytes} {checksum} {done.root_digest}")
        self.commit()
        return done

    def close(self) -> None:
        os.close(self._descriptor)

    def _note_received(self) -> None:
        if self.received_bytes != self._received_written:
            self._add(f"received {self.received_bytes}")
            self._received_written = self.received_bytes

    def _extent(self, blocks: range) -> str:
        length = sum(self._header.length(block) for block in blocks)
        return f"{blocks.start * self._header.block_bytes} {length}"

    def _add(self, text: str) -> None:
        self._pending += _line(text)


def create_ledger(path: Path, header: LedgerHeader) -> LedgerWriter:
    """A new ledger in place of any old one, durably there on return."""
    path.unlink(missing_ok=True)
    source = quote(header.source, safe="")
    text = f"{MAGIC} {VERSION} {header.algorithm} {header.block_bytes} {header.capacity_bytes} {source}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        data = _line(text)
        while data:
            data = data[os.write(descriptor, data) :]
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)
    return LedgerWriter(path, Ledger(header, BlockMap(header), None, 0, "", 0))


def record_lost(path: Path, runs: Iterable[range]) -> None:
    """Note durably in a ledger on disk that these blocks have to be fetched again; the others stay known.

    Nobody may be writing the ledger. Raises `LedgerError` where it is none, `OSError`.
    """
    known = recover_ledger(path)
    if known is None:
        raise LedgerError(f"{path} is no ledger that can be gone on with")
    writer = LedgerWriter(path, known)
    try:
        for run in runs:
            writer.record_lost(run)
        writer.commit()
    finally:
        writer.close()


def read_ledger(path: Path) -> Ledger:
    """Read a ledger up to its first damaged line; nothing behind one is believed.

    Raises `LedgerError` where not even the header can be read, `OSError` where there is no file.
    """
    with path.open("rb") as file:
        header_text = _checked(file.readline())
        header = _header(header_text, path)
        ledger = Ledger(header, BlockMap(header), None, 0, "", file.tell())
        for line in file:
            text = _checked(line)
            if text is None:
                break
            try:
                ledger = _apply(text.split(" "), ledger)
            except (ValueError, IndexError, LedgerError):
                break
            ledger = replace(ledger, valid_bytes=ledger.valid_bytes + len(line))
    return ledger


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
def zero_digest(algorithm: str, length: int) -> bytes:
    """The digest of so many zeroes."""
    return _HASHERS[algorithm](bytes(length)).digest()


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
        header = LedgerHeader(int(capacity_bytes), unquote(source), int(block_bytes), algorithm)
    except ValueError as error:
        raise LedgerError(f"{path} does not begin with a ledger's header") from error
    if (magic, version) != (MAGIC, VERSION):
        raise LedgerError(f"{path} is no ledger of version {VERSION}")
    if algorithm not in _HASHERS:
        raise LedgerError(f"{path} has digests of an unknown kind, {algorithm!r}")
    if header.block_bytes <= 0 or header.capacity_bytes < 0:
        raise LedgerError(f"{path} has an impossible header")
    return header


def _apply(fields: list[str], ledger: Ledger) -> Ledger:
    """Take one record in. Raises for a record that cannot be."""
    blocks = ledger.blocks
    if ledger.finish is not None and fields[0] != "lost":
        raise LedgerError("only what was lost is recorded of a disk that is whole")
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
        case ["lost", offset, length]:
            for each in _blocks(blocks.header, int(offset), int(length)):
                blocks.forget(each)
            return replace(ledger, finish=None)
        case ["received", received]:
            return replace(ledger, received_bytes=int(received))
        case ["version", version]:
            return replace(ledger, version=unquote(version))
        case ["finish", received, allocated, checksum, root]:
            if blocks.root_digest() != root:
                raise LedgerError("the root digest is not that of the records")
            checksum = "" if checksum == _NO_CHECKSUM else checksum
            return replace(ledger, finish=Finish(int(received), int(allocated), checksum, root))
        case _:
            raise LedgerError("unknown record")
    return ledger


def _blocks(header: LedgerHeader, offset: int, length: int) -> range:
    first, odd = divmod(offset, header.block_bytes)
    end = offset + length
    if odd or offset < 0 or length <= 0 or end > header.capacity_bytes:
        raise LedgerError("a record lies off the grid")
    if end % header.block_bytes and end != header.capacity_bytes:
        raise LedgerError("a record ends off the grid")
    return range(first, -(-end // header.block_bytes))
