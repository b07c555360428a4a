"""The network that an initramfs uses, for a key or its root: the names that its NICs have in there.

Sources: dracut.cmdline(7), the kernel's nfsroot.rst, systemd.link(5), udev(7).
"""

import re
import stat

from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.bootloader import COMMAND_LINE, ENTRIES, ENVIRONMENTS
from hyperctl.activities.convert.linux.cpio import Archive, Entry
from hyperctl.activities.convert.linux.kernels import Kernel, module_name
from hyperctl.activities.convert.linux.network import nic_names, pinning_files

_USERS = re.compile(r"(?<=bin/)(?:dropbear|sshd|clevis-luks-askpass|clevis-decrypt-tang|iscsistart)$")
_ARGUMENT = re.compile(
    r"(?<![\w.])(?:ip=(?!(?:off|none)\b)\S|(?:ifname|bond|bridge|team|vlan|rd\.route|netroot)=\S|rd\.neednet=1"
    r"|root=(?:nfs|iscsi|nbd))"
)
_BY_ARGUMENTS = re.compile(
    r"(?:parse-ip-opts\.sh|/nm-initrd-generator|/systemd-network-generator|scripts/nfs)$"
)
"""What has a network in there when a kernel's arguments ask for it: dracut's modules, Debian's boot=nfs."""
_OLD_DRIVERS = frozenset({"vmxnet3", "vmxnet", "e1000", "e1000e", "pcnet32"})
_NAMING = re.compile(r"udev/rules\.d/(?:80-net-setup-link|80-net-name-slot|70-persistent-net)\.rules$")
"""By which NICs get other names than the kernel's own."""


def network_user(archive: Archive, inspected: Inspected) -> str:
    """What goes to the network from there, in words; an empty string where nothing does."""
    paths = archive.entries
    if user := next((found[0] for path in paths if (found := _USERS.search(path))), ""):
        return user
    settings = (entry for path, entry in paths.items() if path.startswith("etc/cmdline.d/"))
    if any(_ARGUMENT.search(bytes(entry.data).decode(errors="replace")) for entry in settings):
        return "as it is told in etc/cmdline.d"
    if not any(_BY_ARGUMENTS.search(path) for path in paths) or not _OLD_DRIVERS & modules_in(archive):
        return ""
    files = inspected.files
    for path in files.matching(*ENTRIES, *ENVIRONMENTS, COMMAND_LINE):
        if found := _ARGUMENT.search(files.text(path) or ""):
            return f"as {path} tells it by {found[0].partition('=')[0]}="
    return ""


def network_without(archive: Archive, nic: str, kernel: Kernel, inspected: Inspected) -> str:
    """Why an initramfs that goes to the network would not get there."""
    if nic in kernel.builtin_names or nic in modules_in(archive):
        return ""
    user = network_user(archive, inspected)
    return f"it goes to the network ({user}) and lacks {nic}" if user else ""


def modules_in(archive: Archive) -> set[str]:
    """The names of the modules that an initramfs holds."""
    return {module_name(path) for path in archive.entries if ".ko" in path.rpartition("/")[2]}


def naming_files(archive: Archive, inspected: Inspected) -> list[Entry]:
    """What gives the NICs in there the names that they had, where udev names them and somebody uses them."""
    if not any(_NAMING.search(path) for path in archive.entries):
        return []
    if not network_user(archive, inspected) or not inspected.order.fix.network:
        return []
    links = [
        bytes(entry.data).decode(errors="replace").lower()
        for path, entry in archive.entries.items()
        if path.startswith("etc/systemd/network/") and path.endswith(".link")
    ]
    names, _, clues = nic_names(inspected)
    wanted = {mac: name for mac, name in names.items() if not any(mac in text for text in links)}
    files = pinning_files(inspected.files, wanted, clues) if wanted else {}
    made = [Entry(path.lstrip("/"), stat.S_IFREG | 0o644, text.encode()) for path, text in files.items()]
    held = {
        name: bytes(entry.data) for name, entry in archive.entries.items() if name.startswith("etc/udev/")
    }
    return [entry for entry in made if held.get(entry.name) != entry.data]
