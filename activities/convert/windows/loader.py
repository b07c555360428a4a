"""The boot loader where UEFI looks for one without being told: the old firmware's variables stay behind."""

import guestfs

LOADER = "/EFI/BOOT/BOOTX64.EFI"
"""UEFI Specification 2.10, section 3.5.1.1."""


def has_fallback_loader(guest: guestfs.GuestFS, system_partitions: tuple[str, ...]) -> bool:
    """Whether one of the EFI system partitions has it. Nothing is mounted afterwards."""
    return any(_has_loader(guest, device) for device in system_partitions)


def _has_loader(guest: guestfs.GuestFS, device: str) -> bool:
    guest.umount_all()
    guest.mount_ro(device, "/")
    found = bool(guest.is_file(LOADER))  # FAT's names have no case
    guest.umount_all()
    return found
