"""Headers of Microsoft's VHD and VHDX and of VirtualBox's VDI, judged before qemu opens the image. Pure.

Follows Microsoft's "Virtual Hard Disk Image Format Specification" 1.0 and [MS-VHDX]; for VDI, which has no
specification, qemu's block/vdi.c. Differencing disks, which name a parent, are refused.
"""

import struct
import uuid
from collections.abc import Iterator

from hyperctl.activities.source.problems import Problems
from hyperctl.activities.source.vmdk_sparse import ReadAt

VHD_MAGIC = b"conectix"
VHDX_MAGIC = b"vhdxfile"
VDI_MAGIC = b"\x7f\x10\xda\xbe"
VDI_MAGIC_OFFSET = 0x40
FOOTER_BYTES = 512
_FOOTER = struct.Struct(">8sIIQI4sI4sQQIII16sB427x")
_FIXED, _DYNAMIC, _DIFFERENCING = 2, 3, 4
_VDI = struct.Struct("<IIIII256sIIIIIIIQIIII16s16s16s16s")
_VDI_BLOCK_BYTES = 1 << 20
_VDI_NO_BLOCK = 0xFFFFFFFE
_NO_UUID = bytes(16)
_MOST_BYTES = 64 << 40
_PARENT_HINT = "It holds only what differs from its parent: merge the two first."

_REGION_TABLE_OFFSET = 192 << 10
_REGION_TABLE_BYTES = 64 << 10
_METADATA_REGION = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e").bytes_le
_VIRTUAL_DISK_SIZE = uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8").bytes_le
_FILE_PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b").bytes_le
_HAS_PARENT = 1 << 1


def read_vhd_footer(read_at: ReadAt, size_bytes: int, problems: Problems) -> int | None:
    """The virtual size in bytes of an image whose last block is a VHD's footer."""
    data = read_at(size_bytes - FOOTER_BYTES, FOOTER_BYTES)
    if len(data) < FOOTER_BYTES or data[:8] != VHD_MAGIC:
        problems.invalid("its VHD footer is missing at its end", "The file was cut off: fetch it again.")
        return None
    fields = _FOOTER.unpack(data)
    current, kind, stated = fields[9], fields[11], fields[12]
    if ~sum(data[:64] + bytes(4) + data[68:]) & 0xFFFFFFFF != stated:
        problems.invalid("its VHD footer is damaged (checksum)")
    elif kind == _DIFFERENCING:
        problems.unsafe("it is a differencing VHD, which names a parent", _PARENT_HINT)
    elif kind not in (_FIXED, _DYNAMIC):
        problems.unsupported(f"it is a VHD of the type {kind}", "Fixed and dynamic ones are read.")
    elif not 0 < current <= _MOST_BYTES:
        problems.invalid(f"its footer gives a size of {current} bytes")
    elif (kind == _DYNAMIC and read_at(0, FOOTER_BYTES) != data) or (
        kind == _FIXED and read_at(0, len(VHD_MAGIC)) == VHD_MAGIC
    ):
        # qemu believes the copy at the beginning, where a fixed image has the guest's own bytes.
        problems.unsafe("its VHD footer and its beginning contradict each other")
    elif kind == _FIXED and current > size_bytes - FOOTER_BYTES:
        problems.invalid(f"its footer gives a size of {current} bytes, which it does not have")
    else:
        return int(current)
    return None


def read_vdi_header(read_at: ReadAt, size_bytes: int, problems: Problems) -> int | None:
    """The virtual size in bytes."""
    data = read_at(VDI_MAGIC_OFFSET, _VDI.size)
    if len(data) < _VDI.size:
        problems.invalid("its VDI header is cut off")
        return None
    fields = _VDI.unpack(data)
    version, kind, map_at, data_at = fields[1], fields[3], fields[6], fields[7]
    virtual_size, block, blocks, allocated = fields[13], fields[14], fields[16], fields[17]
    link, parent = fields[20], fields[21]
    before = problems.count
    if version != 0x00010001 or kind not in (1, 2):
        problems.unsupported(
            f"it is a VDI of version {version:#x} and type {kind}", "Dynamic and fixed ones of 1.1 are read."
        )
    if link != _NO_UUID or parent != _NO_UUID:
        problems.unsafe("it is a differencing VDI, which names a parent", _PARENT_HINT)
    if not 0 < virtual_size <= _MOST_BYTES or block != _VDI_BLOCK_BYTES or blocks * block < virtual_size:
        problems.invalid(f"its header gives {blocks} blocks of {block} bytes for {virtual_size} bytes")
    elif data_at + allocated * block > size_bytes or any(
        allocated <= number < _VDI_NO_BLOCK for (number,) in _map(read_at, map_at, blocks)
    ):
        problems.invalid("a block of it lies beyond its end", "The file was cut off: fetch it again.")
    return int(virtual_size) if problems.count == before else None


def _map(read_at: ReadAt, offset: int, blocks: int) -> Iterator[tuple[int]]:
    data = read_at(offset, blocks * 4)
    return struct.iter_unpack("<I", data[: len(data) // 4 * 4])


def read_vhdx_header(read_at: ReadAt, size_bytes: int, problems: Problems) -> int | None:
    """The virtual size in bytes, from the metadata region."""
    table = read_at(_REGION_TABLE_OFFSET, _REGION_TABLE_BYTES)
    metadata_at = _entry(table, b"regi", 8, 16, 32, _METADATA_REGION)
    if metadata_at is None:
        problems.invalid("its VHDX region table is damaged")
        return None
    (offset,) = struct.unpack_from("<Q", table, metadata_at + 16)
    metadata = read_at(offset, _REGION_TABLE_BYTES) if offset < size_bytes else b""
    parameters = _value(read_at, metadata, offset, _FILE_PARAMETERS)
    size = _value(read_at, metadata, offset, _VIRTUAL_DISK_SIZE)
    if parameters is None or size is None:
        problems.invalid("its VHDX metadata are damaged")
        return None
    if struct.unpack("<II", parameters)[1] & _HAS_PARENT:
        problems.unsafe("it is a differencing VHDX, which names a parent", _PARENT_HINT)
        return None
    (virtual_size,) = struct.unpack("<Q", size)
    if not 0 < virtual_size <= _MOST_BYTES:
        problems.invalid(f"its metadata give a size of {virtual_size} bytes")
        return None
    return int(virtual_size)


def _entry(table: bytes, signature: bytes, count_at: int, first: int, size: int, wanted: bytes) -> int | None:
    """Where the entry of that GUID begins in a table of entries, at most 2047 of them."""
    if not table.startswith(signature) or len(table) < first:
        return None
    count = struct.unpack_from("<H", table, count_at)[0]
    for at in range(first, first + min(count, 2047) * size, size):
        if table[at : at + 16] == wanted and at + size <= len(table):
            return at
    return None


def _value(read_at: ReadAt, metadata: bytes, region: int, wanted: bytes) -> bytes | None:
    """Eight bytes of a metadata item."""
    at = _entry(metadata, b"metadata", 10, 32, 32, wanted)
    if at is None:
        return None
    offset, length = struct.unpack_from("<II", metadata, at + 16)
    data = read_at(region + offset, 8) if length >= 8 else b""
    return data if len(data) == 8 else None
