"""Boot entries that find their root filesystem, and what they are made from."""

import re

from hyperctl.activities.convert.devices import StableNames
from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.arguments import (
    has_known_root,
    reordered_root,
    stable_arguments,
    unresolved_root,
)
from hyperctl.activities.convert.linux.blacklists import arguments_without_blacklists
from hyperctl.activities.convert.linux.console import (
    CONSOLE,
    command_line_with_console,
    entries_with_console,
    settings_with_console,
)
from hyperctl.activities.convert.linux.default_kernel import ensure_default
from hyperctl.activities.convert.linux.drivers import loaded_modules
from hyperctl.activities.convert.linux.fallback import ensure_fallback
from hyperctl.activities.convert.linux.fstab import FSTAB
from hyperctl.activities.convert.linux.grub_environment import environment_block
from hyperctl.activities.convert.linux.menus import (
    GRUB_CONFIGURATIONS,
    GRUB_CUSTOM,
    GRUB_ON_SYSTEM_PARTITION,
    LEGACY_MENUS,
    SYSLINUX_MENUS,
)
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.hardware import DiskBus
from hyperctl.workflows.machine import Firmware

ENTRIES = (
    *GRUB_CONFIGURATIONS,
    *LEGACY_MENUS,
    *GRUB_ON_SYSTEM_PARTITION,
    "/boot/loader/entries/*.conf",
    "/boot/efi/loader/entries/*.conf",
    "/efi/loader/entries/*.conf",
    *(pattern for patterns in SYSLINUX_MENUS for pattern in patterns),
)
"""What a boot loader reads."""
GRUB_SETTINGS = "/etc/default/grub"
COMMAND_LINE = "/etc/kernel/cmdline"
SETTINGS = (
    GRUB_SETTINGS,
    "/etc/default/grub.d/*.cfg",
    "/etc/grub.d/*_custom",
    *GRUB_CUSTOM,
    COMMAND_LINE,
    "/etc/kernel/cmdline.d/*.conf",
    "/etc/kernel/uki.conf",
    "/etc/systemd/ukify.conf",
    "/etc/cmdline.d/*.conf",
    "/etc/sysconfig/bootloader",
    "/etc/default/extlinux",
    "/etc/update-extlinux.conf",
    "/etc/default/u-boot",
    "/etc/dracut.conf",
    "/etc/dracut.conf.d/*.conf",
)
"""What the guest makes the entries from."""
BLOCKS = ("/boot/grub/grubenv", "/boot/grub2/grubenv", "/boot/efi/EFI/*/grubenv")
ENVIRONMENTS = (*BLOCKS, "/boot/photon.cfg", "/boot/systemd.cfg")
"""GRUB's blocks of a fixed size, and Photon's plain lines with its kernel's arguments."""
DEBCONF = "/var/cache/debconf/config.dat"
"""Where Debian keeps the disks that its grub-pc puts GRUB on whenever it is updated."""
GRUB_INSTALLED = "/etc/default/grub_installdevice"
"""The same of SUSE's."""
DEVICE_MAPS = ("/boot/grub/device.map", "/boot/grub2/device.map")

_BY_DEVICE = re.compile(r"^([ \t]*(?:export\s+)?GRUB_DISABLE_LINUX_UUID=[\"']?)true", re.MULTILINE)
_INSTALLED = re.compile(
    r"^(Name: grub-pc/install_devices(?:_disks_changed)?\n(?:[^\n]+\n)*?Value: )([^\n]+)", re.MULTILINE
)
_DISK = re.compile(r"/dev/[^\s,]+")
_MAPPED = re.compile(r"^([ \t]*\([hf]d\d+\)\s+)(/dev/\S+)", re.MULTILINE)


