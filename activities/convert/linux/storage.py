"""Settings of LVM and mdadm that look for disks under names that KVM does not use."""

import re
from collections.abc import Callable
from functools import partial

from hyperctl.workflows.hardware import DiskBus

NAMES_OF_DISKS = r"/dev/(?:sd|hd|nvme|disk/by-(?:path|id)/)"
LVM = ("/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf")
DEVICES_FILES = ("/etc/lvm/devices/system.devices",)
MULTIPATH = ("/etc/multipath.conf", "/etc/multipath/conf.d/*.conf")
BINDINGS = "/etc/multipath/bindings"
MDADM = ("/etc/mdadm/mdadm.conf", "/etc/mdadm.conf")

_FILTER = re.compile(
    r"""^([ \t]*(?:global_)?filter\s*=\s*\[)((?:"[^"]*"|'[^']*'|[^\]["'])*)\]""", re.MULTILINE
)
_ACCEPT = re.compile(r"[\"']a(?P<mark>[^\w\s])(?P<pattern>[^\"']*?)(?P=mark)[\"']")
_NAMES_SD = re.compile(r"sd|hd|nvme|disk/by-(?:path|id)|mpath|mapper/36000c29")
_DEVICES_ENTRY = re.compile(
    r"^IDTYPE=(?:sys_wwid|sys_serial|wwid_\w+|devname) .*?"
    r"\bDEVNAME=(?P<name>/dev/(?:sd|hd|nvme)\S+)(?P<rest>.*)$",
    re.MULTILINE,
)
_MULTIPATH_ENTRY = re.compile(
    r"^IDTYPE=mpath_uuid .*?\bDEVNAME=(?:/dev/mapper/(?:mpath(?P<letters>[a-z]+))?\S*|\S+)(?P<rest>.*)$",
    re.MULTILINE,
)
_PARTITION = re.compile(r"\bPART=(\d+)")
_DEVICES_HASH = re.compile(r"^(?:HASH|PRODUCT_UUID|HOSTNAME)=.*\n", re.MULTILINE)
_BINDING = re.compile(r"^[ \t]*([^\s#]\S*)[ \t]+(3[0-9a-f]{32})[ \t]*$", re.MULTILINE)
_MULTIPATH_BLOCK = re.compile(r"\bmultipath\s*\{([^{}]*)\}")
_WWID = re.compile(r"^[ \t]*wwid\s+\"?(3[0-9a-f]{32})\b", re.MULTILINE)
_ALIAS = re.compile(r"^[ \t]*alias\s+\"?([^\s\"]+)", re.MULTILINE)
_DEVICE_LINE = re.compile(
    rf"^(DEVICE\b)[^\n]*(?:\n[ \t][^\n]*)*?{NAMES_OF_DISKS}[^\n]*(?:\n[ \t]+[^\s#][^\n]*)*",
    re.MULTILINE | re.IGNORECASE,
)
_ARRAY_DEVICES = re.compile(
    rf"^(ARRAY\b[^\n]*?)(?<![ \t])[ \t]+devices=\S*{NAMES_OF_DISKS}\S*|"
    rf"^[ \t]+devices=(?=\S*{NAMES_OF_DISKS})\S+[ \t]*\n",
    re.MULTILINE,
)
"""On the line of its array, or on one that goes on with it, as `mdadm --detail --scan --verbose` has it."""


def filters_for(text: str, bus: DiskBus = DiskBus.VIRTIO) -> str:
    """lvm.conf(5) whose filters let the disks through as they are called now, where they let VMware's.

    What has no such filter stays byte for byte.
    """

    def widened(found: re.Match[str]) -> str:
        patterns = [one["pattern"] for one in _ACCEPT.finditer(found[2])]
        if not any(_NAMES_SD.search(pattern) for pattern in patterns) or f"/dev/{bus.prefix}" in found[2]:
            return found[0]
        return f'{found[1]} "a|^/dev/{bus.prefix}[a-z]+[0-9]*$|",{found[2]}]'

    return _FILTER.sub(widened, text)


def devices_by_name(text: str, bus: DiskBus = DiskBus.VIRTIO) -> str:
    """lvmdevices(8) without the identities that VMware gives to disks.

    LVM finds an entry of the type `devname` by its PVID, whatever its device is called (lvm.conf(5),
    search_for_devnames). The checksum goes, since it is no longer true.
    """

    def of_multipath(found: re.Match[str]) -> str:
        """Of virtio's disks multipathd makes none. Which name is right, LVM finds out."""
        part = _PARTITION.search(found["rest"])
        name = f"/dev/{bus.prefix}{found['letters'] or 'a'}{part[1] if part else ''}"
        return f"IDTYPE=devname IDNAME={name} DEVNAME={name}{found['rest']}"

    def by_name(found: re.Match[str]) -> str:
        name = re.sub(r"^/dev/[sh]d", f"/dev/{bus.prefix}", found["name"])
        return f"IDTYPE=devname IDNAME={name} DEVNAME={name}{found['rest']}"

    changed = _MULTIPATH_ENTRY.sub(of_multipath, _DEVICES_ENTRY.sub(by_name, text))
    return text if changed == text else _DEVICES_HASH.sub("", changed)


def multipath_names(configurations: str, bindings: str) -> dict[str, str]:
    """The names of disks in /dev/mapper that multipath.conf(5) and multipathd give, with their ids."""
    found: dict[str, str] = dict(_BINDING.findall(bindings))
    for block in _MULTIPATH_BLOCK.findall(configurations):
        wwid, alias = _WWID.search(block), _ALIAS.search(block)
        if wwid and alias:
            found[alias[1]] = wwid[1]
    return found


def arrays_on_any_disk(text: str) -> str:
    """mdadm.conf(5) that looks on all disks, where it names some of VMware's."""
    return _ARRAY_DEVICES.sub(
        lambda found: found[1] or "", _DEVICE_LINE.sub(r"\1 partitions containers", text)
    )


def rewrites(bus: DiskBus) -> dict[str, Callable[[str], str]]:
    """By path, in the guest and in its initramfs."""
    return {
        **{path: partial(filters_for, bus=bus) for path in LVM},
        **{path: partial(devices_by_name, bus=bus) for path in DEVICES_FILES},
        **dict.fromkeys(MDADM, arrays_on_any_disk),
    }
