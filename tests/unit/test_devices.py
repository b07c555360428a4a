"""Names of devices that stay true, and the texts that name them."""

import pytest

from hyperctl.activities.convert.devices import BlockDevice, DiskPlace, StableNames
from hyperctl.activities.convert.linux.arguments import has_known_root, stable_arguments, unresolved_root
from hyperctl.activities.convert.linux.bootloader import by_uuid, device_map, installed_devices
from hyperctl.activities.convert.linux.fstab import (
    names_vmwares_disk,
    stable_crypttab,
    stable_fstab,
)
from hyperctl.activities.convert.linux.grub_environment import environment_block
from hyperctl.activities.convert.refusal import StepFailed

ONE_DISK = StableNames(
    {
        "/dev/sda": BlockDevice(),
        "/dev/sda1": BlockDevice("boot-uuid", "part-1"),
        "/dev/sda2": BlockDevice("root-uuid", "part-2"),
        "/dev/sda3": BlockDevice("", "part-3"),
    },
    places=[DiskPlace(0, "pvscsi")],
    tags={("LABEL", "archive"), ("UUID", "1234567890abcdef"), ("LABEL", "two words")},
)
TWO_DISKS = StableNames(
    {
        "/dev/sda1": BlockDevice("same", "part-a"),
        "/dev/sdb1": BlockDevice("same", "part-b"),
        "/dev/sdb2": BlockDevice("data", "part-c"),
    },
    places=[DiskPlace(0, "pvscsi"), DiskPlace(1, "pvscsi")],
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


PLACED = StableNames(
    {
        "/dev/sda1": BlockDevice("a", "pa"),
        "/dev/sdb1": BlockDevice("b", "pb"),
        "/dev/sdc1": BlockDevice("c", "pc"),
        "/dev/sdd1": BlockDevice("d", "pd"),
    },
    places=[DiskPlace(0, "pvscsi", 0), DiskPlace(0, "pvscsi", 1), DiskPlace(1, "ahci"), DiskPlace(0, "nvme")],
)


@pytest.mark.parametrize(
    ("path", "stable"),
    [
        ("pci-0000:03:00.0-scsi-0:0:0:0-part1", "UUID=a"),
        ("pci-0000:0b:00.0-scsi-0:0:0:0-part1", "UUID=b"),
        ("pci-0000:02:05.0-ata-2-part1", "UUID=c"),
        ("pci-0000:02:05.0-ata-2.0-part1", "UUID=c"),
        ("pci-0000:13:00.0-nvme-1-part1", "UUID=d"),
        ("pci-0000:03:00.0-scsi-0:0:9:0-part1", None),
        ("pci-0000:03:00.0-sas-0x5000c29aabbccdd0-lun-0-part1", None),
    ],
)
def test_a_place_on_a_controller_is_a_disk(path: str, stable: str | None) -> None:
    name = f"/dev/disk/by-path/{path}"
    assert PLACED.is_unstable(name)
    assert PLACED.stable(name) == stable


def test_a_disk_of_another_kind_of_name() -> None:
    sas = StableNames({"/dev/sda1": BlockDevice("a", "pa")}, [DiskPlace(0, "lsisas")])
    assert sas.stable("/dev/disk/by-path/pci-0000:03:00.0-sas-phy0-lun-0-part1") == "UUID=a"
    assert sas.stable("/dev/disk/by-path/pci-0000:03:00.0-sas-phy1-lun-0-part1") is None
    assert sas.stable("/dev/disk/by-path/pci-0000:03:00.0-sas-0x5000c29aabbccdd0-lun-0-part1") == "UUID=a"
    assert ONE_DISK.device("/dev/hda") is None, "that can only be a drive for CDs"
    many = StableNames({"/dev/sdaa1": BlockDevice("z", "pz")})
    assert many.stable("/dev/sdaa1") == "UUID=z"


def test_a_filesystem_on_several_disks_is_known_by_the_uuid_that_they_share() -> None:
    names = StableNames({f"/dev/sd{one}1": BlockDevice("same", f"p{one}", "btrfs") for one in "ab"})
    assert names.stable("/dev/sda1") == "UUID=same"
    assert names.link("/dev/sdb1") == "/dev/disk/by-partuuid/pb"
    assert TWO_DISKS.link("/dev/sdb2") == "/dev/disk/by-uuid/data"
    assert TWO_DISKS.link("/dev/sdz1") is None


def test_two_disks_are_told_apart() -> None:
    assert TWO_DISKS.stable("/dev/sda1") == "PARTUUID=part-a", "a UUID that two filesystems have is no name"
    assert TWO_DISKS.stable("/dev/sdb2") == "UUID=data"
    assert TWO_DISKS.stable("/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part2") == "UUID=data"
    assert TWO_DISKS.stable("/dev/disk/by-id/wwn-0x6000c29aabb-part1") is None, "of which disk?"


@pytest.mark.parametrize(
    ("name", "stable"),
    [
        ("disk/by-id/scsi-36000c29f1a2b3c4d5e6f708192a3b4c5-part1", "UUID=a"),
        ("disk/by-id/wwn-0x6000c29000112233445566778899aabb-part1", "UUID=b"),
        ("disk/by-id/scsi-SVMware_Virtual_disk_6000c29000112233445566778899aabb-part1", "UUID=b"),
        ("disk/by-id/scsi-36000c29f00000000000000000000000-part1", None),
        ("disk/by-id/dm-uuid-part1-mpath-36000c29000112233445566778899aabb", "UUID=b"),
        ("mapper/36000c29f1a2b3c4d5e6f708192a3b4c5p1", "UUID=a"),
        ("mapper/36000c29000112233445566778899aabb1", "UUID=b"),
        ("mapper/36000c29000112233445566778899aabb-part1", "UUID=b"),
        ("mapper/mpatha1", "UUID=a"),
        ("mapper/mpathap1", "UUID=a"),
        ("mapper/oracle2-part1", "UUID=b"),
        ("mapper/oracle2p1", "UUID=b"),
        ("mapper/oracle21", "PARTUUID=b-part"),
        ("mapper/mpathb1", None),
        ("mapper/vg-36000c29000112233445566778899aabb1", None),
    ],
)
def test_the_id_that_vmware_has_for_a_disk_tells_several_apart(name: str, stable: str | None) -> None:
    root, data = "6000c29f1a2b3c4d5e6f708192a3b4c5", "6000c29000112233445566778899aabb"
    places = [DiskPlace(0, "pvscsi", uuid=root), DiskPlace(1, "pvscsi", uuid=data)]
    devices = {"/dev/sda1": BlockDevice("a"), "/dev/sdb1": BlockDevice("b")}
    multipath = {"mpatha": f"3{root}", "oracle2": f"3{data}", "oracle21": f"3{data}"}
    names = StableNames({**devices, "/dev/sdb": BlockDevice("", "b-part")}, places, multipath=multipath)
    assert names.stable(f"/dev/{name}") == stable


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
        ("cryptdevice=/dev/sda3:root boot=/dev/sda1", "cryptdevice=PARTUUID=part-3:root boot=UUID=boot-uuid"),
        ("cryptkey=/dev/sda1:ext4:/key rw", "cryptkey=UUID=boot-uuid:ext4:/key rw"),
        (
            "resume=/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part2",
            "resume=UUID=root-uuid",
        ),
        ("set rootpartition=/dev/sda2\n", "set rootpartition=UUID=root-uuid\n"),
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


def test_a_stale_entry_beside_a_good_one_is_told_from_no_good_one() -> None:
    assert has_known_root("linux /a root=/dev/sdc1\nlinux /b root=/dev/sda2", ONE_DISK)
    assert has_known_root("linux /a root=/dev/sdc1\nlinux /b root=UUID=x", ONE_DISK)
    assert not has_known_root("linux /a root=/dev/sdc1\nlinux /b quiet", ONE_DISK)


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


def test_fstab_lines_of_every_kind() -> None:
    before = (
        "# a comment\u2028/dev/sda2 / ext4 in it\n"
        "/dev/sda2\t/my\\040data\text4\tjournal_path=/dev/sda1,noatime\t0\t2\r\n"
        "LABEL=my\\040label /data ext4 defaults 0 2\n/srv/a /srv/b none bind 0 0\n"
        "/swapfile none swap sw 0 0\n"
        "/dev/fd0u1440 /media/floppy vfat noauto 0 0\nvmhgfs-fuse /mnt/hgfs fuse defaults 0 0\n"
        "/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\nnas.host:/export /mnt nfs defaults 0 0\n"
    )
    after, unknown = stable_fstab(before, ONE_DISK)
    assert after == (
        "# a comment\u2028/dev/sda2 / ext4 in it\n"
        "UUID=root-uuid\t/my\\040data\text4\tjournal_path=/dev/disk/by-uuid/boot-uuid,noatime\t0\t2\r\n"
        "LABEL=my\\040label /data ext4 defaults 0 2\n/srv/a /srv/b none bind 0 0\n"
        "/swapfile none swap sw 0 0\n"
        "# /dev/fd0u1440 /media/floppy vfat noauto 0 0\n# vmhgfs-fuse /mnt/hgfs fuse defaults 0 0\n"
        "/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\nnas.host:/export /mnt nfs defaults 0 0\n"
    )
    assert unknown == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/dev/sr0 /repo iso9660 ro 0 0", "/dev/sr0 /repo iso9660 ro,nofail 0 0"),
        ("/dev/cdrom\t/repo\tauto\tdefaults\t0 0\n", "/dev/cdrom\t/repo\tauto\tdefaults,nofail\t0 0\n"),
        ("LABEL=OL-8 /repo udf,iso9660 ro\r\n", "LABEL=OL-8 /repo udf,iso9660 ro,nofail\r\n"),
        ("/dev/sr0 /repo iso9660\n", "/dev/sr0 /repo iso9660 defaults,nofail\n"),
        ("/dev/sr0 /repo iso9660 # c\n", "/dev/sr0 /repo iso9660 defaults,nofail # c\n"),
        ("/dev/dvdrw1 /repo auto ro # c\n", "/dev/dvdrw1 /repo auto ro,nofail # c\n"),
        ("/dev/scd10 /repo iso9660,udf ro\n", "/dev/scd10 /repo iso9660,udf ro,nofail\n"),
        ("LABEL=DVD\\0401 /repo udf ro\n", "LABEL=DVD\\0401 /repo udf ro,nofail\n"),
        ("UUID=ABCDEF0123456789 /repo udf\n", "UUID=ABCDEF0123456789 /repo udf defaults,nofail\n"),
        ("/dev/disk/by-label/DVD /repo udf ro\n", "/dev/disk/by-label/DVD /repo udf ro,nofail\n"),
        ("/dev/disk/by-label/OL-8 /repo iso9660 ro\n", "/dev/disk/by-label/OL-8 /repo iso9660 ro,nofail\n"),
        ("LABEL=archive /data udf rw\n", ""),
        ("LABEL=two\\040words /data udf rw\n", ""),
        ("/dev/disk/by-label/two\\x20words /data udf rw\n", ""),
        ("UUID=1234567890ABCDEF /data udf rw\n", ""),
        ("/dev/sdb1 /data udf rw\n", ""),
        ("/dev/cdrvg/lv /var/cdr ext4 defaults\n", ""),
        ("/dev/cdrvg/lv /var/cdr auto defaults\n", ""),
        ("/dev/dvdstore/lv /srv auto defaults\n", ""),
        ("/dev/cdrom /srv ext4 defaults\n", ""),
        ("/dev/hdb /data ext3\n", ""),
        ("UUID=1234567890abcdef /data udf defaults 0 0\n", ""),
        ("UUID=data-uuid /data auto defaults 0 0\n", ""),
        ("/dev/sr0 /repo iso9660 noauto 0 0\n", ""),
        ("/dev/sr0 /repo iso9660 ro,nofail 0 0\n", ""),
        ("/srv/ol8.iso /repo iso9660 ro,loop 0 0\n", ""),
        ("UUID=data-uuid /srv ext4 defaults 0 0\n", ""),
    ],
)
def test_no_boot_waits_for_a_cd_that_vmware_had_in_its_drive(before: str, after: str) -> None:
    assert stable_fstab(before, ONE_DISK)[0] == (after or before)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('KERNEL=="sd?1", RESULT=="36000c29a", NAME="asm"\n', 'KERNEL=="sd?'),
        ('SUBSYSTEM=="block", ENV{ID_SERIAL}=="36000c29f1a", SYMLINK+="oracle"\n', "36000c29f1a"),
        ("ext4 /dev/sdb1\n", "/dev/sdb"),
        ("d=/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0\n", "/dev/disk/by-path/"),
        ("ExecStart=/sbin/x /dev/nvme0n1\n", "/dev/nvme0"),
        ('# KERNEL=="sda"\nSUBSYSTEM=="net", NAME="sda"\n', ""),
    ],
)
def test_what_names_vmwares_disks_for_a_purpose_of_its_own_is_noticed(text: str, name: str) -> None:
    assert names_vmwares_disk(text) == name


