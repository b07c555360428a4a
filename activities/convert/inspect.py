"""Opening a guest's disks together and finding out what is on them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import guestfs

from hyperctl.activities.convert.devices import BlockDevice, StableNames
from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.linux.kernels import Kernel, find_kernels
from hyperctl.activities.convert.order import Order
from hyperctl.activities.convert.refusal import Refused
from hyperctl.workflows.errors import ErrorCode
from hyperctl.workflows.guest import GuestSystem
from hyperctl.workflows.machine import Machine

NEEDED_MOUNTS = ("/", "/boot", "/boot/efi", "/efi", "/usr", "/etc")
SUPPORTED_TOOLS = ("initramfs-tools", "dracut")


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
    warnings: tuple[str, ...]


@contextmanager
def opened_guest(order: Order) -> Iterator[Inspected]:
    """Launch the appliance, inspect and mount. What was written is on the overlays when this ends well.

    Raises `Refused` for a guest that is not supported, and `RuntimeError` as libguestfs does.
    """
    guest = guestfs.GuestFS(python_return_dict=True)
    try:
        for overlay in order.overlays:
            guest.add_drive_opts(overlay, format="qcow2", cachemode="unsafe", discard="besteffort")
        guest.launch()
        yield _inspect(guest, order.machine)
        guest.umount_all()
        guest.shutdown()
    finally:
        guest.close()


def _inspect(guest: guestfs.GuestFS, machine: Machine) -> Inspected:
    root = _only_linux_root(guest)
    mounts, warnings = _mount(guest, root)
    files = GuestFiles(guest)
    kernels = find_kernels(files)
    if not kernels:
        raise Refused(ErrorCode.GUEST_UNSUPPORTED, "no Linux kernel with its modules was found in /boot")
    tool = _initramfs_tool(files)
    if tool not in SUPPORTED_TOOLS:
        raise Refused(
            ErrorCode.GUEST_UNSUPPORTED,
            f"{guest.inspect_get_product_name(root)} builds its initramfs with {tool or 'an unknown tool'}",
            f"Guests with {' or '.join(SUPPORTED_TOOLS)} can be converted.",
        )
    system = GuestSystem(
        product_name=_product_name(files) or guest.inspect_get_product_name(root),
        distribution=guest.inspect_get_distro(root),
        major_version=guest.inspect_get_major_version(root),
        minor_version=guest.inspect_get_minor_version(root),
        host_name=guest.inspect_get_hostname(root),
        root_device=mounts["/"],
        filesystems=tuple(f"{place} {guest.vfs_type(device)} ({device})" for place, device in mounts.items()),
        kernels=tuple(kernel.version for kernel in kernels),
        initramfs_tool=tool,
    )
    units = tuple(disk.unit for disk in machine.disks)
    names = StableNames(_block_devices(guest), units)
    return Inspected(files, machine, system, kernels, names, mounts, warnings)


def _only_linux_root(guest: guestfs.GuestFS) -> str:
    roots = guest.inspect_os()
    if not roots:
        encrypted = [device for device in _devices(guest) if guest.vfs_type(device) == "crypto_LUKS"]
        if encrypted:
            raise Refused(
                ErrorCode.GUEST_UNSUPPORTED, f"the disks are encrypted with LUKS ({', '.join(encrypted)})"
            )
        raise Refused(ErrorCode.GUEST_UNSUPPORTED, "no operating system was found on the disks")
    if len(roots) > 1:
        found = ", ".join(f"{guest.inspect_get_product_name(root)} on {root}" for root in roots)
        raise Refused(ErrorCode.GUEST_UNSUPPORTED, f"there is more than one operating system: {found}")
    (root,) = roots
    if guest.inspect_get_type(root) != "linux":
        raise Refused(
            ErrorCode.GUEST_UNSUPPORTED,
            f"{guest.inspect_get_product_name(root)} is not supported yet",
            "Linux guests can be converted.",
        )
    return str(root)


def _mount(guest: guestfs.GuestFS, root: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Mount everything that fstab names. Raises `Refused` where one that is needed cannot be."""
    mounts: dict[str, str] = {}
    warnings = []
    wanted = guest.inspect_get_mountpoints(root)
    for place in sorted(wanted, key=len):
        try:
            guest.mount(wanted[place], place)
            mounts[place] = wanted[place]
        except RuntimeError as error:
            if place in NEEDED_MOUNTS:
                raise Refused(
                    ErrorCode.CONVERSION_FAILED,
                    f"the filesystem of {place} on {wanted[place]} cannot be mounted: {error}",
                    "Start the VM once more in vSphere, let it check its filesystems, and shut it down.",
                ) from error
            warnings.append(f"{place} on {wanted[place]} cannot be mounted: {error}")
    return mounts, tuple(warnings)


def _product_name(files: GuestFiles) -> str:
    """The system's name for people, from os-release(5)."""
    text = files.text("/etc/os-release") or ""
    found = re.search(r"^PRETTY_NAME=[\"']?([^\"'\n]*)", text, re.MULTILINE)
    return found[1] if found else ""


def _initramfs_tool(files: GuestFiles) -> str:
    for tool, signs in (
        ("initramfs-tools", ("/usr/sbin/mkinitramfs", "/sbin/mkinitramfs")),
        ("dracut", ("/usr/bin/dracut", "/sbin/dracut", "/usr/sbin/dracut")),
        ("mkinitcpio", ("/usr/bin/mkinitcpio",)),
        ("mkinitrd", ("/sbin/mkinitrd", "/usr/sbin/mkinitrd")),
    ):
        if any(files.exists(sign) for sign in signs):
            return tool
    return ""


def _devices(guest: guestfs.GuestFS) -> list[str]:
    """Whole disks and partitions, by the appliance's names."""
    return [*guest.list_devices(), *guest.list_partitions()]


def _block_devices(guest: guestfs.GuestFS) -> dict[str, BlockDevice]:
    found = {}
    for device in _devices(guest):
        facts = guest.blkid(device)
        found[device] = BlockDevice(facts.get("UUID", ""), facts.get("PART_ENTRY_UUID", ""))
    return found
