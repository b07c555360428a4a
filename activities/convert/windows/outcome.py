"""What is in a Windows guest after virt-v2v, step by step: its drivers, loader, network and tools."""

from collections.abc import Callable
from dataclasses import dataclass

import guestfs

from hyperctl.activities.convert.order import Order
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.windows.drivers import BLOCK_DRIVERS, NETWORK_FILES, SCSI
from hyperctl.activities.convert.windows.found import WindowsFound
from hyperctl.activities.convert.windows.loader import LOADER, has_fallback_loader
from hyperctl.activities.convert.windows.registry import Hive, opened_hive
from hyperctl.activities.convert.windows.sata import BOOT_START, starts_at_boot
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.guest import Outcome, Step
from hyperctl.workflows.hardware import DiskBus
from hyperctl.workflows.machine import Firmware

SCRIPTS = "/Program Files/Guestfs/Firstboot/scripts"
FIRSTBOOT_SERVICE = "firstboot"
AUTOMATIC_START = 2
"""SERVICE_AUTO_START of `winsvc.h`."""
ADDRESSES = "Temp/v2vnetcf.ps1"
"""Below the system's folder; the names are virt-v2v's, as of 2.2."""


@dataclass(frozen=True, slots=True)
class Converted:
    """The system, mounted."""

    guest: guestfs.GuestFS
    order: Order
    found: WindowsFound
    has_fallback_loader: bool
    scripts: tuple[str, ...]
    """File names of what Windows runs at its first boot."""

    @classmethod
    def opened(cls, guest: guestfs.GuestFS, order: Order, found: WindowsFound) -> "Converted":
        has_loader = has_fallback_loader(guest, found.system_partitions)
        guest.mount(found.root, "/")
        folder = _existing(guest, SCRIPTS)
        return cls(guest, order, found, has_loader, tuple(guest.ls(folder)) if folder else ())

    def path(self, name: str) -> str:
        """The path of a file below the system's folder as it is written there; empty where there is none."""
        return _existing(self.guest, f"{self.found.system_root}/{name}")

    def scripts_of(self, *words: str) -> list[str]:
        """Scripts of the first boot whose names have all the words."""
        names = ((name, name.lower().replace("-", " ")) for name in self.scripts)
        return [name for name, plain in names if all(word in plain for word in words)]


def _drivers(converted: Converted, work: Work) -> Outcome:
    found, hardware = converted.found, converted.order.hardware
    work.warnings += found.remarks
    changed = False
    with opened_hive(converted.guest, found.system_hive) as system:
        if found.sata_service:
            if not starts_at_boot(system, found.control_set, found.sata_service):
                raise StepFailed(f"{found.sata_service}, which drives SATA disks, does not start at boot")
            work.done.append(f"{found.sata_service} starts at boot")
            if found.sata_changed:
                work.changed.append(found.system_hive)
                changed = True
        else:
            service, file = _boot_driver(converted, system)
            work.done.append(f"{service} starts at boot")
            work.changed += [file, found.system_hive]
            changed = True
    if hardware.nic_model.needs_virtio:
        files = [path for name in NETWORK_FILES if (path := converted.path(f"Drivers/VirtIO/{name}"))]
        if not files:
            raise StepFailed(
                "virt-v2v has put no VirtIO network driver into the guest: --nic-model e1000e does without"
            )
        work.done.append("the network's driver is there for Windows to install")
        work.changed += files
        changed = True
    return Outcome.DONE if changed else Outcome.NOT_NEEDED


def _boot_driver(converted: Converted, system: Hive) -> tuple[str, str]:
    """The service that the disks are reached by, and its file."""
    scsi = converted.order.hardware.disk_bus is DiskBus.SCSI
    services = (SCSI,) if scsi else BLOCK_DRIVERS
    for service in services:
        key = (converted.found.control_set, "Services", service)
        image = system.text(key, "ImagePath").replace("\\", "/")
        file = converted.path(image) if image else ""
        if system.number(key, "Start") == BOOT_START and file:
            return service, file
    raise StepFailed(
        f"virt-v2v has not made {services[0]} a driver that starts at boot, so Windows would not find its "
        "disk: --disk-bus sata does without"
    )


def _loader(converted: Converted, work: Work) -> Outcome:
    if not converted.order.fix.grub:
        return Outcome.SKIPPED
    if converted.order.machine.firmware is not Firmware.EFI:
        work.done.append("BIOS starts Windows' own")
        return Outcome.NOT_NEEDED
    if not converted.has_fallback_loader:
        raise StepFailed(
            f"no EFI system partition has {LOADER}, by which UEFI starts a system that it does not know"
        )
    work.done.append(f"{LOADER} is where UEFI looks for it")
    if converted.found.has_fallback_loader:
        return Outcome.NOT_NEEDED
    work.changed.append(LOADER)
    return Outcome.DONE


def _network(converted: Converted, work: Work) -> Outcome:
    found = converted.found
    if not converted.order.fix.network:
        return Outcome.SKIPPED
    work.warnings += found.address_warnings
    if not found.addresses:
        if not found.address_warnings:
            work.done.append("no static address")
        return Outcome.NOT_NEEDED
    script = converted.path(ADDRESSES)
    text = converted.guest.read_file(script).decode(errors="replace") if script else ""
    missing = [str(one) for one in found.addresses if f"'{one.address}'" not in text]
    if missing or not converted.scripts_of("v2vnetcf"):
        raise StepFailed(f"virt-v2v has not put in what sets {', '.join(missing) or 'the static addresses'}")
    _require_service(converted)
    work.done.append(f"set at Windows' first boot: {', '.join(map(str, found.addresses))}")
    work.changed.append(script)
    return Outcome.DONE


def _tools(converted: Converted, work: Work) -> Outcome:
    agents = converted.scripts_of("install", "qemu ga")
    uninstallers = converted.scripts_of("uninstall", "vmware tools")
    if not converted.order.fix.tools:
        for name in uninstallers:
            converted.guest.rm(f"{_existing(converted.guest, SCRIPTS)}/{name}")
        return Outcome.SKIPPED
    if agents:
        work.done.append("the QEMU guest agent is installed at Windows' first boot")
        work.changed += [f"{SCRIPTS}/{name}" for name in agents]
    if not converted.found.has_vmware_tools:
        work.done.append("VMware Tools are not there")
    elif uninstallers:
        work.done.append("VMware Tools are removed at Windows' first boot")
        work.changed += [f"{SCRIPTS}/{name}" for name in uninstallers]
    else:
        raise StepFailed(
            "virt-v2v has not put in what removes VMware Tools: remove them in the source, or leave them by "
            "--skip-tools"
        )
    if not work.changed:
        return Outcome.NOT_NEEDED
    _require_service(converted)
    return Outcome.DONE


def _require_service(converted: Converted) -> None:
    with opened_hive(converted.guest, converted.found.system_hive) as system:
        key = (converted.found.control_set, "Services", FIRSTBOOT_SERVICE)
        if system.number(key, "Start") != AUTOMATIC_START:
            raise StepFailed("virt-v2v has not put in the service that runs scripts at Windows' first boot")


def _existing(guest: guestfs.GuestFS, path: str) -> str:
    """NTFS keeps the case of names, and Windows does not look at it."""
    try:
        found = str(guest.case_sensitive_path(path))
    except RuntimeError:
        return ""
    return found if guest.exists(found) else ""


STEPS: tuple[tuple[Step, Callable[[Converted, Work], Outcome]], ...] = (
    (Step.VIRTIO, _drivers),
    (Step.BOOTLOADER, _loader),
    (Step.NETWORK, _network),
    (Step.TOOLS, _tools),
)
