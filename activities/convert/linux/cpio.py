"""An initramfs as the kernel reads it: cpio archives, compressed or not, one after the other.

Formats: Documentation/driver-api/early-userspace/buffer-format.rst and init/initramfs.c of the Linux kernel;
the archives are cpio's `newc`. Later files replace earlier ones of the same name.
"""

import bz2
import lzma
import stat
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import lz4.block
import zstandard

TRAILER = "TRAILER!!!"
LARGEST_BYTES = 2 << 30
"""The most that all archives together may hold, unpacked."""
LZ4_BLOCK_BYTES = 8 << 20
LARGEST_WINDOW_BYTES = 1 << 27
_HEADER_BYTES = 110
_MAGIC = (b"070701", b"070702")
_CHUNK_BYTES = 16 << 10
_LZ4_LEGACY = b"\x02\x21\x4c\x18"
_COMPRESSIONS = (
    ("gzip", b"\x1f\x8b"),
    ("xz", b"\xfd7zXZ\x00"),
    ("zstd", b"\x28\xb5\x2f\xfd"),
    ("lz4", _LZ4_LEGACY),
    ("bzip2", b"BZh"),
    ("lzma", b"\x5d\x00\x00"),
    ("lzo", b"\x89LZO"),
)
_KNOWN_TO_LINUX = (b"\x1f\x8b", b"\x1f\x9e", b"BZ", b"\x5d\0", b"\xfd7", b"\x89L", b"\x02\x21", b"\x28\xb5")
"""How what it unpacks begins (lib/decompress.c)."""


class CpioError(Exception):
    """The archive is damaged."""


class NotReadHereError(CpioError):
    """It is in a form, or of a size, that only the kernel may be able to read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder or link of an archive."""

    name: str
    """Relative, `usr/bin/sh`."""
    mode: int
    """Type and permissions, as in stat(2)."""
    data: bytes | memoryview = b""
    """A file's content, a symbolic link's target."""

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an initramfs: one plain archive, or a compressed one with all that is in it."""

    compression: str
    """Empty for a plain one."""
    content: bytes | memoryview
    """Unpacked, with the device numbers and hard links that `Entry` leaves out."""


@dataclass(slots=True)
class Archive:
    """All that an initramfs unpacks to."""

    entries: dict[str, Entry] = field(default_factory=dict)
    pieces: list[Piece] = field(default_factory=list)
    """As they lie one behind the other."""

    def resolve(self, path: str) -> str:
        """Where a path leads through the archive's own symbolic links to folders."""
        for _ in range(40):
            parts = path.strip("/").split("/")
            for count in range(1, len(parts)):
                entry = self.entries.get("/".join(parts[:count]))
                if entry is not None and entry.is_link:
                    target = bytes(entry.data).rstrip(b"\0").decode(errors="replace")
                    start = [] if target.startswith("/") else parts[: count - 1]
                    path = _normal([*start, *target.split("/"), *parts[count:]])
                    break
            else:
                return "/".join(parts)
        raise CpioError(f"{path} leads through too many links")

    def get(self, path: str) -> Entry | None:
        return self.entries.get(self.resolve(path))


def read_archive(data: bytes, limit_bytes: int = LARGEST_BYTES) -> Archive:
    """Read it to its end. Raises `CpioError` where the kernel would stop, too.

    `NotReadHereError` where it may go on.
    """
    archive = Archive()
    view = memoryview(data)
    position, unpacked = 0, 0
    while position < len(view):
        if view[position] == 0:
            position += 1
            continue
        if view[position] == ord("0") and position % 4 == 0:
            begin, position = position, _read_cpio(view, position, archive)
            archive.pieces.append(Piece("", view[begin:position]))
            continue
        name = _compression(view[position : position + 8])
        content, used = _decompress(name, view[position:], limit_bytes - unpacked)
        unpacked += len(content)
        archive.pieces.append(Piece(name, content))
        inner, start = memoryview(content), 0
        while start < len(inner):
            if inner[start] == 0:
                start += 1
            else:
                start = _read_cpio(inner, start, archive)
        position += used
    return archive


def is_damaged(data: bytes) -> bool:
    """Whether the kernel cannot read it to its end either."""
    try:
        read_archive(data)
    except NotReadHereError:
        return False
    except CpioError:
        return True
    return False


def write_segment(entries: Iterable[Entry]) -> bytes:
    """A plain archive of these entries, to be put behind another at a multiple of four bytes."""
    pieces = []
    for number, entry in enumerate([*entries, Entry(TRAILER, 0)], start=1):
        name = entry.name.encode() + b"\0"
        links = 2 if entry.is_folder else 1
        size = 0 if entry.is_folder else len(entry.data)
        numbers = (number, entry.mode, 0, 0, links, 0, size, 0, 0, 0, 0, len(name), 0)
        header = _MAGIC[0] + b"".join(b"%08X" % value for value in numbers)
        pieces += [_padded(header + name), _padded(bytes(entry.data))]
    return b"".join(pieces)


