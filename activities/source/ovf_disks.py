"""The files and the disks that an OVF descriptor lists. Pure.

Follows DMTF DSP0243 1.1, 7.1 (references) and 9.1 (disk section).
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from hyperctl.activities.source.markup import Element
from hyperctl.activities.source.names import decoded, objection
from hyperctl.activities.source.problems import Problems, shown
from hyperctl.activities.source.units import UnitError, bytes_of

MOST_DISK_BYTES = 64 << 40
_COUNT = re.compile(r"\d{1,19}")


@dataclass(frozen=True, slots=True)
class OvfFile:
    """A file that belongs to the package."""

    identity: str
    name: str
    """A plain name, beside the descriptor."""
    size_bytes: int | None
    reference: str = ""
    """As it is written: some exporters do not encode a `%` that is the name's own, so this is tried first."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the file may be called, the likelier first."""
        return (self.reference, self.name) if self.reference else (self.name,)


@dataclass(frozen=True, slots=True)
class DiskEntry:
    """A disk as the disk section has it, before it is known whether a drive holds it."""

    disk_id: str
    file: OvfFile | None
    capacity_bytes: int
    populated_bytes: int


def read_files(envelope: Element, problems: Problems) -> dict[str, OvfFile]:
    """What `References` lists, by id."""
    found: dict[str, OvfFile] = {}
    names: set[str] = set()
    for element in (file for part in envelope.all("References") for file in part.all("File")):
        where = f"line {element.line}: "
        identity = element.attributes.get("id", "")
        reference = element.attributes.get("href", "")
        name = decoded(reference)
        wrong = objection(reference) or objection(name)
        compression = element.attributes.get("compression", "").lower()
        if wrong:
            problems.unsafe(
                f"{where}the file {shown(identity)} refers to {wrong}",
                "A package's files lie beside its descriptor, and are named without a path.",
            )
            continue
        if not identity or identity in found:
            problems.invalid(f"{where}the id of file {shown(name)}, {shown(identity)}, is no unique id")
            continue
        if name in names:
            problems.invalid(f"{where}the file {shown(name)} is listed twice")
        if element.attributes.get("chunkSize"):
            problems.unsupported(
                f"{where}the file {shown(name)} is cut into chunks (ovf:chunkSize)",
                "Join them (`cat NAME.0* > NAME`) and drop the attribute, or export without chunks.",
            )
        if compression not in ("", "identity"):
            problems.unsupported(
                f"{where}the file {shown(name)} is compressed as a whole "
                f"(ovf:compression {shown(compression)})",
                "Uncompress it and drop the attribute, or export it as a streamOptimized VMDK.",
            )
        size = element.attributes.get("size", "")
        if size and not _COUNT.fullmatch(size):
            problems.invalid(f"{where}the size of file {shown(name)} is {shown(size)}")
            size = ""
        names.add(name)
        found[identity] = OvfFile(identity, name, int(size) if size else None, reference)
    return found


def read_disks(
    envelope: Element, files: dict[str, OvfFile], held: Collection[str], problems: Problems
) -> dict[str, DiskEntry]:
    """What the disk sections list, by id. Judged is what a drive of the machine holds."""
    found: dict[str, DiskEntry] = {}
    for element in (disk for part in envelope.all("DiskSection") for disk in part.all("Disk")):
        attributes = element.attributes
        disk_id, reference = attributes.get("diskId", ""), attributes.get("fileRef", "")
        where = f"line {element.line}: the disk {shown(disk_id)} "
        if not disk_id or disk_id in found:
            problems.invalid(f"{where}has no id, or one that another disk has too")
            continue
        # VirtualBox lists the media of CD drives among the disks, and they have no capacity.
        mine = problems if disk_id in held else Problems(problems.file)
        if attributes.get("parentRef"):
            mine.unsupported(
                f"{where}holds only what differs from the disk {shown(attributes['parentRef'])}",
                "Export the machine again without snapshots.",
            )
        if reference and reference not in files:
            mine.invalid(f"{where}lies in the file {shown(reference)}, which is not listed")
        found[disk_id] = DiskEntry(
            disk_id,
            files.get(reference),
            _capacity(attributes, where, mine),
            _populated(attributes),
        )
    return found


def _capacity(attributes: dict[str, str], where: str, problems: Problems) -> int:
    text, unit = attributes.get("capacity", ""), attributes.get("capacityAllocationUnits") or "byte"
    if text.startswith("${"):
        problems.unsupported(
            f"{where}has a capacity that is to be chosen at deployment, {shown(text)}",
            "Write the size into the descriptor, in bytes.",
        )
        return 0
    try:
        factor = bytes_of(unit)
    except UnitError:
        problems.invalid(f"{where}has a capacity in {shown(unit)}, which is no unit of bytes")
        return 0
    if not _COUNT.fullmatch(text) or not 0 < int(text) * factor <= MOST_DISK_BYTES:
        problems.invalid(f"{where}has the capacity {shown(text)} ({shown(unit)})")
        return 0
    return int(text) * factor


def _populated(attributes: dict[str, str]) -> int:
    """An estimate only (DSP0243, 9.1), so a wrong one is none."""
    text = attributes.get("populatedSize", "")
    return int(text) if _COUNT.fullmatch(text) else 0
