"""Boot entries that find their root filesystem, and a loader that the firmware finds."""

import re
from dataclasses import replace

from hyperctl.activities.convert.devices import StableNames
from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.addons import extra_folder
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
from hyperctl.activities.convert.linux.default_kernel import LEGACY_MENUS, SYSLINUX_MENUS, ensure_default
from hyperctl.activities.convert.linux.drivers import drivers_for
from hyperctl.activities.convert.linux.fstab import FSTAB
from hyperctl.activities.convert.linux.grub_environment import environment_block
from hyperctl.activities.convert.linux.initramfs import assert_room
from hyperctl.activities.convert.mounts import SYSTEM_PARTITION_PLACES
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.hardware import DiskBus
from hyperctl.workflows.machine import Firmware

ENTRIES = (
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    *LEGACY_MENUS,
    "/boot/efi/EFI/*/grub.cfg",
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
    "/boot/grub/custom.cfg",
    "/boot/grub2/custom.cfg",
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
ENVIRONMENTS = (
    *("/boot/grub/grubenv", "/boot/grub2/grubenv", "/boot/efi/EFI/*/grubenv"),
    *("/boot/photon.cfg", "/boot/systemd.cfg"),
)
"""GRUB's own, and Photon's, with its kernel's arguments."""
DEBCONF = "/var/cache/debconf/config.dat"
"""Where Debian keeps the disks that its grub-pc puts GRUB on whenever it is updated."""
GRUB_INSTALLED = "/etc/default/grub_installdevice"
"""The same of SUSE's."""
DEVICE_MAPS = ("/boot/grub/device.map", "/boot/grub2/device.map")
FALLBACK = "EFI/BOOT/BOOTX64.EFI"
LOADERS = (
    ("shimx64.efi", "grubx64.efi"),
    ("shim.efi", "grub.efi"),
    ("", "grubx64.efi"),
    ("", "systemd-bootx64.efi"),
    ("", "grub.efi"),
)
"""A shim for Secure Boot, or none, and what it loads from its own folder; the second pair is SUSE's, the last
GRUB legacy as Red Hat has it."""
LEGACY_CONFIGURATION = "grub.conf"
"""GRUB legacy looks in its own folder for one with its own name."""
COMPANIONS = ("mmx64.efi", "MokManager.efi", "grub.cfg")
"""What else it looks for in its own folder: a manager of keys, and SUSE's GRUB the way to its menu."""

_BY_DEVICE = re.compile(r"^(\s*(?:export\s+)?GRUB_DISABLE_LINUX_UUID=[\"']?)true", re.MULTILINE)
_INSTALLED = re.compile(
    r"^(Name: grub-pc/install_devices(?:_disks_changed)?\n(?:[^\n]+\n)*?Value: )([^\n]+)", re.MULTILINE
)
_DISK = re.compile(r"/dev/[^\s,]+")
_MAPPED = re.compile(r"^(\s*\([hf]d\d+\)\s+)(/dev/\S+)", re.MULTILINE)


def update_bootloader(inspected: Inspected, work: Work) -> None:
    """Entries, their sources and device.map by names that stay true; the fallback loader for UEFI.

    Raises `StepFailed` when no boot loader's entries are there, or an entry's root device is unknown.
    """
    files, names = inspected.files, inspected.names
    entries = files.matching(*ENTRIES)
    if not entries and not any(kernel.unified for kernel in inspected.kernels):
        raise StepFailed("no configuration of GRUB, systemd-boot or extlinux was found in /boot")
    modules = drivers_for(inspected.order.hardware).all
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
    for path in files.matching(*ENVIRONMENTS):
        text = files.text(path)
        if text is not None and files.edit(
            path, changed := environment_block(text, with_arguments(path, text)), work
        ):
            work.done.append(_what(path, text, changed))
    is_virtio = inspected.order.hardware.disk_bus is DiskBus.VIRTIO
    renaming = {DEBCONF: installed_devices, GRUB_INSTALLED: disks_on_virtio}
    for path in files.matching(*DEVICE_MAPS, *renaming) if is_virtio else ():
        text = files.text(path)
        rename = renaming.get(path, device_map)
        if text is not None and files.edit(path, rename(text, names), work):
            work.done.append(f"{path} for virtio")
    ensure_default(inspected, work)
    if inspected.machine.firmware is Firmware.EFI:
        _ensure_fallback(inspected, work)


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


def _ensure_fallback(inspected: Inspected, work: Work) -> None:
    """Put the loader where a firmware looks that has no entry for it: the new machine's NVRAM is empty.

    Where there is none, firmware itself boots a unified kernel image: the newest with the drivers.
    """
    files = inspected.files
    place = next((place for place in SYSTEM_PARTITION_PLACES if files.is_folder(f"{place}/EFI")), None)
    if place is None:
        raise StepFailed("the firmware is UEFI, and no EFI system partition with a loader was found")
    esp_files = {path.lower(): path for path in files.matching(f"{place}/EFI/*/*", f"{place}/EFI/*/*.*")}
    if f"{place}/{FALLBACK}".lower() in esp_files:
        return
    for shim, loader in LOADERS:
        wanted = shim or loader
        found = next((path for low, path in esp_files.items() if low.endswith(f"/{wanted}")), None)
        if found is None:
            continue
        folder = f"{place}/EFI/BOOT"
        files.guest.mkdir_p(folder)
        files.guest.cp(found, f"{place}/{FALLBACK}")
        work.changed.append(f"{place}/{FALLBACK}")
        if shim:
            source = found.rpartition("/")[0]
            for name in (loader, *COMPANIONS):
                if f"{source}/{name}".lower() in esp_files:
                    files.guest.cp(f"{source}/{name}", f"{folder}/{name}")
                    work.changed.append(f"{folder}/{name}")
        configuration = f"{found.rpartition('/')[0]}/{LEGACY_CONFIGURATION}"
        if wanted == "grub.efi" and files.exists(configuration):
            copy = f"{place}/{FALLBACK.removesuffix('EFI')}conf"
            files.guest.cp(configuration, copy)
            work.changed.append(copy)
            work.warnings.append(
                f"the menu on KVM is {copy}: a kernel that is installed later goes in there, too"
            )
        work.done.append(f"{found} also as {FALLBACK}")
        return
    needed = drivers_for(inspected.order.hardware).needed
    images = [path for kernel in inspected.kernels if kernel.drives(needed) for path in kernel.unified]
    if not images:
        raise StepFailed(f"no boot loader was found in {place}/EFI")
    copy = f"{place}/{FALLBACK}"
    targets = {images[0]: copy}
    for addon in files.matching(f"{extra_folder(images[0])}/*"):
        targets[addon] = f"{extra_folder(copy)}/{addon.rpartition('/')[2]}"
    assert_room(inspected, {target: files.size(source) for source, target in targets.items()})
    for source, target in targets.items():
        files.guest.mkdir_p(target.rpartition("/")[0])
        files.guest.cp(source, target)
        work.changed.append(target)
    work.done.append(f"{images[0]} also as {FALLBACK}")
    work.warnings.append(
        f"firmware boots {FALLBACK} on KVM, a copy of {images[0]}: copy each new kernel's image there, or "
        "have systemd-boot installed (bootctl install)"
    )
    made_anew = [replace(one, path=copy) for one in inspected.rebuilds if one.path == images[0]]
    inspected.rebuilds.extend(made_anew)
