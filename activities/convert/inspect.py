"""Opening a guest's disks together and finding out what is on them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import guestfs

from hyperctl.activities.convert.boot_disks import find_boot_disk, find_loader_disks, unshown_disks
from hyperctl.activities.convert.devices import DiskPlace, StableNames
from hyperctl.activities.convert.disk_keys import DiskKey, read_disk_keys
from hyperctl.activities.convert.encrypted import (
    KEY_DERIVATION_MEMORY_MIB,
    WAY_OUT,
    Encryption,
    open_encrypted,
)
from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.linux.interfaces import find_clues
from hyperctl.activities.convert.linux.kernels import Kernel, Rebuild, find_kernels
from hyperctl.activities.convert.linux.own_macs import own_macs
from hyperctl.activities.convert.linux.storage import BINDINGS, MULTIPATH, multipath_names
from hyperctl.activities.convert.mounts import (
    as_fstab,
    mount_all,
    mount_root,
    mount_unlisted,
    wanted_mounts,
)
from hyperctl.activities.convert.order import Order
from hyperctl.activities.convert.refusal import Refused
from hyperctl.activities.convert.roots import LINUX, UNKNOWN, WINDOWS, Root, find_roots, product_name
from hyperctl.activities.convert.storage import (
    BITLOCKER,
    Storage,
    survey,
    what_stands_in_the_way,
)
from hyperctl.activities.convert.volumes import known_devices
from hyperctl.activities.convert.windows.inspect import InspectedWindows, inspect_windows
from hyperctl.workflows.errors import ErrorCode
from hyperctl.workflows.guest import GuestSystem, as_guest_knows
from hyperctl.workflows.machine import Firmware, Machine

SUPPORTED_TOOLS = ("initramfs-tools", "dracut", "mkinitcpio", "mkinitrd", "mkinitfs")
MOUNT_UNITS = "/etc/systemd/system/*.mount"
WANTED_UNITS = tuple(f"/etc/systemd/system/*.{kind}/*mount" for kind in ("wants", "requires"))
"""As `systemctl enable` links them, those of systemd.automount(5) too."""
UPDATE_INITRAMFS = "/usr/sbin/update-initramfs"


@dataclass(frozen=True, slots=True)
class Inspected:
    """An open guest: its filesystems are mounted as they are when it runs."""

    files: GuestFiles
    machine: Machine
    system: GuestSystem
    kernels: tuple[Kernel, ...]
    names: StableNames
    mounts: dict[str, str]
    """By mount point, the appliance's device."""
    encrypted: Mapping[str, str]
    """By the guest's names under /dev/mapper, the appliance's devices of encrypted volumes."""
    warnings: tuple[str, ...]
    order: Order
    """What was asked for."""
    rebuilds: list[Rebuild] = field(default_factory=list)
    """Noted by a step for a later one: the guest's own tool is to see what all others have written."""
    nic_order: list[str] = field(default_factory=list)
    """As `GuestSystem` has it; empty until the network's step."""
    changed: list[str] = field(default_factory=list)
    """What the steps so far have written, made or removed."""
    opened_at: float = field(default_factory=time.time)
    guest_code: list[str] = field(default_factory=list)
    """Which of the guest's own programmes have been run, and may have written anything."""

    @property
    def detail(self) -> str:
        system = self.system
        return f"{system.product_name}, {', '.join(system.kernels)}, {system.initramfs_tool}"


@contextmanager
def opened_guest(order: Order) -> Iterator[Inspected | InspectedWindows]:
    """Launch the appliance, inspect and mount. What was written is on the overlays when this ends well.

    Raises `Refused` for a guest that is not supported, and `RuntimeError` as libguestfs does.
    """
    keys = read_disk_keys(order.disk_keys_file, order.machine.name)
    guest = guestfs.GuestFS(python_return_dict=True)
    try:
        for overlay in order.overlays:
            guest.add_drive_opts(overlay, format="qcow2", cachemode="unsafe", discard="besteffort")
        if keys:
            guest.set_memsize(max(guest.get_memsize(), KEY_DERIVATION_MEMORY_MIB))
        guest.launch()
        yield inspect_guest(guest, order, keys)
        guest.umount_all()
        guest.shutdown()
    finally:
        guest.close()


