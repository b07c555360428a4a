"""A plain Linux is found as libguestfs finds it, and whatever is less certain is left to that."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hyperctl.activities.convert.boot_disks import disks_below
from hyperctl.activities.convert.mounts import mount_unlisted
from hyperctl.activities.convert.roots import UNKNOWN, find_roots, inspected_roots, plain_root
from hyperctl.activities.convert.storage import (
    EXTENDED_BOOT_TYPE,
    SYSTEM_PARTITION_TYPES,
    Storage,
    probe_devices,
    survey,
)
from tests.found_out import AGAIN
from tests.integration.guests.bench import DEBIAN, Bench, blank, e2fs, in_appliance, system

RED_HAT = {
    "etc/os-release": (
        'NAME="CentOS Linux"\nVERSION="7 (Core)"\nID="centos"\nID_LIKE="rhel fedora"\nVERSION_ID="7"\n'
        'PRETTY_NAME="CentOS Linux 7 (Core)"\n'
    ),
    "etc/redhat-release": "CentOS Linux release 7.9.2009 (Core)\n",
    "etc/hostname": "db.example.com\n",
    "etc/fstab": "/dev/sda1 / ext4 defaults 0 0\n",
}
UBUNTU = {
    "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.3 LTS"\nNAME="Ubuntu"\nVERSION_ID="22.04"\nID=ubuntu\n',
    "etc/debian_version": "bookworm/sid\n",
    "etc/hostname": "web\n",
    "etc/fstab": "",
}

again = pytest.mark.skipif(not AGAIN, reason="libguestfs' own inspection again: make test-guests")
pytestmark = pytest.mark.timeout(900)


def surveyed(bench: Bench) -> Storage:
    return survey(bench.guest, probe_devices(bench.guest))


def data(image: Path) -> Path:
    """A filesystem of files, some of them of a system."""
    tree = image.with_suffix(".tree")
    (tree / "backup/bin").mkdir(parents=True)
    (tree / "etc").mkdir()
    e2fs("mke2fs", "-q", "-F", "-t", "ext3", "-d", str(tree), str(blank(image)))
    return image


@again
@pytest.mark.parametrize("files", [{**DEBIAN, "etc/hostname": "web-01\n"}, RED_HAT])
def test_it_is_told_as_libguestfs_tells_it(bench: Bench, tmp_path: Path, files: dict[str, str]) -> None:
    bench.put(data(tmp_path / "data.raw"), system(tmp_path / "root.raw", files))
    bench.guest.mkswap("/dev/sdc")
    found = plain_root(bench.guest, surveyed(bench))
    assert found is not None
    (theirs,) = inspected_roots(bench.guest)
    assert replace(found, product_name="") == replace(theirs, product_name="")  # theirs is another file's
    assert (found.mountable, found.major_version > 0) == ("/dev/sdb", True)


def two(bench: Bench, folder: Path) -> None:
    bench.put(system(folder / "one.raw", DEBIAN), system(folder / "two.raw", UBUNTU))


def beside_a_fat(bench: Bench, folder: Path) -> None:
    bench.put(system(folder / "one.raw", DEBIAN))
    bench.guest.mkfs("vfat", "/dev/sdb")


def without_a_name(bench: Bench, folder: Path) -> None:
    bench.put(system(folder / "one.raw", {"etc/debian_version": "6.0.10\n", "etc/fstab": ""}))


def unreadable(bench: Bench, folder: Path) -> None:
    bench.put(system(folder / "one.raw", DEBIAN))
    bench.guest.mkfs("ext4", "/dev/sdb")
    bench.guest.pwrite_device("/dev/sdb", b"\0" * 4096, 2048)  # where its groups are


def test_a_default_subvolume_that_fstab_names_is_the_root_beside_its_snapshots(bench: Bench) -> None:
    """On two disks, on both of which libguestfs finds it."""
    bench.clear()
    both = " ".join(map(in_appliance, ("/dev/sdb", "/dev/sdc")))
    bench.guest.debug("sh", [f"mkfs.btrfs --mixed -d single -m single {both}"])
    bench.guest.mount("/dev/sdb", "/")
    bench.guest.btrfs_subvolume_create("/@")
    for folder in ("/@/bin", "/@/etc"):
        bench.guest.mkdir(folder)
    bench.guest.write("/@/etc/os-release", DEBIAN["etc/os-release"])
    bench.guest.write("/@/etc/fstab", "/dev/sdb / btrfs subvol=@ 0 0\n")
    bench.guest.btrfs_subvolume_snapshot("/@", "/@before", ro=True)
    (own,) = (one for one in bench.guest.btrfs_subvolume_list("/") if one["btrfssubvolume_path"] == "@")
    bench.guest.btrfs_subvolume_set_default(own["btrfssubvolume_id"], "/")
    bench.guest.umount_all()
    assert [root.mountable for root in find_roots(bench.guest, surveyed(bench))] == ["/dev/sdb"]


def test_what_fstab_leaves_out_is_mounted_by_its_type(bench: Bench) -> None:
    """`bootctl install` makes a folder EFI on both partitions."""
    bench.clear()
    bench.guest.part_init("/dev/sdc", "gpt")
    for number, kind in enumerate((EXTENDED_BOOT_TYPE, SYSTEM_PARTITION_TYPES[0]), start=1):
        bench.guest.part_add("/dev/sdc", "p", number * 40960, number * 40960 + 32767)
        bench.guest.part_set_gpt_type("/dev/sdc", number, kind.upper())
        bench.guest.mkfs("vfat", f"/dev/sdc{number}")
        bench.guest.mount(f"/dev/sdc{number}", "/")
        bench.guest.mkdir("/EFI")
        bench.guest.umount_all()
    bench.guest.mkfs("ext4", "/dev/sdb")
    found = surveyed(bench)
    bench.guest.mount("/dev/sdb", "/")
    bench.guest.mkdir("/efi")
    both = {"/boot": "/dev/sdc1", "/efi": "/dev/sdc2"}
    assert mount_unlisted(bench.guest, {}, found.boot_partitions, found.system_partitions) == both
    bench.guest.umount("/efi")
    others = {"/efi": "/dev/sdc2"}
    of_fstab = {"/boot": "/dev/sdc1"}
    assert mount_unlisted(bench.guest, of_fstab, found.boot_partitions, found.system_partitions) == others
    assert mount_unlisted(bench.guest, both, found.boot_partitions, found.system_partitions) == {}
    bench.clear()
    bench.guest.blockdev_rereadpt("/dev/sdc")  # no other test has partitions


def test_a_filesystem_is_on_all_the_disks_below_it(bench: Bench) -> None:
    bench.clear()
    for disk in ("/dev/sdb", "/dev/sdc"):
        bench.guest.pvcreate(disk)
    bench.guest.vgcreate("system", ["/dev/sdc", "/dev/sdb"])
    bench.guest.lvcreate("boot", "system", 100)
    bench.guest.mkfs("ext2", "/dev/system/boot")
    bench.guest.mkfs("ext2", "/dev/sda")
    assert disks_below(bench.guest, "/dev/system/boot") == (1, 2)
    assert disks_below(bench.guest, "/dev/sda") == (0,)
    bench.clear()
    bench.guest.md_create("mirror", ["/dev/sda", "/dev/sdc"], level="raid1")
    bench.guest.mkfs("ext2", "/dev/md/mirror")
    assert disks_below(bench.guest, "/dev/md/mirror") == (0, 2)
    bench.guest.md_stop("/dev/md/mirror")


@pytest.mark.parametrize("put", [two, beside_a_fat, without_a_name, unreadable])
def test_what_is_not_certain_is_left_to_it(
    bench: Bench, tmp_path: Path, put: Callable[[Bench, Path], None]
) -> None:
    put(bench, tmp_path)
    assert plain_root(bench.guest, surveyed(bench)) is None


@again
def test_an_old_system_is_found_by_it(bench: Bench, tmp_path: Path) -> None:
    without_a_name(bench, tmp_path)
    (root,) = find_roots(bench.guest, surveyed(bench))
    assert (root.distribution, root.major_version, root.host_name) == ("debian", 6, UNKNOWN)


def test_an_appliance_that_is_gone_says_nothing_of_the_guest(bench: Bench, tmp_path: Path) -> None:
    without_a_name(bench, tmp_path)
    os.kill(bench.guest.get_pid(), signal.SIGKILL)  # so this test is the last
    with pytest.raises(RuntimeError):
        inspected_roots(bench.guest)
