"""fstab and crypttab by names that stay true; LVM and mdadm that look at virtio's disks."""

import re

from hyperctl.activities.convert.devices import StableNames
from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.storage import rewrites
from hyperctl.activities.convert.work import Work

FSTAB = "/etc/fstab"
CRYPTTAB = "/etc/crypttab"
_FIELD = re.compile(r"^(\s*)([^\s#]\S*)(\s+)(\S+)(.*)$", re.DOTALL)
_GONE = re.compile(r"^(?:/dev/fd\d+|\.host:.*)$")
"""Floppy drives and VMware's shared folders."""


def update_fstab(inspected: Inspected, work: Work) -> None:
    """Rename what depends on the controller. What cannot be told is a warning; the boot proof will tell."""
    files, names = inspected.files, inspected.names
    for path, rewrite in ((FSTAB, stable_fstab), (CRYPTTAB, stable_crypttab)):
        text = files.text(path)
        if text is None:
            continue
        changed, unknown = rewrite(text, names)
        work.warnings += [f"{path}: {name} is on none of the copied disks" for name in unknown]
        if files.edit(path, changed, work):
            work.done.append(f"{path} by UUID")
    for path, widen in rewrites(inspected.order.hardware.disk_bus).items():
        text = files.text(path)
        if text is not None and files.edit(path, widen(text), work):
            work.done.append(f"{path} for the disks' new names")


def stable_fstab(text: str, names: StableNames) -> tuple[str, list[str]]:
    """fstab(5) with sources by UUID, entries of VMware's devices commented out, all else byte for byte.

    The second part are the devices that could not be resolved.
    """
    return _rewritten(text, names, column=0)


def stable_crypttab(text: str, names: StableNames) -> tuple[str, list[str]]:
    """crypttab(5), whose second field is the device."""
    return _rewritten(text, names, column=1)


def _rewritten(text: str, names: StableNames, column: int) -> tuple[str, list[str]]:
    lines, unknown = [], []
    for line in text.splitlines(keepends=True):
        found = _FIELD.match(line)
        if not found:
            lines.append(line)
            continue
        before, first, gap, second, rest = found.groups()
        device = (first, second)[column]
        if column == 0 and _GONE.match(device):
            lines.append(f"# {line}")
            continue
        if names.is_unstable(device):
            stable = names.stable(device)
            if stable is None:
                unknown.append(device)
            else:
                first, second = (stable, second) if column == 0 else (first, stable)
        lines.append(f"{before}{first}{gap}{second}{rest}")
    return "".join(lines), unknown
