"""Names of disks that mean another disk, or none, on another controller; and those that stay true."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hyperctl.activities.convert.linux.unit_names import from_hexadecimal

_LETTERED = re.compile(r"^/dev/(sd|hd|vd|xvd)([a-z]{1,2})(\d*)$")
_NVME = re.compile(r"^/dev/nvme(\d+)n(\d+)(?:p(\d+))?$")
_BY_PATH = re.compile(r"^/dev/disk/by-path/(?P<path>[^/]+?)(?:-part(?P<partition>\d+))?$")
_UNIT = re.compile(
    r"(?:pci-\w+:(?P<pci>\w\w:\w\w\.\w)-)?(?:.*-)?"
    r"(?:(?P<scsi>scsi)-\d+:\d+:(?P<target>\d+):\d+|(?P<sas>sas)-phy(?P<phy>\d+)-lun-\d+"
    r"|(?P<ata>ata)-(?P<port>\d+)(?:\.\d+)?|(?P<nvme>nvme)-(?P<namespace>\d+))$"
)
"""What udev's path_id says of a disk's place; ports and namespaces count from 1, the others from 0."""
_BY_ID = re.compile(r"^/dev/disk/by-id/(?:scsi-|wwn-|ata-|nvme-)[^/]*?(?:-part(\d+))?$")
_MULTIPATH = re.compile(
    r"^/dev/(?:mapper/|disk/by-id/dm-name-|disk/by-id/dm-uuid-(?:part(?P<part>\d+)-)?mpath-)"
    r"(?P<id>3[0-9a-f]{32})(?:(?:-part|p)?(?P<partition>\d+))?$"
)
"""multipathd's names, where it has none of its own; of virtio's disks it makes none."""
_MAPPED = re.compile(r"^/dev/mapper/(?P<name>[^/]+?)(?:-part|p)?(?P<partition>\d+)$")
_DISK = re.compile(r"^/dev/sd[a-z]+")
_KINDS = {
    "scsi": ("pvscsi", "lsilogic", "lsisas", "buslogic", "unknown"),
    "sas": ("lsisas", "unknown"),
    "ata": ("ahci", "ide", "unknown"),
    "nvme": ("nvme", "unknown"),
}
FIRST_CONTROLLERS = ("03:00.0", "00:10.0")
"""Where VMware has the first controller, of PCI Express or not."""
SHARED_UUID = "btrfs"
"""Of all its disks, any of which stands for the whole."""


WITHOUT_LINK = ("LVM2_member", "linux_raid_member")
"""udev makes no link by the UUID of these."""
TAGS = ("UUID", "LABEL", "PARTUUID", "PARTLABEL")


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """What is written on a device itself, and so moves with it."""

    uuid: str = ""
    """The filesystem's (or swap space's, or LUKS header's)."""
    partition_uuid: str = ""
    kind: str = ""
    """What blkid(8) calls it."""


@dataclass(frozen=True, slots=True)
class DiskPlace:
    """Where VMware had a disk."""

    unit: int
    controller: str = "unknown"
    """Its kind, as a machine's disk has it."""
    controller_bus: int = 0
    uuid: str = ""
    """As a machine's disk has it."""


