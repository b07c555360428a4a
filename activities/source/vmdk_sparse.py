"""A hosted sparse extent: its header and its grain tables, judged before qemu opens it. Pure.

Follows VMware's "Virtual Disk Format 5.0", section "Hosted Sparse Extents". qemu reads zeroes where a table
points beyond the file's end, so a file that was cut off would arrive with holes and nobody would know.
"""

import sys
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hyperctl.activities.export.vmdk import HEADER, MAGIC
from hyperctl.activities.source.problems import Problems

SECTOR_BYTES = 512
_MOST_SECTORS = (64 << 40) // SECTOR_BYTES
_MOST_DESCRIPTOR_SECTORS = 2048
_QEMU_DESCRIPTOR_BYTES = 20 * SECTOR_BYTES
_MOST_GRAIN_SECTORS = 2048
_MOST_TABLE_ENTRIES = 512
_MOST_PADDING_BYTES = 1 << 20
_AT_END = 0xFFFFFFFFFFFFFFFF
_ZEROED_GRAIN, _COMPRESSED, _MARKERS = 1 << 2, 1 << 16, 1 << 17
_LINE_ENDS = b"\n \r\n"
_CUT = "The file was cut off or damaged: fetch it again."

ReadAt = Callable[[int, int], bytes]
"""So many bytes from an offset, fewer only at the end."""


@dataclass(frozen=True, slots=True)
class SparseExtent:
    capacity_bytes: int
    descriptor: bytes
    """The embedded text; empty in an extent of a split disk."""
    is_stream: bool
    """Ends with a footer and an end-of-stream marker, as VMware writes it: it can be read as a stream.

    qemu writes the tables in front, and no end that a cut could be told from.
    """
    allocated_bytes: int
    """Of its grains, decompressed."""
    size_bytes: int
    """Of the file without padding; qemu looks for a stream's footer from there."""


def read_sparse_extent(read_at: ReadAt, size_bytes: int, problems: Problems) -> SparseExtent | None:
    """An extent in a file of so many bytes; None, and problems, for one that qemu must not open."""
    before = problems.count
    block = read_at(0, SECTOR_BYTES)
    if len(block) < SECTOR_BYTES or block[:4] != MAGIC:
        problems.invalid("it does not begin with a sparse VMDK's header")
        return None
    fields = HEADER.unpack(block)
    _, version, flags, capacity, grain, descriptor_at, descriptor_sectors, entries = fields[:8]
    directory_at, overhead, line_ends, algorithm = fields[9], fields[10], fields[12], fields[13]
    if version not in (1, 2, 3):
        problems.unsupported(f"it is a sparse VMDK of version {version}", "Versions 1 to 3 are read.")
    if line_ends != _LINE_ENDS:
        problems.invalid("its header was damaged by a transfer in text mode")
    if not 0 < capacity <= _MOST_SECTORS:
        # With 0 qemu takes the embedded descriptor for one that names further files.
        problems.invalid(f"its header gives a capacity of {capacity} sectors")
    if not 1 <= grain <= _MOST_GRAIN_SECTORS or grain & (grain - 1):
        problems.invalid(f"its header gives grains of {grain} sectors")
    if not 0 < entries <= _MOST_TABLE_ENTRIES:
        problems.invalid(f"its header gives grain tables of {entries} entries")
    compressed = bool(flags & _COMPRESSED)
    if compressed != bool(flags & _MARKERS) or algorithm != (1 if compressed else 0):
        problems.invalid(f"its header contradicts itself (flags {flags:#x}, compression {algorithm})")
    if descriptor_sectors and (
        descriptor_sectors > _MOST_DESCRIPTOR_SECTORS
        or descriptor_at < 1
        or (descriptor_at + descriptor_sectors) * SECTOR_BYTES > size_bytes
    ):
        problems.invalid("its descriptor lies outside of it")
    if overhead * SECTOR_BYTES > size_bytes:
        problems.invalid("it ends before its first grain", _CUT)
    if problems.count > before:
        return None
    is_stream = compressed and directory_at == _AT_END
    if directory_at == _AT_END:
        footer = _footer(read_at, size_bytes)
        if footer is None:
            problems.invalid("its footer is missing at its end", _CUT)
            return None
        directory_at, size_bytes = footer
    tables = _Tables(read_at, size_bytes, grain, entries, bool(flags & _ZEROED_GRAIN), compressed)
    grains = tables.check(directory_at, capacity, problems)
    if problems.count > before:
        return None
    text = read_at(descriptor_at * SECTOR_BYTES, _QEMU_DESCRIPTOR_BYTES) if descriptor_at else b""
    if len(text.partition(b"\0")[0]) > descriptor_sectors * SECTOR_BYTES:
        # qemu searches so many bytes for a parent's name, whatever the header says of their number.
        problems.invalid("its descriptor is longer than its header says")
        return None
    text = read_at(descriptor_at * SECTOR_BYTES, descriptor_sectors * SECTOR_BYTES)
    allocated = min(grains * grain, capacity) * SECTOR_BYTES
    return SparseExtent(capacity * SECTOR_BYTES, text, is_stream, allocated, size_bytes)