def update_bootloader(inspected: Inspected, work: Work) -> None:
    """Entries, their sources and device.map by names that stay true; the fallback loader for UEFI.

    Raises `StepFailed` when no boot loader's entries are there, or an entry's root device is unknown.
    """
    files, names = inspected.files, inspected.names
    entries = files.matching(*ENTRIES)
    if not entries and not any(kernel.unified for kernel in inspected.kernels):
        raise StepFailed("no configuration of GRUB, systemd-boot or extlinux was found in /boot")
    modules = loaded_modules(inspected.order.hardware, inspected.kernels)
    to_port = inspected.order.serial_console

    def with_arguments(path: str, text: str) -> str:
        text = arguments_without_blacklists(stable_arguments(text, names), modules)
        if not to_port:
            return text
        if path in entries or path.endswith("grubenv"):
            return entries_with_console(path, text)
        return command_line_with_console(text) if path == COMMAND_LINE else text

    for path in [*entries, *files.matching(*SETTINGS)]:
        text = files.text(path)
        if text is None:
            continue
        if device := unresolved_root(text, names):
            problem = f"{path} boots from {device}, which is not on the disks that were copied"
            if path in entries and not has_known_root(text, names):
                raise StepFailed(problem)
            work.warnings.append(problem)
        if device := reordered_root(text, names):
            work.warnings.append(
                f"{path} boots from {device}, which is another disk in vSphere's order: it has the root "
                f"filesystem's own name now; see to it that {FSTAB} has the right disk for every such name"
            )
        changed = with_arguments(path, text)
        if path not in entries:
            changed = by_uuid(changed)
        if path == GRUB_SETTINGS and to_port:
            changed = settings_with_console(changed)
        if files.edit(path, changed, work):
            work.done.append(_what(path, text, changed))
    blocks = files.matching(*BLOCKS)
    for path in files.matching(*ENVIRONMENTS):
        text = files.text(path)
        if text is None:
            continue
        changed = with_arguments(path, text)
        if files.edit(path, environment_block(text, changed) if path in blocks else changed, work):
            work.done.append(_what(path, text, changed))
    if inspected.order.hardware.disk_bus is DiskBus.VIRTIO:
        _rename_disks(inspected, work)
    ensure_default(inspected, work)
    if inspected.machine.firmware is Firmware.EFI:
        ensure_fallback(inspected, work)


def _rename_disks(inspected: Inspected, work: Work) -> None:
    files = inspected.files
    renaming = {DEBCONF: installed_devices, GRUB_INSTALLED: disks_on_virtio}
    for path in files.matching(*DEVICE_MAPS, *renaming):
        text = files.text(path)
        rename = renaming.get(path, device_map)
        if text is not None and files.edit(path, rename(text, inspected.names), work):
            work.done.append(f"{path} for virtio")


def _what(path: str, before: str, after: str) -> str:
    """What was changed in it, in words."""
    changes = []
    if after.count("UUID=") > before.count("UUID=") or by_uuid(before) != before:
        changes.append("by UUID")
    if after.count(CONSOLE) > before.count(CONSOLE):
        changes.append("with a serial console")
    if after.count("blacklist") < before.count("blacklist"):
        changes.append("without a blacklist of its drivers")
    return f"{path} {', '.join(changes) or 'changed'}"


def by_uuid(settings: str) -> str:
    """GRUB's settings with `root=` by UUID from the next update on."""
    return _BY_DEVICE.sub(r"\1false", settings)


def device_map(text: str, names: StableNames) -> str:
    """GRUB's device.map with disks as virtio names them."""
    return _MAPPED.sub(lambda found: found[1] + _on_virtio(found[2], names), text)


def installed_devices(text: str, names: StableNames) -> str:
    """debconf's answers (debconf-devel(7)), in which grub-pc finds its disks as virtio names them."""

    def renamed(found: re.Match[str]) -> str:
        return found[1] + disks_on_virtio(found[2], names)

    return _INSTALLED.sub(renamed, text)


def disks_on_virtio(text: str, names: StableNames) -> str:
    """A list of disks, or of partitions, as virtio names them."""
    return _DISK.sub(lambda disk: _on_virtio(disk[0], names), text)


def _on_virtio(disk: str, names: StableNames) -> str:
    """/dev/vda for the first disk; what is not known stays."""
    device = names.device(disk)
    return device.replace("/dev/sd", "/dev/vd") if device else disk
