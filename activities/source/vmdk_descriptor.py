"""A VMDK's text descriptor, read no more liberally than qemu reads it. Pure.

Follows VMware's "Virtual Disk Format 5.0", section "The Text Descriptor". qemu opens every file that a
descriptor names, and finds its entries by searching the text: it takes a parent's name out of a comment,
joins an entry that is spread over lines, and reads an extent that follows an empty line twice. So whatever
could mean something else to qemu than to this reader is refused, and so are the extents that qemu passes over
in silence (all but readable and writable ones; ZERO), which would shift everything behind them.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from hyperctl.activities.source.names import objection
from hyperctl.activities.source.problems import Problems, shown

MAGIC = b"# Disk DescriptorFile"
MOST_BYTES = 1 << 20
SECTOR_BYTES = 512
_MOST_SECTORS = (64 << 40) // SECTOR_BYTES
_MOST_EXTENTS = 4096
_NO_PARENT = 0xFFFFFFFF
_MOST_LEFT_OVER = 6
"""Characters behind the end: qemu-img writes a new CID without leading zeroes over the old one, and of a text
that grows shorter by that the old end stays behind the new one."""
_EXTENT = re.compile(
    r"(?P<access>RW|RDONLY|NOACCESS) +(?P<sectors>[0-9]{1,18}) +(?P<kind>[A-Z]{1,20})"
    r'(?: +"(?P<file>[^"]{0,400})"(?: +(?P<offset>[0-9]{1,18}))?(?: [^"]*)?)?'
)
_ENTRY = re.compile(r'(?P<key>[A-Za-z][A-Za-z0-9_.:-]*)[ \t]*=[ \t]*(?P<value>"[^"]*"|[^"]*)')
_ACCESS = re.compile(r"\s*(RW|RDONLY|NOACCESS)\b")


class CreateType(StrEnum):
    """The layouts that are read."""

    MONOLITHIC_SPARSE = "monolithicSparse"
    MONOLITHIC_FLAT = "monolithicFlat"
    SPLIT_SPARSE = "twoGbMaxExtentSparse"
    SPLIT_FLAT = "twoGbMaxExtentFlat"
    STREAM_OPTIMIZED = "streamOptimized"
    VMFS = "vmfs"

    @property
    def is_one_file(self) -> bool:
        """Descriptor and data in one file, which the descriptor need not name rightly."""
        return self in (CreateType.MONOLITHIC_SPARSE, CreateType.STREAM_OPTIMIZED)


_REFUSED = {
    "fullDevice": "stands for a whole physical disk",
    "partitionedDevice": "stands for partitions of a physical disk",
    "vmfsRaw": "stands for a raw device of an ESXi host",
    "vmfsRawDeviceMap": "stands for a raw device of an ESXi host",
    "vmfsPassthroughRawDeviceMap": "stands for a raw device of an ESXi host",
    "vmfsRDM": "stands for a raw device of an ESXi host",
    "vmfsRDMP": "stands for a raw device of an ESXi host",
    "vmfsSparse": "is the delta of a snapshot",
    "seSparse": "is the delta of a snapshot",
    "custom": "has a layout of its own",
}
_KINDS = {
    CreateType.MONOLITHIC_FLAT: "FLAT",
    CreateType.SPLIT_FLAT: "FLAT",
    CreateType.SPLIT_SPARSE: "SPARSE",
    CreateType.VMFS: "VMFS",
}


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of the disk in a file beside the descriptor."""

    file: str
    """A plain name."""
    sectors: int
    is_sparse: bool
    offset_bytes: int
    """Of its first byte in the file; 0 for a sparse one."""

    @property
    def size_bytes(self) -> int:
        return self.sectors * SECTOR_BYTES


@dataclass(frozen=True, slots=True)
class VmdkDescriptor:
    create_type: CreateType
    extents: tuple[Extent, ...]
    """In the disk's order; none for the layouts of one file."""

    @property
    def capacity_bytes(self) -> int:
        """0 for the layouts of one file, whose header says it."""
        return sum(extent.size_bytes for extent in self.extents)


def read_vmdk_descriptor(data: bytes, problems: Problems) -> VmdkDescriptor | None:
    """The layout; None, and problems, for a descriptor that qemu must not see."""
    before = problems.count
    text = _text(data, problems)
    if text is None:
        return None
    if not text.startswith(MAGIC.decode()):
        problems.invalid("it has no VMDK descriptor")
        return None
    create_type = _read_type(text, problems)
    _check_parent(text, problems)
    extents = _read_extents(text, create_type, problems)
    if problems.count > before or create_type is None:
        return None
    return VmdkDescriptor(create_type, extents)


def _text(data: bytes, problems: Problems) -> str | None:
    if len(data) > MOST_BYTES:
        problems.invalid(f"its descriptor has {len(data)} bytes; {MOST_BYTES} are taken")
        return None
    text, _, rest = data.partition(b"\0")
    if not text[-_MOST_LEFT_OVER:].endswith(rest.strip(b"\0")):
        problems.invalid("its descriptor goes on behind its end")
        return None
    # Names may be in any encoding (`encoding="windows-1252"`); entries that matter are ASCII.
    return text.decode("utf-8", errors="surrogateescape").replace("\r\n", "\n")