def inspect_guest(
    guest: guestfs.GuestFS, order: Order, keys: tuple[DiskKey, ...]
) -> Inspected | InspectedWindows:
    """Inspect and mount what a launched appliance has. Raises as `opened_guest` does."""
    machine = order.machine
    encryption = open_encrypted(guest, keys)
    storage = survey(guest, encryption.devices, encryption.opened.values())
    places = [DiskPlace(disk.unit, disk.controller, disk.controller_bus, disk.uuid) for disk in machine.disks]
    roots = find_roots(guest, storage)
    own = _own_roots(guest, roots, storage, encryption, places) if len(roots) > 1 else roots
    root = _only_root(guest, own, storage, encryption)
    if root.kind == WINDOWS:
        return inspect_windows(guest, root.mountable, storage, order)
    root_device = guest.mountable_device(root.mountable)
    mount_root(guest, root.mountable)
    files = GuestFiles(guest)
    configurations = "\n".join(files.text(path) or "" for path in files.matching(*MULTIPATH))
    names = StableNames(
        storage.disks,
        places,
        root=root_device,
        multipath=multipath_names(configurations, files.text(BINDINGS) or ""),
        tags=storage.tags,
    )
    # A unit of its own is in force where fstab has the same place.
    wanted = wanted_mounts("\n".join([files.text("/etc/fstab") or "", *enabled_mounts(files)]))
    known = known_devices(
        guest,
        files,
        wanted,
        root_device,
        names=names,
        tags=storage.tags,
        opened=encryption.opened,
    )
    mounts, warnings = mount_all(guest, root.mountable, wanted, known, encryption, storage.untold)
    if machine.firmware is Firmware.EFI:
        mounts |= mount_unlisted(guest, mounts, storage.boot_partitions, storage.system_partitions)
    product = product_name(files) or root.product_name
    kernels, tool = kernels_and_tool(files, product)
    unsure = list(encryption.warnings)
    unsure += [
        f"the files of {other.product_name} on {other.mountable} are taken for no system: by the fstab among "
        "them it is not their /"
        for other in roots
        if other not in own
    ]
    if root.distribution == UNKNOWN:
        unsure.append(f"{product} is a distribution that is not known here")
    has_made_macs = any(nic.mac_made for nic in machine.nics)
    macs, unsure_macs = own_macs(machine.nics, find_clues(files)) if has_made_macs else ((), "")
    unsure += [unsure_macs] if unsure_macs else []
    boot_disk = find_boot_disk(guest, machine, mounts)
    loader_disks = find_loader_disks(guest, machine, mounts)
    if unshown := unshown_disks(machine, tuple(dict.fromkeys((boot_disk, *loader_disks)))):
        unsure.append(unshown)
    system = GuestSystem(
        product_name=product,
        distribution=root.distribution,
        major_version=root.major_version,
        minor_version=root.minor_version,
        host_name=root.host_name,
        root_device=mounts["/"],
        filesystems=tuple(
            f"{place} {storage.kinds.get(device) or guest.vfs_type(device)} ({device})"
            for place, device in mounts.items()
        ),
        kernels=tuple(kernel.version for kernel in kernels),
        initramfs_tool=tool,
        boot_disk=boot_disk,
        loader_disks=loader_disks,
        nic_macs=macs,
    )
    all_warnings = (*storage.warnings, *unsure, *warnings)
    machine = as_guest_knows(machine, system)
    return Inspected(files, machine, system, kernels, names, mounts, known.encrypted, all_warnings, order)


def kernels_and_tool(files: GuestFiles, product: str) -> tuple[tuple[Kernel, ...], str]:
    """A system's kernels and what makes their initramfs. Raises `Refused` where either is not known."""
    kernels = find_kernels(files)
    if not kernels:
        raise Refused(ErrorCode.GUEST_UNSUPPORTED, "no Linux kernel with its modules was found in /boot")
    tool = _initramfs_tool(files)
    if tool not in SUPPORTED_TOOLS:
        raise Refused(
            ErrorCode.GUEST_UNSUPPORTED,
            f"{product} builds its initramfs with {tool or 'an unknown tool'}",
            f"Guests with {' or '.join(SUPPORTED_TOOLS)} can be converted.",
        )
    return kernels, tool