def test_crypttab_names_its_device_in_the_second_field() -> None:
    after, unknown = stable_crypttab("data /dev/sda2 none luks\nswap /dev/sda3 /dev/urandom swap\n", ONE_DISK)
    assert after == "data UUID=root-uuid none luks\nswap PARTUUID=part-3 /dev/urandom swap\n"
    assert unknown == []


def test_grub_goes_by_uuid_from_its_next_update_on() -> None:
    assert by_uuid("A=1\nGRUB_DISABLE_LINUX_UUID=true\n") == "A=1\nGRUB_DISABLE_LINUX_UUID=false\n"
    assert by_uuid('export GRUB_DISABLE_LINUX_UUID="true"\n') == 'export GRUB_DISABLE_LINUX_UUID="false"\n'
    assert by_uuid("#GRUB_DISABLE_LINUX_UUID=true\n") == "#GRUB_DISABLE_LINUX_UUID=true\n"


def test_device_map_names_virtios_disks() -> None:
    assert device_map("(hd0)\t/dev/sda\n(hd1) /dev/sdb\n", ONE_DISK) == "(hd0)\t/dev/vda\n(hd1) /dev/sdb\n"
    by_id = "(hd0)\t/dev/disk/by-id/scsi-36000c29f1a2b3c4d5e6f708192a3b4c5\n(fd0) /dev/fd0\n"
    assert device_map(by_id, ONE_DISK) == "(hd0)\t/dev/vda\n(fd0) /dev/fd0\n"