def _read_type(text: str, problems: Problems) -> CreateType | None:
    found = re.findall(r"createType", text)
    match = re.search(r'^createType[ \t]*=[ \t]*"?([A-Za-z0-9]{1,60})"?[ \t]*$', text, re.MULTILINE)
    if match is None or len(found) != 1:
        problems.invalid(f"its descriptor states its layout (createType) {len(found)} times and not once")
        return None
    name = match[1]
    if name in _REFUSED:
        problems.unsupported(
            f"it {_REFUSED[name]} (createType {name})",
            "Clone it where it comes from, without snapshots, into a disk of its own (vmkfstools -i).",
        )
        return None
    if name not in list(CreateType):
        problems.unsupported(
            f"it has a layout that is not known (createType {name})", "Export it as a streamOptimized VMDK."
        )
        return None
    return CreateType(name)


def _check_parent(text: str, problems: Problems) -> None:
    hint = (
        "It holds only what differs from its parent: consolidate the snapshots, or clone it (vmkfstools -i)."
    )
    if "parentFileNameHint" in text:
        problems.unsafe("its descriptor names a parent disk (parentFileNameHint)", hint)
    for value in re.findall(r"parentCID[ \t]*=[ \t]*(\S{0,40})", text):
        if not re.fullmatch(r"[0-9a-fA-F]{1,8}", value) or int(value, 16) != _NO_PARENT:
            problems.unsafe(f"its descriptor refers to a parent disk (parentCID {shown(value)})", hint)


def _read_extents(text: str, create_type: CreateType | None, problems: Problems) -> tuple[Extent, ...]:
    extents: list[Extent] = []
    before = problems.count
    previous = "#"
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"line {number} of its descriptor"
        stripped = line.rstrip(" \t")
        if "\r" in line or "\x0b" in line or "\x0c" in line:
            problems.invalid(f"{where} holds characters that end a line for some readers and not for others")
        elif _ACCESS.match(line):
            match = _EXTENT.fullmatch(stripped)
            if match is None:
                problems.invalid(f"{where} is no extent: {shown(line)}")
            else:
                if not previous.strip():
                    problems.invalid(
                        f"{where} is an extent behind an empty line, which qemu would read twice",
                        "Remove the empty line.",
                    )
                _take_extent(match, where, create_type, extents, problems)
        elif stripped and not stripped.startswith("#") and not _ENTRY.fullmatch(stripped):
            problems.invalid(f"{where} is neither an entry nor an extent: {shown(line)}")
        previous = line
        if len(extents) > _MOST_EXTENTS:
            problems.invalid(f"its descriptor names more than {_MOST_EXTENTS} extents")
            break
    if create_type is not None and create_type.is_one_file:
        return ()
    if create_type is not None and not extents and problems.count == before:
        problems.invalid("its descriptor names no extent")
    if sum(extent.sectors for extent in extents) > _MOST_SECTORS:
        problems.invalid("its descriptor names more sectors than a disk can have")
    return tuple(extents)


def _take_extent(
    match: re.Match[str],
    where: str,
    create_type: CreateType | None,
    extents: list[Extent],
    problems: Problems,
) -> None:
    kind, file = match["kind"], match["file"] or ""
    if create_type is None or create_type.is_one_file:
        # The name is what the disk was called when it was made; it is not opened.
        return
    if match["access"] != "RW" or kind == "ZERO":
        problems.unsupported(
            f"{where} is an extent that cannot be read rightly ({match['access']} {kind})",
            "Clone the disk into one without holes: vmware-vdiskmanager -r OLD -t 0 NEW.",
        )
        return
    if kind != _KINDS[create_type]:
        problems.unsupported(
            f"{where} is an extent of the kind {kind}, in a disk of the layout {create_type}"
        )
        return
    if wrong := objection(file):
        problems.unsafe(f"{where} names the extent {wrong}", "A disk's extents lie beside its descriptor.")
        return
    if not file.isascii() and not _is_utf8(file):
        problems.unsupported(f"{where} names an extent that is no UTF-8", "Rename the extents.")
        return
    if any(extent.file == file and extent.is_sparse for extent in extents):
        problems.invalid(f"{where} names the extent {shown(file)} a second time")
        return
    sectors = int(match["sectors"])
    if not 0 < sectors <= _MOST_SECTORS:
        problems.invalid(f"{where} gives an extent of {sectors} sectors")
        return
    offset = match["offset"]
    if kind == "FLAT" and offset is None:
        problems.invalid(f"{where} gives no offset of a flat extent")
        return
    if kind == "SPARSE" and offset is not None:
        problems.invalid(f"{where} gives an offset of a sparse extent")
        return
    extents.append(Extent(file, sectors, kind == "SPARSE", int(offset or 0) * SECTOR_BYTES))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
