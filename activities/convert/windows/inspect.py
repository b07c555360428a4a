"""Finding out what a Windows guest is and what its conversion must look after, before anything is changed."""

import os
from dataclasses import dataclass
from pathlib import Path

import guestfs

from hyperctl.activities.convert.order import Order
from hyperctl.activities.convert.refusal import Refused
from hyperctl.activities.convert.storage import BITLOCKER, Storage
from hyperctl.activities.convert.windows.addresses import StaticInterface, keep_addresses, static_interface
from hyperctl.activities.convert.windows.drivers import (
    BLOCK_DRIVERS,
    NETWORK_FILES,
    SCSI,
    WindowsRelease,
    drivers_for,
)
from hyperctl.activities.convert.windows.found import WindowsFound
from hyperctl.activities.convert.windows.loader import has_fallback_loader
from hyperctl.activities.convert.windows.parts import VARIABLE, WITHOUT_VIRTIO
from hyperctl.activities.convert.windows.registry import Hive, opened_hive
from hyperctl.activities.convert.windows.sata import start_sata_at_boot
from hyperctl.workflows.errors import ErrorCode
from hyperctl.workflows.guest import GuestSystem
from hyperctl.workflows.hardware import DiskBus, Hardware

NTFS = "ntfs"
HIBERNATED, UNCLEAN = 14, 15
"""Exit codes of ntfs-3g.probe(8)."""
READ_ONLY = 1
"""ST_RDONLY of statvfs(3)."""
FIRST_WITH_NETWORK_COMMANDS = (6, 2)
"""Windows 8 and Server 2012 came with PowerShell's `New-NetIPAddress`."""
VMWARE_TOOLS = "VMware Tools"
SHUT_DOWN = (
    "Start the VM in vSphere and shut it down whole: `powercfg /h off`, then `shutdown /s /t 0`. With fast "
    "startup Windows hibernates at every other shutdown."
)
UNINSTALL = ("Microsoft", "Windows", "CurrentVersion", "Uninstall")


@dataclass(frozen=True, slots=True)
class InspectedWindows:
    found: WindowsFound
    system: GuestSystem
    warnings: tuple[str, ...]
    detail: str


def inspect_windows(guest: guestfs.GuestFS, root: str, storage: Storage, order: Order) -> InspectedWindows:
    """Mount the system and look into its registry; where it is to boot from SATA, see to that.

    Raises `Refused` for all that it cannot be converted for.
    """
    name = guest.inspect_get_product_name(root)
    release = WindowsRelease(
        guest.inspect_get_major_version(root),
        guest.inspect_get_minor_version(root),
        guest.inspect_get_product_variant(root),
        guest.inspect_get_osinfo(root),
        guest.inspect_get_arch(root),
    )
    unclean = _refuse_at_once(guest, storage, name, release, order)
    has_loader = has_fallback_loader(guest, storage.system_partitions)
    _mount(guest, root, name)
    found = WindowsFound(
        root=root,
        system_root=guest.inspect_get_windows_systemroot(root),
        system_hive=guest.inspect_get_windows_system_hive(root),
        software_hive=guest.inspect_get_windows_software_hive(root),
        control_set=guest.inspect_get_windows_current_control_set(root),
        system_partitions=storage.system_partitions,
        has_fallback_loader=has_loader,
    )
    with opened_hive(guest, found.software_hive) as software:
        uninstallers = [(*UNINSTALL, key) for key in software.keys(UNINSTALL)]
        has_tools = any(VMWARE_TOOLS in software.text(key, "DisplayName") for key in uninstallers)
    with opened_hive(guest, found.system_hive) as system:
        interfaces = static_interfaces(system, found.control_set)
    kept, lost = keep_addresses(interfaces, order.machine.nics)
    if kept and (release.major, release.minor) < FIRST_WITH_NETWORK_COMMANDS:
        lost += (
            f"{name} lacks the commands by which virt-v2v sets static addresses: set them again in Windows, "
            f"{', '.join(map(str, kept))}",
        )
        kept = ()
    network = order.fix.network
    found = found.model_copy(
        update={
            "has_vmware_tools": has_tools,
            "addresses": kept if network else (),
            "address_warnings": lost if network else (),
        }
    )
    if order.fix.virtio and not order.hardware.disk_bus.needs_virtio:
        service, changed = start_sata_at_boot(guest, found, name)
        found = found.model_copy(update={"sata_service": service, "sata_changed": changed})
    closed = tuple(
        f"{device} is encrypted with BitLocker, and stays so: have its recovery key at hand"
        for device, kind in storage.kinds.items()
        if kind == BITLOCKER
    )
    described = GuestSystem(
        product_name=name,
        distribution=guest.inspect_get_distro(root),
        major_version=release.major,
        minor_version=release.minor,
        host_name=guest.inspect_get_hostname(root),
        root_device=root,
        filesystems=tuple(
            f"{letter}: {guest.vfs_type(device)} ({device})"
            for letter, device in _drives(guest, root).items()
        ),
        kernels=(),
        initramfs_tool="",
    )
    detail = f"{name}, version {release.major}.{release.minor}, {release.architecture}"
    return InspectedWindows(found, described, (*unclean, *closed, *storage.untold), detail)


