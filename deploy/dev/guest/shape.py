"""Makes a disk of the installed system: partitions, filesystems, and GRUB as the guest itself installs it."""

import os
import shutil
import subprocess
from pathlib import Path

import guestfs

from deploy.dev.guest.recipe import DISK_BYTES, FILES, PARTITIONS, Partition
from hyperctl.activities.acceleration import libguestfs_environment

SECTOR = 512
LAUNCHES = 10


def write_files(root: Path, files: dict[str, str]) -> None:
    """Put files into a tree, owned by root and readable by all."""
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(content)
        path.chmod(0o644)


def make_disk(root: Path, disk: Path) -> None:
    """Lay the tree out on a new sparse raw disk that boots on VMware's hardware. The tree is taken apart."""
    write_files(root, FILES)
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    mounted = [partition for partition in PARTITIONS if partition.mount_point]
    for partition in sorted(mounted, key=lambda one: len(one.mount_point), reverse=True):
        _make_filesystem(root, disk, partition)
    print("installing GRUB in libguestfs' appliance", flush=True)
    _install_grub(disk)


def _make_filesystem(root: Path, disk: Path, partition: Partition) -> None:
    """An ext4 filesystem at the partition's place; the folder is emptied, being a mount point from now on."""
    print(f"filesystem of {partition.mount_point}", flush=True)
    tree = root / partition.mount_point.lstrip("/")
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), "-E", f"offset={partition.start_bytes}"]
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    subprocess.run([*argv, str(disk), f"{partition.size_bytes >> 10}k"], check=True, env=environment)
    if partition.mount_point != "/":
        shutil.rmtree(tree)
        tree.mkdir()


def _install_grub(disk: Path) -> None:
    """Partition table, swap, boot code and grub.cfg, all by names of the form /dev/sdX."""
    os.environ.update(libguestfs_environment())
    guest = _launch(disk)
    guest.part_init("/dev/sda", "mbr")
    for partition in PARTITIONS:
        first = partition.start_bytes // SECTOR
        guest.part_add("/dev/sda", "p", first, first + partition.size_bytes // SECTOR - 1)
    guest.part_set_bootable("/dev/sda", 1, True)
    for number, partition in enumerate(PARTITIONS, start=1):
        if not partition.mount_point:
            guest.mkswap(f"/dev/sda{number}")
            guest.part_set_mbr_id("/dev/sda", number, 0x82)
    guest = _restarted_until_sda(guest, disk)
    for number, partition in sorted(enumerate(PARTITIONS, start=1), key=lambda one: one[1].mount_point):
        if partition.mount_point:
            guest.mount(f"/dev/sda{number}", partition.mount_point)
    print(guest.command(["grub-install", "--target=i386-pc", "/dev/sda"]).strip(), flush=True)
    print(guest.sh("update-grub 2>&1").strip(), flush=True)
    guest.umount_all()
    guest.shutdown()
    guest.close()


def _launch(disk: Path) -> guestfs.GuestFS:
    guest = guestfs.GuestFS(python_return_dict=True)
    guest.add_drive_opts(str(disk), format="raw", cachemode="unsafe")
    guest.set_smp(min(2, os.cpu_count() or 1))
    guest.launch()
    return guest


def _restarted_until_sda(guest: guestfs.GuestFS, disk: Path) -> guestfs.GuestFS:
    """An appliance whose kernel, too, calls the disk sda.

    libguestfs translates names in its own calls, and not those that a programme of the guest sees: now and
    then the kernel finds the appliance's own disk first.
    """
    for _ in range(LAUNCHES):
        if "sda1" in guest.debug("sh", ["ls /sys/block/sda"]).split():
            return guest
        guest.shutdown()
        guest.close()
        guest = _launch(disk)
    raise RuntimeError(f"the appliance's kernel did not call the disk sda in {LAUNCHES} launches")