def _own_roots(
    guest: guestfs.GuestFS,
    roots: tuple[Root, ...],
    storage: Storage,
    encryption: Encryption,
    places: Sequence[DiskPlace],
) -> tuple[Root, ...]:
    """The one Linux that is `/` by its own fstab, where the others are not: a backup of its files, a
    container. Else all of them."""
    names = StableNames(storage.disks, places)
    own, uuids = [], []
    for root in roots:
        device = guest.mountable_device(root.mountable)
        uuids.append(guest.vfs_uuid(device))
        try:
            guest.mount_ro(root.mountable, "/")
            files = GuestFiles(guest)
            wanted = wanted_mounts(files.text("/etc/fstab") or "")
            known = known_devices(
                guest, files, wanted, "", names=names, tags=storage.tags, opened=encryption.opened
            )
        except RuntimeError:
            return roots
        finally:
            guest.umount_all()
        if root.kind != LINUX:
            return roots
        if any(one.place == "/" and known.device(one.source) == device for one in wanted):
            own.append(root)
    return tuple(own) if len(own) == 1 and len(set(uuids)) == len(uuids) else roots


def enabled_mounts(files: GuestFiles) -> list[str]:
    """The units of mounts that something wants, as lines of fstab(5)."""
    enabled = {path.rpartition("/")[2].rpartition(".")[0] for path in files.matching(*WANTED_UNITS)}
    return [
        as_fstab(files.text(path) or "")
        for path in files.matching(MOUNT_UNITS)
        if path.rpartition("/")[2].removesuffix(".mount") in enabled
    ]


def _only_root(
    guest: guestfs.GuestFS, roots: tuple[Root, ...], storage: Storage, encryption: Encryption
) -> Root:
    if not roots:
        found = ", ".join(f"{device} ({kind})" for device, kind in storage.kinds.items()) or "nothing"
        reasons = [what_stands_in_the_way(guest, storage.kinds), *storage.untold]
        hints = [f"On the disks is {found}."]
        if BITLOCKER in storage.kinds.values():
            hints.append("Turn BitLocker off in the guest (manage-bde -off C:) and let it decrypt all of it.")
        if encryption.closed:
            reasons.append(encryption.reason)
            hints.append(WAY_OUT)
        reason = "; ".join(filter(None, reasons))
        raise Refused(
            ErrorCode.GUEST_UNSUPPORTED,
            "no operating system was found on the disks" + (f": {reason}" if reason else ""),
            " ".join(hints),
        )
    if len(roots) > 1:
        systems = ", ".join(f"{root.product_name} on {root.mountable}" for root in roots)
        raise Refused(
            ErrorCode.GUEST_UNSUPPORTED,
            f"there is more than one operating system: {systems}",
            "Which of them is to boot cannot be told. Remove the disk or the filesystem of the others.",
        )
    (root,) = roots
    if root.kind not in (LINUX, WINDOWS):
        raise Refused(
            ErrorCode.GUEST_UNSUPPORTED,
            f"{root.product_name} is not supported yet",
            "Linux and Windows guests can be converted.",
        )
    return root


def _initramfs_tool(files: GuestFiles) -> str:
    """The tool that makes the guest's initramfs, of several that may be there.

    Debian's initramfs-tools leaves its core behind when dracut takes its place, with an `update-initramfs`
    of its own or none.
    """
    updater = files.text(UPDATE_INITRAMFS)
    if updater is not None:
        return "dracut" if "dracut" in updater else "initramfs-tools"
    for tool, signs in (
        ("dracut", ("/usr/bin/dracut", "/sbin/dracut", "/usr/sbin/dracut")),
        ("initramfs-tools", ("/usr/sbin/mkinitramfs", "/sbin/mkinitramfs")),
        ("mkinitcpio", ("/usr/bin/mkinitcpio",)),
        ("mkinitrd", ("/sbin/mkinitrd", "/usr/sbin/mkinitrd")),
        ("mkinitfs", ("/sbin/mkinitfs", "/usr/sbin/mkinitfs")),
    ):
        if any(files.exists(sign) for sign in signs):
            return tool
    return ""