def _mount(guest: guestfs.GuestFS, root: str, name: str) -> None:
    guest.umount_all()
    try:
        guest.mount(root, "/")
        why = "it can only be mounted for reading" if guest.statvfs("/")["flag"] & READ_ONLY else ""
    except RuntimeError as error:
        why = str(error)
    if why:
        message = f"the filesystem of {name} on {root} cannot be written: {why}"
        raise Refused(ErrorCode.GUEST_UNSUPPORTED, message, SHUT_DOWN)


def static_interfaces(system: Hive, control_set: str) -> list[StaticInterface]:
    """The interfaces of TCP/IP that have addresses without DHCP."""
    parent = (control_set, "Services", "Tcpip", "Parameters", "Interfaces")
    found = []
    for name in system.keys(parent):
        key = (*parent, name)
        if system.number(key, "EnableDHCP"):
            continue
        interface = static_interface(
            system.texts(key, "IPAddress"),
            system.texts(key, "SubnetMask"),
            system.texts(key, "DefaultGateway"),
            system.text(key, "NameServer"),
        )
        if interface:
            found.append(interface)
    return found


def virtio_win_files(path: Path) -> list[str]:
    """The files in a folder or, read in an appliance of its own, in an ISO image."""
    if path.is_dir():
        walk = os.walk(path, followlinks=True)
        return [f"{os.path.relpath(folder, path)}/{name}" for folder, _, names in walk for name in names]
    iso = guestfs.GuestFS(python_return_dict=True)
    try:
        iso.add_drive_opts(str(path), format="raw", readonly=True)
        iso.launch()
        iso.mount_ro("/dev/sda", "/")
        return list(iso.find("/"))
    finally:
        iso.close()


def _refuse_at_once(
    guest: guestfs.GuestFS, storage: Storage, name: str, release: WindowsRelease, order: Order
) -> tuple[str, ...]:
    """Raises `Refused` with all that this host and this guest lack; returns warnings."""
    problems: list[tuple[ErrorCode, str, str]] = []
    if order.fix.virtio:
        missing = order.windows.missing(order.hardware)
        problems += [(one.code, one.message, one.hint) for one in missing]
        virtio_win = order.windows.virtio_win
        if virtio_win and virtio_win.exists():
            problems += _without_drivers(name, release, virtio_win, order.hardware)
    volumes = [device for device, kind in storage.kinds.items() if kind == NTFS]
    states = {device: guest.ntfs_3g_probe(True, device) for device in volumes}
    problems += [
        (
            ErrorCode.GUEST_UNSUPPORTED,
            f"Windows is hibernated: its volume {device} belongs to a suspended system",
            SHUT_DOWN,
        )
        for device, state in states.items()
        if state == HIBERNATED
    ]
    if problems:
        codes, messages, hints = zip(*problems, strict=True)
        raise Refused(codes[-1], "; ".join(messages), " ".join(hints))
    return tuple(
        f"{device} (NTFS) was not unmounted: what Windows had not written is lost"
        for device, state in states.items()
        if state == UNCLEAN
    )


def _without_drivers(
    name: str, release: WindowsRelease, virtio_win: Path, hardware: Hardware
) -> list[tuple[ErrorCode, str, str]]:
    block = (SCSI,) if hardware.disk_bus is DiskBus.SCSI else BLOCK_DRIVERS
    wanted: list[tuple[str, ...]] = []
    if hardware.disk_bus.needs_virtio:
        wanted.append(tuple(f"{driver}.sys" for driver in block))
    if hardware.nic_model.needs_virtio:
        wanted.append(NETWORK_FILES)
    there = drivers_for(release, virtio_win_files(virtio_win)) if wanted else None
    missing = [] if there is None else [files[0] for files in wanted if not there & set(files)]
    if not missing:
        return []
    return [
        (
            ErrorCode.GUEST_UNSUPPORTED,
            f"{virtio_win} has no {' and no '.join(missing)} for {name} "
            f"({' or '.join(sorted(release.folders))}, {release.architecture})",
            f"Name another virtio-win ({VARIABLE}): older releases of Windows need an older one. "
            f"Or do without VirtIO: {WITHOUT_VIRTIO}.",
        )
    ]


def _drives(guest: guestfs.GuestFS, root: str) -> dict[str, str]:
    """Filesystems by drive letters."""
    letters: dict[str, str] = guest.inspect_get_drive_mappings(root)
    return letters or {"C": root}
