"""A qcow2 image's header, judged before qemu opens the image. Pure.

Follows qemu's docs/interop/qcow2.txt. An image that names another file (a backing file, an external data
file), is encrypted, damaged or newer than what is known here is refused.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from hyperctl.activities.source.problems import Problems

MAGIC = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
_HEADER_3 = struct.Struct(">QQQII")
_EXTENSION = struct.Struct(">II")
_EXTERNAL_DATA_NAME = 0x44415441
_ENCRYPTION = 0x0537BE77
_KNOWN_INCOMPATIBLE = 0b11111
_CORRUPT, _EXTERNAL_DATA = 1 << 1, 1 << 2
_MOST_VIRTUAL_BYTES = 64 << 40
_TABLE_OFFSET_MASK = 0x00FFFFFFFFFFFE00


@dataclass(frozen=True, slots=True)
class Qcow2Header:
    version: int
    virtual_size_bytes: int
    snapshots: int
    """Internal ones; they are not moved."""


def read_qcow2_header(
    read_at: Callable[[int, int], bytes], size_bytes: int, problems: Problems
) -> Qcow2Header | None:
    """The header of an image of so many bytes; None, and problems, for one that qemu must not open."""
    data = read_at(0, _HEADER.size)
    if len(data) < _HEADER.size or data[:4] != MAGIC:
        problems.invalid("its qcow2 header is damaged")
        return None
    (
        _,
        version,
        backing_offset,
        backing_size,
        cluster_bits,
        virtual_size,
        encryption,
        l1_entries,
        l1_offset,
        refcounts_offset,
        refcount_clusters,
        snapshots,
        _snapshots_offset,
    ) = _HEADER.unpack(data)
    before = problems.count
    if version not in (2, 3):
        problems.unsupported(f"it is a qcow2 of version {version}", "Versions 2 and 3 are read.")
        return None
    if not 9 <= cluster_bits <= 21:
        problems.invalid(f"its header gives clusters of 2^{cluster_bits} bytes")
        return None
    if backing_offset or backing_size:
        problems.unsafe(
            "it names a backing file",
            "Flatten it where it comes from: qemu-img convert -O qcow2 OLD NEW.",
        )
    if encryption:
        problems.unsupported("it is encrypted", "Decrypt it first: qemu-img convert with its secret.")
    cluster = 1 << cluster_bits
    if not 0 < virtual_size <= _MOST_VIRTUAL_BYTES:
        problems.invalid(f"its header gives a virtual size of {virtual_size} bytes")
    _check_l1(read_at, size_bytes, (l1_offset, l1_entries), (virtual_size, cluster), problems)
    if not 0 < refcounts_offset <= size_bytes or refcounts_offset % cluster:
        problems.invalid("its refcount table lies outside of it")
    elif refcounts_offset + refcount_clusters * cluster > size_bytes + cluster:
        problems.invalid("its refcount table reaches beyond its end")
    header_bytes = 72
    if version == 3:
        header_bytes = _check_version_3(read_at(72, _HEADER_3.size), cluster, problems)
    if header_bytes:
        _check_extensions(read_at(header_bytes, cluster - header_bytes), problems)
    if problems.count > before:
        return None
    return Qcow2Header(version, virtual_size, snapshots)


def _check_l1(
    read_at: Callable[[int, int], bytes],
    size_bytes: int,
    table: tuple[int, int],
    geometry: tuple[int, int],
    problems: Problems,
) -> None:
    """The table of tables must cover the disk and lie in the file, and so must the tables that it names."""
    offset, entries = table
    virtual_size, cluster = geometry
    # With extended entries (version 3) more are needed; qemu counts them itself.
    needed = -(-virtual_size // (cluster * cluster // 8))
    if entries < needed or entries * 8 > 32 << 20:
        problems.invalid(f"its L1 table has {entries} entries, where its size needs {needed}")
    elif offset % cluster or not 0 < offset <= size_bytes - entries * 8:
        problems.invalid("its L1 table lies outside of it")
    else:
        data = read_at(offset, entries * 8)
        count = len(data) // 8
        for entry in struct.unpack(f">{count}Q", data[: count * 8]):
            at = entry & _TABLE_OFFSET_MASK
            if at and (at % cluster or at + cluster > size_bytes):
                problems.invalid("a table of it lies beyond its end", "The file was cut off: fetch it again.")
                return


def _check_version_3(data: bytes, cluster: int, problems: Problems) -> int:
    """The fields that version 3 added; the header's length, or 0 where there is none to go on with."""
    if len(data) < _HEADER_3.size:
        problems.invalid("its header is cut off")
        return 0
    incompatible, _compatible, _autoclear, _refcount_order, length = _HEADER_3.unpack(data)
    if incompatible & _EXTERNAL_DATA:
        problems.unsafe(
            "it keeps its data in an external data file",
            "Bring it into one file: qemu-img convert -O qcow2 OLD NEW.",
        )
    if incompatible & _CORRUPT:
        problems.invalid("it is marked as corrupt", "Repair it where it comes from: qemu-img check -r all.")
    if unknown := incompatible & ~_KNOWN_INCOMPATIBLE:
        problems.unsupported(
            f"it uses features that are not known here (incompatible bits {unknown:#x})",
            "Write it anew with its own programme in an older form (qcow2 compat=1.1), or as raw.",
        )
    if not 104 <= length <= cluster or length % 8:
        problems.invalid(f"its header is said to have {length} bytes")
        return 0
    return int(length)


def _check_extensions(data: bytes, problems: Problems) -> None:
    at = 0
    while at + _EXTENSION.size <= len(data):
        kind, length = _EXTENSION.unpack_from(data, at)
        if kind == 0:
            return
        if kind == _EXTERNAL_DATA_NAME:
            problems.unsafe("it names an external data file")
        elif kind == _ENCRYPTION:
            problems.unsupported("it is encrypted with LUKS", "Decrypt it first.")
        at += _EXTENSION.size + length + -length % 8
    if at > len(data):
        problems.invalid("a header extension reaches beyond its first cluster")
