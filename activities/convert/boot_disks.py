"""Which disks firmware and boot loader read, of a guest that has many."""

import shlex
from collections.abc import Mapping, Sequence

import guestfs

from hyperctl.activities.convert.mounts import SYSTEM_PARTITION_PLACES, filesystem_of
from hyperctl.workflows.machine import BIOS_DISKS, BIOS_DISKS_SURELY, Firmware, Machine

SECTOR_BYTES = 512
PROGRAMME_BYTES, PARTITION_TABLE, PARTITION_BYTES = 440, 446, 16
"""Of a master boot record, whose partitions begin with 0x80 where they are active."""


def find_boot_disk(guest: guestfs.GuestFS, machine: Machine, mounts: Mapping[str, str]) -> int:
    """Which disk has the loader: the EFI system partition, or what looks most like one in its first sector.

    VMware can be told to begin with another than the first; firmware elsewhere begins with that.
    """
    disks = list(guest.list_devices())
    if machine.firmware is Firmware.EFI:
        place = next((one for one in SYSTEM_PARTITION_PLACES if guest.is_dir(f"{one}/EFI")), "")
        device = next((device for mounted, device in mounts.items() if mounted == place), "")
        return next((number for number, disk in enumerate(disks) if is_on_disk(device, disk)), 0)
    ranks = [boot_rank(guest.pread_device(disk, SECTOR_BYTES, 0)) for disk in disks]
    return ranks.index(max(ranks))


def find_loader_disks(guest: guestfs.GuestFS, machine: Machine, mounts: Mapping[str, str]) -> tuple[int, ...]:
    """The disks that have /boot, where a BIOS would not show the loader all; else none need be known."""
    if machine.firmware is Firmware.EFI or len(machine.disks) <= BIOS_DISKS_SURELY:
        return ()
    return disks_below(guest, mounts[filesystem_of("/boot", mounts)])


def disks_below(guest: guestfs.GuestFS, mountable: str) -> tuple[int, ...]:
    """The disks that a filesystem is on, through volumes, arrays and encryption, counted from 0.

    The appliance's kernel may have found its disks in another order, so that its own names of them are not
    libguestfs'. It is asked by the filesystem's UUID, which all devices of a btrfs have, and answers with
    their places on the controller (lsblk's HCTL), of which the third number counts the disks.
    """
    uuid = guest.vfs_uuid(mountable)
    if not uuid:
        device = guest.mountable_device(mountable)
        return tuple(n for n, disk in enumerate(guest.list_devices()) if is_on_disk(device, disk))
    below = f"lsblk -nrso HCTL $(blkid -o device -t {shlex.quote(f'UUID={uuid}')})"
    listed = guest.debug("sh", [below]).split()
    return tuple(sorted({int(place.split(":")[2]) for place in listed}))


def unshown_disks(machine: Machine, needed: Sequence[int]) -> str:
    """What is to be said where not every BIOS shows its loader all the disks that it needs; else nothing."""
    if machine.firmware is Firmware.EFI or len(needed) <= BIOS_DISKS_SURELY:
        return ""
    labels = [machine.disks[number].label for number in needed]
    what = f"the boot loader reads /boot from {len(needed)} disks ({', '.join(labels)})"
    if len(needed) <= BIOS_DISKS:
        return f"{what}, of which SeaBIOS before 1.16 may not show it all: boot it on a newer host"
    return (
        f"{what}, and a BIOS shows it {BIOS_DISKS} at most, without {', '.join(labels[BIOS_DISKS:])}: move "
        "/boot to one disk in the source"
    )


def boot_rank(sector: bytes) -> int:
    """How much a disk's first sector looks like a loader's: 3 for GRUB, which has its name in it for its
    errors, 2 for any programme beside an active partition, where syslinux' goes on, 1 for any other."""
    code = sector[:PROGRAMME_BYTES]
    if sector[-2:] != b"\x55\xaa" or not code.strip(b"\0"):
        return 0
    if b"GRUB" in code:
        return 3
    table = sector[PARTITION_TABLE:SECTOR_BYTES]
    return 2 if b"\x80" in table[: 4 * PARTITION_BYTES : PARTITION_BYTES] else 1


def is_on_disk(device: str, disk: str) -> bool:
    """Whether a device of the appliance's is the disk, or a partition of it."""
    return device == disk or (device.startswith(disk) and device[len(disk) :].isdecimal())