def test_debians_grub_finds_its_disk_at_its_next_update() -> None:
    answers = (
        "Name: grub-pc/install_devices\nTemplate: grub-pc/install_devices\n"
        "Value: /dev/disk/by-id/scsi-36000c29f1a2b3c4d5e6f708192a3b4c5, /dev/sda, /dev/sdq\n"
        "Owners: grub-pc\n\n"
        "Name: other/disk\nValue: /dev/sda\n\n"
    )
    after = answers.replace(
        "/dev/disk/by-id/scsi-36000c29f1a2b3c4d5e6f708192a3b4c5, /dev/sda,", "/dev/vda, /dev/vda,"
    )
    assert installed_devices(answers, ONE_DISK) == after
    assert installed_devices(after, ONE_DISK) == after
    empty = "Name: grub-pc/install_devices\nOwners: grub-pc\n\nName: other/disk\nValue: /dev/sda\n"
    assert installed_devices(empty, ONE_DISK) == empty


def test_grubs_environment_stays_as_long_as_it_was() -> None:
    before = "# GRUB Environment Block\nkernelopts=root=/dev/sda2 ro\n".ljust(1024, "#")
    after = environment_block(before, stable_arguments(before, ONE_DISK))
    assert len(after) == 1024
    assert after.startswith("# GRUB Environment Block\nkernelopts=root=UUID=root-uuid ro\n###")
    assert environment_block(before, before) == before
    full = "kernelopts=root=/dev/sda2\n".ljust(1023, "x") + "\n"
    with pytest.raises(StepFailed, match="room"):
        environment_block(full, stable_arguments(full, ONE_DISK))


