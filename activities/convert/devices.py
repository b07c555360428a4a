"""Names of disks that mean another disk, or none, on another controller; and those that stay true."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LETTERED = re.compile(r"^/dev/(?:sd|hd|vd|xvd)([a-z])(\d*)$")
_NVME = re.compile(r"^/dev/nvme(\d+)n(\d+)(?:p(\d+))?$")
_BY_PATH = re.compile(r"^/dev/disk/by-path/.*?(?:scsi|sas|ata|ide)[^/]*?:(\d+):\d+(?:-part(\d+))?$")
_BY_ID = re.compile(r"^/dev/disk/by-id/(?:scsi-|wwn-|ata-|nvme-)[^/]*?(?:-part(\d+))?$")


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """What is written on a device itself, and so moves with it."""

    uuid: str = ""
    """The filesystem's (or swap space's, or LUKS header's)."""
    partition_uuid: str = ""


class StableNames:
    """Gives the stable name for one that depends on hardware.

    Devices are known by the names that the appliance gives them, which has the disks in the guest's order:
    /dev/sda is the first.
    """

    def __init__(self, devices: Mapping[str, BlockDevice], units: tuple[int, ...] = ()) -> None:
        """`units` are the disks' unit numbers on their controller, in the guest's order."""
        self._devices = devices
        self._units = units
        self._disks = len({name[:8] for name in devices if name.startswith("/dev/sd")})

    def is_unstable(self, name: str) -> bool:
        """Whether the name depends on the controller that the disk is on."""
        return any(form.match(name) for form in (_LETTERED, _NVME, _BY_PATH, _BY_ID))

    def device(self, name: str) -> str | None:
        """The appliance's name for it, or None where that cannot be told."""
        if found := _LETTERED.match(name):
            index, partition = ord(found[1]) - ord("a"), found[2]
        elif found := _NVME.match(name):
            index, partition = int(found[1]) + int(found[2]) - 1, found[3] or ""
        elif found := _BY_PATH.match(name):
            unit, partition = int(found[1]), found[2] or ""
            if self._units.count(unit) != 1:
                return None
            index = self._units.index(unit)
        elif found := _BY_ID.match(name):
            index, partition = 0, found[1] or ""
            if self._disks > 1:
                return None
        else:
            return None
        device = f"/dev/sd{chr(ord('a') + index)}{partition}"
        return device if device in self._devices else None

    def stable(self, name: str) -> str | None:
        """`UUID=...`, else `PARTUUID=...`; None where there is neither, or the device is not there."""
        device = self.device(name)
        if device is None:
            return None
        facts = self._devices[device]
        others = [other.uuid for path, other in self._devices.items() if path != device]
        if facts.uuid and facts.uuid not in others:
            return f"UUID={facts.uuid}"
        return f"PARTUUID={facts.partition_uuid}" if facts.partition_uuid else None
