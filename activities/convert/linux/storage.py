"""Settings of LVM and mdadm that look for disks under names that KVM does not use."""

import re
from collections.abc import Callable
from functools import partial

from hyperctl.workflows.hardware import DiskBus

NAMES_OF_DISKS = r"/dev/(?:sd|hd|nvme|disk/by-(?:path|id)/)"
LVM = ("/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf")
MDADM = ("/etc/mdadm/mdadm.conf", "/etc/mdadm.conf")

_FILTER = re.compile(r"""^(\s*(?:global_)?filter\s*=\s*\[)((?:"[^"]*"|'[^']*'|[^\]"'])*)\]""", re.MULTILINE)
_ACCEPT = re.compile(r"[\"']a(?P<mark>[^\w\s])(?P<pattern>.*?)(?P=mark)[\"']", re.DOTALL)
_NAMES_SD = re.compile(r"sd|hd|nvme|disk/by-(?:path|id)")
_DEVICE_LINE = re.compile(rf"^(\s*DEVICE\b)[^\n]*{NAMES_OF_DISKS}[^\n]*", re.MULTILINE | re.IGNORECASE)
_ARRAY_DEVICES = re.compile(rf"^(\s*ARRAY\b[^\n]*?)\s+devices=[^\s]*{NAMES_OF_DISKS}[^\s]*", re.MULTILINE)


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


def arrays_on_any_disk(text: str) -> str:
    """mdadm.conf(5) that looks on all disks, where it names some of VMware's."""
    return _ARRAY_DEVICES.sub(r"\1", _DEVICE_LINE.sub(r"\1 partitions containers", text))


def rewrites(bus: DiskBus) -> dict[str, Callable[[str], str]]:
    """By path, in the guest and in its initramfs."""
    return {path: partial(filters_for, bus=bus) for path in LVM} | dict.fromkeys(MDADM, arrays_on_any_disk)