MIXED = StableNames(
    {f"/dev/sd{letter}1": BlockDevice(f"of-{letter}") for letter in "abcde"},
    places=[
        DiskPlace(0, "nvme", 0),
        DiskPlace(0, "pvscsi", 0),
        DiskPlace(1, "nvme", 0),
        DiskPlace(0, "nvme", 1),
        DiskPlace(1, "pvscsi", 0),
    ],
)


@pytest.mark.parametrize(
    ("name", "stable"),
    [
        ("/dev/nvme0n1p1", "UUID=of-a"),
        ("/dev/nvme0n2p1", "UUID=of-c"),
        ("/dev/nvme1n1p1", "UUID=of-d"),
        ("/dev/nvme1n2p1", None),
        ("/dev/nvme2n1p1", None),
        ("/dev/sda1", "UUID=of-b"),
        ("/dev/sdb1", "UUID=of-e"),
        ("/dev/sdc1", None),
    ],
)
def test_disks_of_nvme_have_no_letters_and_others_no_namespaces(name: str, stable: str | None) -> None:
    assert MIXED.stable(name) == stable


def test_there_are_disks_beyond_the_alphabet() -> None:
    names = StableNames({"/dev/sdz1": BlockDevice("z"), "/dev/sdaa1": BlockDevice("aa")})
    assert names.stable("/dev/sdaa1") == "UUID=aa"