def padding(size_bytes: int) -> bytes:
    """What stands between an archive of this size and a segment: zeroes up to a multiple of four.

    At least four, since an lz4 archive has no end of its own and the kernel takes four zeroes for one.
    """
    return bytes(4 + -size_bytes % 4)


def _read_cpio(view: memoryview, position: int, archive: Archive) -> int:
    """Read entries up to the trailer; returns where it ends."""
    while True:
        header = bytes(view[position : position + _HEADER_BYTES])
        if len(header) < _HEADER_BYTES or header[:6] not in _MAGIC:
            raise CpioError(f"no cpio header at byte {position}")
        try:
            numbers = [int(header[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]
        except ValueError:
            raise CpioError(f"a damaged cpio header at byte {position}") from None
        mode, size, name_size = numbers[1], numbers[6], numbers[11]
        start = _aligned(position + _HEADER_BYTES + name_size)
        end = start + size
        if end > len(view):
            raise CpioError(f"the archive ends within the file at byte {position}")
        name = bytes(view[position + _HEADER_BYTES : position + _HEADER_BYTES + name_size - 1])
        position = min(_aligned(end), len(view))
        text = name.decode("utf-8", "surrogateescape")
        if text == TRAILER:
            return position
        path = _normal(text.split("/"))
        if path:
            archive.entries[path] = Entry(path, mode, view[start:end])


def _compression(magic: memoryview) -> str:
    for name, start in _COMPRESSIONS:
        if bytes(magic[: len(start)]) == start:
            return name
    error = NotReadHereError if bytes(magic[:2]) in _KNOWN_TO_LINUX else CpioError
    raise error(f"an archive in an unknown form: {bytes(magic).hex()}")


def _decompress(name: str, view: memoryview, limit_bytes: int) -> tuple[bytes, int]:
    """The unpacked content and how many bytes it took. Raises `CpioError`."""
    try:
        if name == "lz4":
            return _unpack_lz4(view, limit_bytes)
        if name == "zstd":
            return _collect(
                zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW_BYTES).decompressobj(),
                view,
                limit_bytes,
            )
        if name == "gzip":
            return _collect(zlib.decompressobj(wbits=31), view, limit_bytes)
        if name in ("xz", "lzma"):
            form = lzma.FORMAT_XZ if name == "xz" else lzma.FORMAT_ALONE
            return _collect(lzma.LZMADecompressor(format=form), view, limit_bytes)
        if name == "bzip2":
            return _collect(bz2.BZ2Decompressor(), view, limit_bytes)
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError, lz4.block.LZ4BlockError, OSError) as error:
        raise CpioError(f"a damaged {name} archive: {error}") from error
    raise NotReadHereError(f"{name} archives cannot be read here")


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _collect(decompressor: _Decompressor, view: memoryview, limit_bytes: int) -> tuple[bytes, int]:
    """Feed piece by piece, so that a bomb is noticed before it has filled the memory."""
    pieces, total, position = [], 0, 0
    while not decompressor.eof:
        piece = bytes(view[position : position + _CHUNK_BYTES])
        if not piece:
            raise CpioError("a compressed archive is cut off")
        unpacked = decompressor.decompress(piece)
        position += len(piece)
        total += len(unpacked)
        if total > limit_bytes:
            raise NotReadHereError(f"the archive unpacks to more than {limit_bytes} bytes")
        pieces.append(unpacked)
    return b"".join(pieces), position - len(decompressor.unused_data)


def _unpack_lz4(view: memoryview, limit_bytes: int) -> tuple[bytes, int]:
    """lz4's legacy frame (lz4_Frame_format.md, Legacy frame): blocks until the end, or four zeroes."""
    pieces, total, position = [], 0, 4
    while position + 4 <= len(view):
        word = bytes(view[position : position + 4])
        if word == _LZ4_LEGACY:
            position += 4
            continue
        size = int.from_bytes(word, "little")
        if size == 0:
            break
        block = bytes(view[position + 4 : position + 4 + size])
        if len(block) < size:
            raise CpioError("an lz4 archive is cut off")
        unpacked = lz4.block.decompress(block, uncompressed_size=LZ4_BLOCK_BYTES)
        total += len(unpacked)
        if total > limit_bytes:
            raise NotReadHereError(f"the archive unpacks to more than {limit_bytes} bytes")
        pieces.append(unpacked)
        position += 4 + size
    return b"".join(pieces), min(position, len(view))


def _normal(parts: Iterable[str]) -> str:
    kept: list[str] = []
    for part in parts:
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    return "/".join(kept)


def _aligned(position: int) -> int:
    return position + -position % 4


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def folders_above(path: str) -> Iterator[str]:
    """`a`, `a/b` for `a/b/c`."""
    parts = path.split("/")
    for count in range(1, len(parts)):
        yield "/".join(parts[:count])
