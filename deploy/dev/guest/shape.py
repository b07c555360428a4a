"""Makes the disks of an installed system: filled from outside where that can be, else in an appliance."""

import os
import shutil
import subprocess
from pathlib import Path

import guestfs

from deploy.dev.guest.guest import MIB, Filesystem, Guest
from deploy.dev.guest.script import SERIAL, build_script
from hyperctl.activities.acceleration import libguestfs_environment

APPLIANCE_MEMORY_MIB = 1536
SPARE_MIB = 128


def make_disks(guest: Guest, root: Path, folder: Path) -> None:
    """Lay the tree out on new sparse raw disks, FOLDER/disk1.raw ..., that boot on VMware's hardware.

    The tree is taken apart. Raises `RuntimeError` with what the appliance said where that went wrong.
    """
    disks = [folder / f"disk{number}.raw" for number in range(1, len(guest.layout.disks_mib) + 1)]
    for disk, size_mib in zip(disks, guest.layout.disks_mib, strict=True):
        with disk.open("wb") as file:
            file.truncate(size_mib * MIB)
    images: dict[str, str] = {}
    drives: list[tuple[Path, str]] = []
    for one in sorted(guest.layout.filesystems, key=lambda one: len(one.mount_point), reverse=True):
        tree = root / one.mount_point.lstrip("/")
        place = _place(guest, one, disks)
        if place is not None:
            _make_ext4(tree, *place)
            images[one.mount_point] = ""
        elif tree.is_dir() and any(tree.iterdir()):
            image, serial = folder / f".from{len(drives)}.img", f"from{len(drives)}"
            used = int(subprocess.check_output(["du", "-sm", str(tree)]).split()[0])
            image.touch()
            _make_ext4(tree, image, 0, used + used // 8 + SPARE_MIB)
            images[one.mount_point] = serial
            drives.append((image, serial))
        if one.mount_point != "/" and tree.is_dir():
            shutil.rmtree(tree)
            tree.mkdir()
    script = build_script(guest, images, guest.files)
    try:
        _run_in_appliance(disks, drives, script)
    finally:
        for image, _ in drives:
            image.unlink()


def _place(guest: Guest, one: Filesystem, disks: list[Path]) -> tuple[Path, int, int] | None:
    """Disk, start and size in MiB of an ext4 filesystem that is a partition's own."""
    layout = guest.layout
    if one.kind != "ext4" or not one.device.startswith("/dev/sd"):
        return None
    disk, start = layout.disk_of(one.device), 1
    for partition in layout.partitions_of(disk):
        if partition.device == one.device:
            return disks[disk], start, partition.size_mib
        start += partition.size_mib
    raise ValueError(f"{guest.name}: {one.device} is no partition of its layout")


def _make_ext4(tree: Path, image: Path, start_mib: int, size_mib: int) -> None:
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), "-E", f"offset={start_mib * MIB}"]
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    subprocess.run([*argv, str(image), f"{size_mib << 10}k"], check=True, env=environment)


def _run_in_appliance(disks: list[Path], drives: list[tuple[Path, str]], script: str) -> None:
    """The disks are on VMware's controller, so that a guest's tools find there what they would on VMware."""
    print("formatting and booting it in libguestfs' appliance", flush=True)
    os.environ.update(libguestfs_environment())
    guest = guestfs.GuestFS(python_return_dict=True)
    try:
        guest.set_smp(min(2, os.cpu_count() or 1))
        guest.set_memsize(APPLIANCE_MEMORY_MIB)
        attached = [(disk, f"{SERIAL}{number}") for number, disk in enumerate(disks, start=1)] + drives
        for target, (image, serial) in enumerate(attached):  # it gives qemu the last of these first
            guest.config("-device", f"scsi-hd,bus=vmware.0,scsi-id={target},drive={serial},serial={serial}")
            guest.config("-drive", f"id={serial},if=none,format=raw,cache=unsafe,discard=unmap,file={image}")
        guest.config("-device", "pvscsi,id=vmware")
        guest.add_drive_scratch(MIB)  # it does not launch without a drive of its own
        guest.launch()
        print(guest.debug("sh", [script]).strip(), flush=True)
        guest.shutdown()
    finally:
        guest.close()
