"""VMware's tools, which have nothing to do on KVM, do not start any more."""

import re

from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.blacklists import MARK
from hyperctl.activities.convert.work import Work

UNITS = (
    "open-vm-tools.service",
    "vmtoolsd.service",
    "vgauth.service",
    "vgauthd.service",
    "vmware-tools.service",
)
UNIT_FOLDERS = ("/lib/systemd/system", "/usr/lib/systemd/system", "/etc/systemd/system")
MASKS = "/etc/systemd/system"
SCRIPTS = ("open-vm-tools", "vmware-tools", "vmware-tools-thinprint")
START_LINKS = "/etc/rc[2345S].d/S[0-9][0-9]"
UPSTART = "/etc/init/vmware-tools*.conf"
MODULE_LISTS = ("/etc/modules", "/etc/modules-load.d/*.conf")
_BALLOON = re.compile(r"^[ \t]*(?:vmw_balloon|vmw-balloon|vmmemctl)\b[^\n]*$", re.MULTILINE)
"""VMware's balloon driver refuses any other hypervisor, and with it systemd-modules-load(8) fails."""
_DEVICE_NULL = "/dev/null"


def retire_vmware_tools(inspected: Inspected, work: Work) -> None:
    """Mask their units, and keep their scripts from being started; nothing is removed."""
    files, guest = inspected.files, inspected.files.guest
    for unit in UNITS:
        mask = f"{MASKS}/{unit}"
        installed = [path for folder in UNIT_FOLDERS if files.exists(path := f"{folder}/{unit}")]
        if not installed or _is_mask(inspected, mask):
            continue
        if files.exists(mask) and not guest.is_symlink(mask):
            guest.mv(mask, f"{mask}.before-hyperctl")
        guest.ln_sf(_DEVICE_NULL, mask)
        work.changed.append(mask)
        work.done.append(f"{unit} masked")
    for script in SCRIPTS:
        for link in files.matching(f"{START_LINKS}{script}"):
            folder, name = link.rsplit("/", 1)
            stopped = f"{folder}/K01{re.sub(r'^S[0-9][0-9]', '', name)}"
            guest.mv(link, stopped)
            work.changed.append(link)
            if (note := f"{script}'s script is not started") not in work.done:
                work.done.append(note)
    for path in files.matching(*MODULE_LISTS):
        text = files.text(path)
        if text is not None and files.edit(path, without_balloon(text), work):
            work.done.append(f"{path} without VMware's balloon driver")
    for path in files.matching(UPSTART):
        guest.mv(path, f"{path}.before-hyperctl")
        work.changed.append(path)
        work.done.append(f"{path} does not start")


def without_balloon(text: str) -> str:
    """A list of modules to be loaded (modules-load.d(5)) that a boot on KVM can load."""
    return _BALLOON.sub(lambda found: f"{MARK}{found[0]}", text)


def _is_mask(inspected: Inspected, path: str) -> bool:
    guest = inspected.files.guest
    return bool(guest.is_symlink(path)) and guest.readlink(path) == _DEVICE_NULL
