"""Windows' own SATA driver, started at boot: it is, only where Windows was installed on SATA."""

import guestfs

from hyperctl.activities.convert.refusal import Refused
from hyperctl.activities.convert.windows.found import WindowsFound
from hyperctl.activities.convert.windows.registry import Hive, opened_hive
from hyperctl.workflows.errors import ErrorCode

SERVICES = ("storahci", "msahci")
"""Since Windows 8, and of Vista and 7."""
BOOT_START = 0
"""SERVICE_BOOT_START of `winsvc.h`."""


def starts_at_boot(system: Hive, control_set: str, service: str) -> bool:
    """Windows 8 and later override the start of drivers that it did not need when it was installed."""
    key = (control_set, "Services", service)
    override = system.number((*key, "StartOverride"), "0")
    return system.number(key, "Start") == BOOT_START and override in (None, BOOT_START)


def start_sata_at_boot(guest: guestfs.GuestFS, found: WindowsFound, name: str) -> tuple[str, bool]:
    """The service and whether it was changed. Raises `Refused` where Windows has none."""
    with opened_hive(guest, found.system_hive, write=True) as system:
        for service in SERVICES:
            key = (found.control_set, "Services", service)
            if not system.has(key):
                continue
            if starts_at_boot(system, found.control_set, service):
                return service, False
            system.set_number(key, "Start", BOOT_START)
            if system.has((*key, "StartOverride")):
                system.set_number((*key, "StartOverride"), "0", BOOT_START)
            system.commit()
            return service, True
    raise Refused(
        ErrorCode.GUEST_UNSUPPORTED,
        f"{name} has no driver for SATA disks",
        "Let it have VirtIO disks: --disk-bus virtio.",
    )
