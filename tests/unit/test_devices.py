"""Names of devices that stay true, and the texts that name them."""

import pytest

from hyperctl.activities.convert.devices import BlockDevice, StableNames
from hyperctl.activities.convert.linux.arguments import stable_arguments, unresolved_root
from hyperctl.activities.convert.linux.bootloader import by_uuid, device_map, environment_block
from hyperctl.activities.convert.linux.fstab import stable_crypttab, stable_fstab
from hyperctl.activities.convert.refusal import StepFailed

ONE_DISK = StableNames(
    {
        "/dev/sda": BlockDevice(),
        "/dev/sda1": BlockDevice("boot-uuid", "part-1"),
        "/dev/sda2": BlockDevice("root-uuid", "part-2"),
        "/dev/sda3": BlockDevice("", "part-3"),
    },
    units=(0,),
)
TWO_DISKS = StableNames(
    {
        "/dev/sda1": BlockDevice("same", "part-a"),
        "/dev/sdb1": BlockDevice("same", "part-b"),
        "/dev/sdb2": BlockDevice("data", "part-c"),
    },
    units=(0, 1),
)


@pytest.mark.parametrize(
    ("name", "stable"),
    [
        ("/dev/sda2", "UUID=root-uuid"),
        ("/dev/hda2", "UUID=root-uuid"),
        ("/dev/nvme0n1p2", "UUID=root-uuid"),
        ("/dev/sda3", "PARTUUID=part-3"),
        ("/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1", "UUID=boot-uuid"),
        ("/dev/disk/by-id/scsi-36000c29f1a2b3c4d5e6f708192a3b4c5-part2", "UUID=root-uuid"),
        ("/dev/sdb1", None),
        ("/dev/sda", None),
        ("/dev/mapper/vg-root", None),
        ("/dev/disk/by-uuid/root-uuid", None),
        ("UUID=root-uuid", None),
        ("LABEL=data", None),
    ],
)
def test_a_name_by_controller_becomes_one_by_content(name: str, stable: str | None) -> None:
    assert ONE_DISK.stable(name) == stable


def test_two_disks_are_told_apart() -> None:
    assert TWO_DISKS.stable("/dev/sda1") == "PARTUUID=part-a", "a UUID that two filesystems have is no name"
    assert TWO_DISKS.stable("/dev/sdb2") == "UUID=data"
    assert TWO_DISKS.stable("/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part2") == "UUID=data"
    assert TWO_DISKS.stable("/dev/disk/by-id/wwn-0x6000c29aabb-part1") is None, "of which disk?"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "\tlinux /vmlinuz root=/dev/sda2 ro quiet resume=/dev/sda3",
            "\tlinux /vmlinuz root=UUID=root-uuid ro quiet resume=PARTUUID=part-3",
        ),
        ('GRUB_CMDLINE_LINUX="resume=/dev/sda2"', 'GRUB_CMDLINE_LINUX="resume=UUID=root-uuid"'),
        ("RESUME=/dev/sda2\n", "RESUME=UUID=root-uuid\n"),
        ("root=/dev/mapper/vg-root rd.lvm.lv=vg/root", "root=/dev/mapper/vg-root rd.lvm.lv=vg/root"),
        ("nfsroot=/dev/sda2 subroot=/dev/sda2", "nfsroot=/dev/sda2 subroot=/dev/sda2"),
        ("set root='hd0,msdos1'", "set root='hd0,msdos1'"),
    ],
)
def test_only_the_devices_of_arguments_change(before: str, after: str) -> None:
    assert stable_arguments(before, ONE_DISK) == after
    assert stable_arguments(after, ONE_DISK) == after


def test_a_root_that_is_on_no_disk_is_found() -> None:
    assert unresolved_root("linux /v root=/dev/sdc1", ONE_DISK) == "/dev/sdc1"
    assert unresolved_root("linux /v root=/dev/sda2 resume=/dev/sdc1", ONE_DISK) == ""
    assert unresolved_root("linux /v root=/dev/vg/root", ONE_DISK) == ""


def test_fstab_keeps_all_else_byte_for_byte() -> None:
    before = (
        "# /dev/sda1 was here\n\n  /dev/sda2\t/ ext4  defaults 0 1\n"
        "UUID=x /home xfs defaults 0 2\n/dev/vg/data /srv xfs defaults 0 0\n"
        "/dev/sdz1 /gone ext4 nofail 0 0\n/dev/fd0 /media/floppy auto noauto 0 0\n"
        ".host:/ /mnt/hgfs vmhgfs defaults 0 0\n/dev/sda1 /boot ext4 defaults 0 2"
    )
    after, unknown = stable_fstab(before, ONE_DISK)
    assert after == (
        "# /dev/sda1 was here\n\n  UUID=root-uuid\t/ ext4  defaults 0 1\n"
        "UUID=x /home xfs defaults 0 2\n/dev/vg/data /srv xfs defaults 0 0\n"
        "/dev/sdz1 /gone ext4 nofail 0 0\n# /dev/fd0 /media/floppy auto noauto 0 0\n"
        "# .host:/ /mnt/hgfs vmhgfs defaults 0 0\nUUID=boot-uuid /boot ext4 defaults 0 2"
    )
    assert unknown == ["/dev/sdz1"]
    assert stable_fstab(after, ONE_DISK)[0] == after


def test_crypttab_names_its_device_in_the_second_field() -> None:
    after, unknown = stable_crypttab("data /dev/sda2 none luks\nswap /dev/sda3 /dev/urandom swap\n", ONE_DISK)
    assert after == "data UUID=root-uuid none luks\nswap PARTUUID=part-3 /dev/urandom swap\n"
    assert unknown == []


def test_grub_goes_by_uuid_from_its_next_update_on() -> None:
    assert by_uuid("A=1\nGRUB_DISABLE_LINUX_UUID=true\n") == "A=1\nGRUB_DISABLE_LINUX_UUID=false\n"
    assert by_uuid('export GRUB_DISABLE_LINUX_UUID="true"\n') == 'export GRUB_DISABLE_LINUX_UUID="false"\n'
    assert by_uuid("#GRUB_DISABLE_LINUX_UUID=true\n") == "#GRUB_DISABLE_LINUX_UUID=true\n"


def test_device_map_names_virtios_disks() -> None:
    assert device_map("(hd0)\t/dev/sda\n(hd1) /dev/sdb\n") == "(hd0)\t/dev/vda\n(hd1) /dev/vdb\n"
    assert device_map("(hd0)\t/dev/disk/by-id/x\n") == "(hd0)\t/dev/disk/by-id/x\n"


def test_grubs_environment_stays_as_long_as_it_was() -> None:
    before = "# GRUB Environment Block\nkernelopts=root=/dev/sda2 ro\n".ljust(1024, "#")
    after = environment_block(before, stable_arguments(before, ONE_DISK))
    assert len(after) == 1024
    assert after.startswith("# GRUB Environment Block\nkernelopts=root=UUID=root-uuid ro\n###")
    assert environment_block(before, before) == before
    full = "kernelopts=root=/dev/sda2\n".ljust(1023, "x") + "\n"
    with pytest.raises(StepFailed, match="room"):
        environment_block(full, stable_arguments(full, ONE_DISK))