class StableNames:
    """Gives the stable name for one that depends on hardware.

    Devices are known by the names that the appliance gives them, which has the disks in the guest's order:
    /dev/sda is the first.
    """

    def __init__(
        self,
        devices: Mapping[str, BlockDevice],
        places: Sequence[DiskPlace] = (),
        root: str = "",
        multipath: Mapping[str, str] = MappingProxyType({}),
        tags: Collection[tuple[str, str]] | None = None,
    ) -> None:
        """`places` are the disks', in the guest's order; `root` is the device of the root filesystem;
        `multipath` are names in /dev/mapper that multipathd gives, with the ids of their disks; `tags` are
        what is on the disks has, as `tag_in` gives them."""
        self._devices = devices
        self._places = tuple(places)
        self._root = root
        self._multipath = multipath
        self._tags = tags
        self._disks = len({found[0] for name in devices if (found := _DISK.match(name))})

    def is_unstable(self, name: str) -> bool:
        """Whether the name depends on the controller that the disk is on."""
        name = self._by_wwid(name)
        return any(form.match(name) for form in (_LETTERED, _NVME, _BY_PATH, _BY_ID, _MULTIPATH))

    def is_elsewhere(self, name: str) -> bool:
        """Whether it is a label or UUID that none of the copied disks has."""
        tag = tag_in(name)
        return tag[0] in TAGS and self._tags is not None and tag not in self._tags

    def device(self, name: str) -> str | None:
        """The appliance's name for it, or None where that cannot be told."""
        index: int | None
        name = self._by_wwid(name)
        if found := _LETTERED.match(name):
            letters, partition = found[2], found[3]
            position = (
                ord(letters[-1]) - ord("a") + (26 * (ord(letters[0]) - ord("a") + 1) if letters[1:] else 0)
            )
            if found[1] == "hd" and not partition and not self._may_be("ata"):
                return None  # a drive for CDs
            index = self._lettered(position)
        elif found := _NVME.match(name):
            index, partition = self._namespace(int(found[1]), int(found[2])), found[3] or ""
        elif found := _BY_PATH.match(name):
            index, partition = self._by_path(found["path"]), found["partition"] or ""
        elif found := _BY_ID.match(name):
            index, partition = self._by_id(name), found[1] or ""
        elif found := _MULTIPATH.match(name):
            index, partition = self._by_id(found["id"]), found["partition"] or found["part"] or ""
        else:
            return None
        if index is None:
            return None
        device = f"/dev/sd{_letters(index)}{partition}"
        return device if device in self._devices else None

    def stable(self, name: str) -> str | None:
        """`UUID=...`, else `PARTUUID=...`; None where there is neither, or the device is not there."""
        device = self.device(name)
        if device is None:
            return None
        facts = self._devices[device]
        others = [other.uuid for path, other in self._devices.items() if path != device]
        if facts.uuid and (facts.uuid not in others or facts.kind == SHARED_UUID):
            return f"UUID={facts.uuid}"
        return f"PARTUUID={facts.partition_uuid}" if facts.partition_uuid else None

    def stable_root(self, name: str) -> str | None:
        """The same for a name that is the root filesystem's, whatever it would be by the order of disks.

        A guest may have counted its disks in another order than vSphere; which one is its root is known.
        """
        return self.stable(self._root) if self._root in self._devices else self.stable(name)

    def link(self, name: str) -> str | None:
        """The same as a path, `/dev/disk/by-uuid/...`; of a disk that shares its UUID the partition's."""
        stable = self.stable(name)
        facts = self._devices.get(self.device(name) or "", BlockDevice())
        if facts.kind in (SHARED_UUID, *WITHOUT_LINK):
            shared = stable if facts.kind == SHARED_UUID else None
            stable = f"PARTUUID={facts.partition_uuid}" if facts.partition_uuid else shared
        tag, _, value = (stable or "").partition("=")
        return f"/dev/disk/by-{tag.lower()}/{value}" if value else None

    def lasting(self, name: str) -> str | None:
        """`link` of a name that depends on the controller; None for all else."""
        return self.link(name) if self.is_unstable(name) else None

    def waited_for(self, name: str, prefix: str) -> str | None:
        """A path that is there as soon as the device is; None where that is not known, or the name is stable.

        `prefix` is that of the disks' names on KVM, for what has no name of its own.
        """
        device = self.device(name) if self.is_unstable(name) else None
        return (self.link(name) or device.replace("/dev/sd", f"/dev/{prefix}")) if device else None

    def _by_wwid(self, name: str) -> str:
        """What a name that multipathd was told would be, had it not been told one."""
        if whole := self._multipath.get(name.removeprefix("/dev/mapper/")):
            return f"/dev/mapper/{whole}"
        found = _MAPPED.match(name)
        wwid = self._multipath.get(found["name"]) if found else None
        return f"/dev/mapper/{wwid}{found['partition']}" if found and wwid else name

    def _may_be(self, kind: str) -> bool:
        return not self._places or any(place.controller in _KINDS[kind] for place in self._places)

    def _lettered(self, position: int) -> int | None:
        """The disk at a position among those that have letters, which NVMe's have not."""
        others = [index for index, place in enumerate(self._places) if place.controller != "nvme"]
        if len(others) in (0, len(self._places)):
            return position
        return others[position] if position < len(others) else None

    def _namespace(self, controller: int, namespace: int) -> int | None:
        """The disk that is a namespace, counted from 1, of a controller, counted from 0."""
        on_nvme = [
            (place.controller_bus, place.unit, index)
            for index, place in enumerate(self._places)
            if place.controller == "nvme"
        ]
        if not on_nvme:
            return controller + namespace - 1
        buses = sorted({bus for bus, _, _ in on_nvme})
        if controller >= len(buses):
            return None
        there = sorted(one for one in on_nvme if one[0] == buses[controller])
        return there[namespace - 1][2] if 0 < namespace <= len(there) else None

    def _by_id(self, name: str) -> int | None:
        """The disk whose own id is in the name; without ids, the only one."""
        there = [index for index, place in enumerate(self._places) if place.uuid and place.uuid in name]
        if len(there) == 1:
            return there[0]
        return 0 if self._disks <= 1 else None

    def _by_path(self, path: str) -> int | None:
        """The disk at a place; of those at the same unit, the one on the controller that the path names."""
        found = _UNIT.match(path)
        if not found:
            return 0 if self._disks == 1 else None
        kind = found["scsi"] or found["sas"] or found["ata"] or found["nvme"]
        counted = found["port"] or found["namespace"]
        unit = int(counted) - 1 if counted else int(found["target"] or found["phy"])
        at_unit = [index for index, place in enumerate(self._places) if place.unit == unit]
        there = [index for index in at_unit if self._places[index].controller in _KINDS[kind]] or at_unit
        if len(there) > 1 and found["pci"]:
            first = min(self._places[index].controller_bus for index in there)
            on_first = found["pci"] in FIRST_CONTROLLERS
            there = [index for index in there if (self._places[index].controller_bus == first) == on_first]
        return there[0] if len(there) == 1 else None


def tag_in(name: str) -> tuple[str, str]:
    """`("LABEL", "data")` of `LABEL=data` and of /dev/disk/by-label/data, in which udev escapes what is no
    file's name; UUIDs in small letters, and something that is none of `TAGS` of all else."""
    tag, equals, value = name.partition("=")
    if equals:
        tag, value = tag.upper(), value.strip("\"'")
    else:
        folder, _, escaped = name.rpartition("/")
        tag = folder.removeprefix("/dev/disk/by-").upper()
        value = from_hexadecimal(escaped)
    return tag, value.lower() if "UUID" in tag else value


def _letters(index: int) -> str:
    return (_letters(index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)
