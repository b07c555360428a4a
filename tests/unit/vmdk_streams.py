"""streamOptimized VMDKs as VMware writes them: tables behind the grains, and a footer that names them."""

import struct
import zlib
from dataclasses import dataclass

from hyperctl.activities.export.vmdk import HEADER

SECTOR = 512
AT_END = 0xFFFFFFFFFFFFFFFF
DESCRIPTOR = (
    '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="streamOptimized"\n'
    '\n# Extent description\nRW {sectors} SPARSE "call-me-stream.vmdk"\n\n#DDB\nddb.adapterType = "ide"\n'
)


@dataclass(frozen=True)
class Shape:
    """The sizes in a stream's header, VMware's unless others are wanted; in sectors but for the entries."""

    grain: int = 128
    table_entries: int = 512
    descriptor: int = 20
    overhead: int = 128

    def header(self, sectors: int, directory_at: int) -> bytes:
        sizes = (sectors, self.grain, 1, self.descriptor, self.table_entries, 0, directory_at, self.overhead)
        return HEADER.pack(b"KDMV", 3, 0x30001, *sizes, 0, b"\n \r\n", 1)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % SECTOR)


def vmware_stream(content: bytes, shape: Shape | None = None) -> bytes:
    """A disk of whole sectors; grains of zeroes are left out."""
    shape = shape or Shape()
    sectors = len(content) // SECTOR
    grain_bytes = shape.grain * SECTOR
    text = DESCRIPTOR.format(sectors=sectors).encode()
    body = bytearray(shape.header(sectors, AT_END) + text)
    body += bytes(shape.overhead * SECTOR - len(body))
    grains: dict[int, int] = {}
    for at in range(0, len(content), grain_bytes):
        grain = content[at : at + grain_bytes].ljust(grain_bytes, b"\0")
        if any(grain):
            grains[at // grain_bytes] = len(body) // SECTOR
            packed = zlib.compress(grain)
            body += padded(struct.pack("<QI", at // SECTOR, len(packed)) + packed)
    tables = []
    for first in range(0, -(-sectors // shape.grain), shape.table_entries):
        entries = [grains.get(number, 0) for number in range(first, first + shape.table_entries)]
        table = padded(struct.pack(f"<{shape.table_entries}I", *entries))
        body += padded(struct.pack("<QII", len(table) // SECTOR, 0, 1))
        tables.append(len(body) // SECTOR)
        body += table
    directory = padded(struct.pack(f"<{len(tables)}I", *tables))
    body += padded(struct.pack("<QII", len(directory) // SECTOR, 0, 2))
    directory_at = len(body) // SECTOR
    body += directory + padded(struct.pack("<QII", 1, 0, 3)) + shape.header(sectors, directory_at)
    return bytes(body) + bytes(SECTOR)
