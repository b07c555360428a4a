"""Reading a streamOptimized VMDK as a stream, without seeking and without trusting it. Pure.

Follows VMware's "Virtual Disk Format 1.1" (Virtual Disk Format 5.0 technical note), sections "Hosted
Sparse Extents" and "Stream-Optimized Compressed Sparse Extents". The writer may be hostile: what it says
of offsets and sizes is checked before it is believed, and a stream that just ends is an error.
"""

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple

import deflate

SECTOR_BYTES = 512
MAGIC = b"KDMV"
HEADER = struct.Struct("<4sIIQQQQIQQQB4sH433x")
_MARKER = struct.Struct("<QI")
_MARKER_TYPE = struct.Struct("<I")

_COMPRESSED = 1 << 16
_MARKERS = 1 << 17
_DEFLATE = 1
_AT_END = 0xFFFFFFFFFFFFFFFF
_LINE_ENDS = b"\n \r\n"
_MAX_GRAIN_SECTORS = 2048
_MAX_CAPACITY_SECTORS = (64 << 40) // SECTOR_BYTES
_MAX_OVERHEAD_SECTORS = 1 << 20
_TAIL_LIMIT_BYTES = 1 << 20
_SKIP_BYTES = 1 << 20


class VmdkError(Exception):
    """The stream is not a streamOptimized VMDK, or is damaged."""


class VmdkTruncated(VmdkError):
    """The stream ended before its end-of-stream marker."""


class Marker(IntEnum):
    END_OF_STREAM = 0
    GRAIN_TABLE = 1
    GRAIN_DIRECTORY = 2
    FOOTER = 3


class Grain(NamedTuple):
    """A piece of the disk as it came; never reaches beyond the disk's end."""

    offset_bytes: int
    length_bytes: int
    """Of the piece of the disk."""
    packed: memoryview
    """A zlib stream (RFC 1950)."""
    most_bytes: int
    """Of what may be in it, as the last of a disk may hold what lies beyond its end."""

    def content(self) -> bytearray:
        """`length_bytes` of the disk, from any thread. Raises `VmdkError`.

        What would unpack to more than a grain is refused when so much is unpacked.
        """
        try:
            data = deflate.zlib_decompress(self.packed, self.most_bytes)
        except deflate.DeflateError as error:
            raise VmdkError(
                f"the grain at {self.offset_bytes} cannot be decompressed: it is damaged, or no grain"
            ) from error
        if len(data) < self.length_bytes:
            raise VmdkError(f"the grain at {self.offset_bytes} does not decompress to a grain")
        return data if len(data) == self.length_bytes else data[: self.length_bytes]


