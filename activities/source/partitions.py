"""Whether a disk begins like one that UEFI boots from. Pure.

Follows the UEFI specification 2.10, 5.2 and 5.3: a GPT with a partition of the type "EFI system", or an
MBR with one of the type 0xEF.
"""

import struct
import uuid

LOOK_BYTES = 64 << 10
"""How much of the disk's beginning is looked at: a GPT of 128 entries with sectors of 512 or 4096 bytes."""
_SIGNATURE = b"EFI PART"
_EFI_SYSTEM = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b").bytes_le
_MBR_EFI_SYSTEM = 0xEF


def has_efi_system_partition(beginning: bytes) -> bool:
    """Of the first `LOOK_BYTES` of a disk, fewer only of a smaller one."""
    for sector_bytes in (512, 4096):
        header = beginning[sector_bytes : sector_bytes + 92]
        if header.startswith(_SIGNATURE) and len(header) == 92:
            at, count, size = struct.unpack_from("<QII", header, 72)
            return any(
                beginning[start : start + 16] == _EFI_SYSTEM
                for start in _starts(at * sector_bytes, count, size, len(beginning))
            )
    is_mbr = beginning[510:512] == b"\x55\xaa"
    return is_mbr and any(beginning[at] == _MBR_EFI_SYSTEM for at in (450, 466, 482, 498))


def _starts(first: int, count: int, size: int, end: int) -> range:
    if size < 128 or size > 4096:
        return range(0)
    return range(first, min(first + count * size, end), size)