def _footer(read_at: ReadAt, size_bytes: int) -> tuple[int, int] | None:
    """Where the footer says that the directory is, and the file's size without padding.

    The footer is followed by the end-of-stream marker, which is a sector of zeroes, and by padding at most.
    """
    start = max(0, size_bytes - _MOST_PADDING_BYTES) // SECTOR_BYTES * SECTOR_BYTES
    tail = read_at(start, size_bytes - start).rstrip(b"\0")
    at = (len(tail) - 1) // SECTOR_BYTES * SECTOR_BYTES
    block = tail[at:].ljust(SECTOR_BYTES, b"\0") if tail else b""
    end = start + at + 2 * SECTOR_BYTES
    if block[:4] != MAGIC or end > size_bytes:
        return None
    directory = HEADER.unpack(block)[9]
    return None if directory == _AT_END else (directory, end)


@dataclass(frozen=True, slots=True)
class _Tables:
    read_at: ReadAt
    size_bytes: int
    grain_sectors: int
    entries: int
    has_zeroed_grains: bool
    is_compressed: bool

    def check(self, directory_at: int, capacity_sectors: int, problems: Problems) -> int:
        """Directory, tables and grains must lie within the file; how many grains there are."""
        tables = -(-capacity_sectors // (self.grain_sectors * self.entries))
        if directory_at < 1 or directory_at * SECTOR_BYTES + tables * 4 > self.size_bytes:
            problems.invalid("its grain directory lies outside of it", _CUT)
            return 0
        grains = 0
        table_bytes = self.entries * 4
        for block in self._numbers(directory_at * SECTOR_BYTES, tables):
            for table_at in block:
                if table_at == 0 or (table_at == 1 and self.has_zeroed_grains):
                    continue
                if table_at * SECTOR_BYTES + table_bytes > self.size_bytes:
                    problems.invalid("a grain table lies outside of it", _CUT)
                    return 0
                (table,) = self._numbers(table_at * SECTOR_BYTES, self.entries)
                if not self._holds(max(table)):
                    problems.invalid("a grain lies beyond its end", _CUT)
                    return 0
                empty = table.count(0) + (table.count(1) if self.has_zeroed_grains else 0)
                grains += len(table) - empty
        return grains

    def _holds(self, grain_at: int) -> bool:
        if grain_at == 0 or (grain_at == 1 and self.has_zeroed_grains):
            return True
        # A compressed grain's own length stands before it, and qemu checks it.
        sectors = 1 if self.is_compressed else self.grain_sectors
        return (grain_at + sectors) * SECTOR_BYTES <= self.size_bytes

    def _numbers(self, offset: int, count: int) -> Iterator["array[int]"]:
        """Little-endian numbers of 32 bits, at most a MiB at a time."""
        while count > 0:
            numbers = array("I")
            numbers.frombytes(self.read_at(offset, min(count * 4, 1 << 20)))
            if sys.byteorder == "big":
                numbers.byteswap()
            yield numbers
            if not numbers:
                return
            offset += len(numbers) * 4
            count -= len(numbers)