@pytest.mark.parametrize(
    ("key", "stable"),
    [
        ("/dev/sda1", "/dev/disk/by-uuid/boot-uuid"),
        ("/dev/sda1:/keys/root.key:30", "/dev/disk/by-uuid/boot-uuid:/keys/root.key:30"),
        ("/root.key:/dev/sda1", "/root.key:/dev/disk/by-uuid/boot-uuid"),
        (
            "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1:/a.key",
            "/dev/disk/by-uuid/boot-uuid:/a.key",
        ),
        ("/dev/urandom", "/dev/urandom"),
        ("none", "none"),
        ("/etc/keys/dev/sda1", "/etc/keys/dev/sda1"),
    ],
)
def test_a_key_on_another_disk_is_found(key: str, stable: str) -> None:
    before = f"# /dev/sda1\nroot UUID=1-2 {key} luks,keyscript=/lib/cryptsetup/scripts/passdev\n"
    assert stable_crypttab(before, ONE_DISK) == (before.replace(f" {key} ", f" {stable} "), [])


def test_a_header_on_another_disk_is_found_and_a_key_on_none_is_told() -> None:
    before = "root UUID=1-2 none luks,header=/dev/sda1\nsafe UUID=3-4 /dev/sdq1:/key luks\n"
    after, unknown = stable_crypttab(before, ONE_DISK)
    assert after == before.replace("/dev/sda1", "/dev/disk/by-uuid/boot-uuid")
    assert unknown == ["/dev/sdq1"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "cryptopts=target=root,source=/dev/sda2,lvm=vg",
            "cryptopts=target=root,source=UUID=root-uuid,lvm=vg",
        ),
        ("rootflags=noatime,logdev=/dev/sda1 ro", "rootflags=noatime,logdev=/dev/disk/by-uuid/boot-uuid ro"),
        ("rootflags=logdev=/dev/sda1", "rootflags=logdev=/dev/disk/by-uuid/boot-uuid"),
    ],
)
def test_arguments_name_other_disks_than_the_root(before: str, after: str) -> None:
    assert stable_arguments(before, ONE_DISK) == after
