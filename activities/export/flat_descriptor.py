"""The descriptor of a disk on a datastore: which file beside it holds the disk's bytes. Pure.

Follows VMware's "Virtual Disk Format 5.0", section "The Text Descriptor". Only what vSphere itself writes of
a disk without snapshots is taken: one extent, readable and writable, in a plain file.
"""

import re
from dataclasses import dataclass

from hyperctl.workflows.errors import ErrorCode, HyperctlError

MOST_BYTES = 64 << 10
SECTOR_BYTES = 512
_NO_PARENT = "ffffffff"
_ENTRY = re.compile(r'([A-Za-z][\w.:-]*)[ \t]*=[ \t]*"?([^"]*?)"?[ \t]*')
_EXTENT = re.compile(r'(RW|RDONLY|NOACCESS) +([0-9]{1,15}) +([A-Z]+)(?: +"([^"]+)"(?: +([0-9]+))?)?[ \t]*')
_OTHERS = {
    "vmfssparse": "is the delta of a snapshot",
    "sesparse": "is the delta of a snapshot",
    "vmfsrdm": "is a raw device mapping",
    "vmfsrawdevicemap": "is a raw device mapping",
    "vmfspassthroughrawdevicemap": "is a raw device mapping",
    "vmfsraw": "is a raw device",
}
_FLAT = ("vmfs", "vmfsthin", "vmfspreallocated", "vmfseagerzeroedthick", "monolithicflat")
_OTHER_WAY = "Copy it with --transport nfc."


@dataclass(frozen=True, slots=True)
class FlatExtent:
    """The file beside the descriptor that is the disk, byte for byte."""

    file: str
    size_bytes: int


def flat_extent(data: bytes, name: str) -> FlatExtent:
    """Read a descriptor. Raises `HyperctlError`: `image_invalid`, `vm_unsupported` for other disks."""
    if len(data) > MOST_BYTES or b"\0" in data or not data.startswith(b"# Disk DescriptorFile"):
        raise HyperctlError(ErrorCode.IMAGE_INVALID, f"{name} is no descriptor of a disk", _OTHER_WAY)
    lines = data.decode(errors="replace").splitlines()
    entries = {match[1].lower(): match[2] for line in lines if (match := _ENTRY.fullmatch(line))}
    create_type = entries.get("createtype", "")
    if create_type.lower() not in _FLAT:
        what = _OTHERS.get(create_type.lower(), "has a layout that cannot be read as one flat file")
        raise _unsupported(f"{name} {what} (createType {create_type[:60]!r})")
    if entries.get("parentcid", _NO_PARENT).lower() != _NO_PARENT or "parentfilenamehint" in entries:
        raise _unsupported(f"{name} holds only what differs from its parent")
    extents = [line for line in lines if re.match(r"\s*(RW|RDONLY|NOACCESS)\b", line)]
    if len(extents) != 1:
        raise _unsupported(f"{name} has {len(extents)} extents; one can be read")
    extent = _EXTENT.fullmatch(extents[0])
    if extent is None or extent[1] != "RW" or extent[3] not in ("VMFS", "FLAT") or int(extent[5] or 0):
        raise _unsupported(f"{name} has an extent that cannot be read as one flat file: {extents[0][:200]!r}")
    file = extent[4] or ""
    if not file or "/" in file or file in (".", ".."):
        raise _unsupported(f"{name} has its bytes in {file[:200]!r}, which does not lie beside it")
    return FlatExtent(file, int(extent[2]) * SECTOR_BYTES)


def _unsupported(message: str) -> HyperctlError:
    return HyperctlError(ErrorCode.VM_UNSUPPORTED, message, _OTHER_WAY)