class StreamVmdk:
    """One pass over a stream.

    `read(size)` must give exactly so many bytes, fewer only at the end of the stream. Constructing reads
    the header and the descriptor. Raises `VmdkError`, and `VmdkTruncated` for a stream that was cut.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        header = self._exactly(SECTOR_BYTES)
        (
            magic,
            version,
            flags,
            capacity,
            grain_sectors,
            descriptor_at,
            descriptor_sectors,
            entries_per_table,
            _redundant_directory,
            directory_at,
            overhead,
            _unclean,
            line_ends,
            algorithm,
        ) = HEADER.unpack(header)
        if magic != MAGIC:
            raise VmdkError("it does not begin with a sparse VMDK's header")
        if line_ends != _LINE_ENDS:
            raise VmdkError("its header was damaged by a transfer in text mode")
        if (
            version not in (1, 2, 3)
            or not flags & _COMPRESSED
            or not flags & _MARKERS
            or algorithm != _DEFLATE
        ):
            raise VmdkError(
                f"it is no streamOptimized VMDK (version {version}, flags {flags:#x}, "
                f"compression {algorithm})"
            )
        if not 8 <= grain_sectors <= _MAX_GRAIN_SECTORS or grain_sectors & (grain_sectors - 1):
            raise VmdkError(f"its header gives grains of {grain_sectors} sectors")
        if not 0 < capacity <= _MAX_CAPACITY_SECTORS:
            raise VmdkError(f"its header gives a capacity of {capacity} sectors")
        if not 0 < entries_per_table <= 4096:
            raise VmdkError(f"its header gives grain tables of {entries_per_table} entries")
        if not max(1, descriptor_at + descriptor_sectors) <= overhead <= _MAX_OVERHEAD_SECTORS:
            raise VmdkError(f"its header gives an overhead of {overhead} sectors")
        self.capacity_bytes: int = capacity * SECTOR_BYTES
        self.grain_bytes: int = grain_sectors * SECTOR_BYTES
        self._needs_footer = directory_at == _AT_END
        tables = -(-capacity // (grain_sectors * entries_per_table))
        self._most_metadata_sectors = -(-max(entries_per_table, tables) * 4 // SECTOR_BYTES)
        # RFC 1950/1951: what deflate cannot compress grows by 5 bytes a block and 6 of framing.
        self._most_compressed_bytes = self.grain_bytes + self.grain_bytes // 64 + 1024
        self._skip((overhead - 1) * SECTOR_BYTES)

    def grains(self) -> Iterator[Grain]:
        """Every grain in the order of the stream; the end only comes after the end-of-stream marker.

        What is in a grain is looked at by `Grain.content` only.
        """
        has_footer = False
        while True:
            sector = self._exactly(SECTOR_BYTES)
            value, size = _MARKER.unpack_from(sector)
            if size:
                yield self._grain(value * SECTOR_BYTES, size, sector)
                continue
            (kind,) = _MARKER_TYPE.unpack_from(sector, _MARKER.size)
            if kind == Marker.END_OF_STREAM:
                if value or any(sector):
                    raise VmdkError("its end-of-stream marker is damaged")
                break
            if kind not in (Marker.GRAIN_TABLE, Marker.GRAIN_DIRECTORY, Marker.FOOTER):
                raise VmdkError(f"it has a marker of unknown type {kind}")
            if value > self._most_metadata_sectors:
                raise VmdkError(f"a marker of type {kind} announces {value} sectors")
            if kind == Marker.FOOTER:
                self._footer(value)
                has_footer = True
            else:
                self._skip(value * SECTOR_BYTES)
        if self._needs_footer and not has_footer:
            raise VmdkError("its footer is missing")
        self._tail()

    def _grain(self, offset: int, size: int, sector: bytes) -> Grain:
        if offset % self.grain_bytes or offset >= self.capacity_bytes:
            raise VmdkError(f"a grain lies at {offset}, outside of the disk or off the grid")
        if size > self._most_compressed_bytes:
            raise VmdkError(f"the grain at {offset} announces {size} compressed bytes")
        padded = -(-(_MARKER.size + size) // SECTOR_BYTES) * SECTOR_BYTES
        raw = sector + self._exactly(padded - SECTOR_BYTES) if padded > SECTOR_BYTES else sector
        length = min(self.grain_bytes, self.capacity_bytes - offset)
        packed = memoryview(raw)[_MARKER.size : _MARKER.size + size]
        return Grain(offset, length, packed, self.grain_bytes)

    def _footer(self, sectors: int) -> None:
        if sectors != 1:
            raise VmdkError(f"its footer has {sectors} sectors")
        fields = HEADER.unpack(self._exactly(SECTOR_BYTES))
        if fields[0] != MAGIC or fields[3] * SECTOR_BYTES != self.capacity_bytes:
            raise VmdkError("its footer does not agree with its header")

    def _tail(self) -> None:
        """Some writers pad behind the last marker; anything but zeroes there is not understood."""
        left = _TAIL_LIMIT_BYTES
        while data := self._read(SECTOR_BYTES):
            left -= len(data)
            if any(data) or left < 0:
                raise VmdkError("something follows its end-of-stream marker")

    def _skip(self, size: int) -> None:
        while size > 0:
            size -= len(self._exactly(min(size, _SKIP_BYTES)))

    def _exactly(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) < size:
            raise VmdkTruncated("it ends before its end-of-stream marker")
        return data
