"""What the sources in fstab mean."""

from pathlib import Path
from typing import cast

import guestfs
import pytest

from hyperctl.activities.convert.devices import BlockDevice, DiskPlace, StableNames
from hyperctl.activities.convert.encrypted import Encryption
from hyperctl.activities.convert.mounts import (
    KnownDevices,
    as_fstab,
    is_root_of,
    mount_all,
    wanted_mounts,
)
from hyperctl.activities.convert.refusal import Refused
from tests.unit.tree import Tree

KNOWN = KnownDevices(
    names=StableNames({"/dev/sda1": BlockDevice(), "/dev/sdb1": BlockDevice()}, (DiskPlace(0), DiskPlace(1))),
    tags={
        ("UUID", "1b2c-3d4e"): "/dev/sda1",
        ("LABEL", "Data"): "/dev/sdb1",
        ("PARTUUID", "ab-01"): "/dev/sda1",
        ("LABEL", "my data"): "/dev/md127",
    },
    others={"/dev/mapper/sda3_crypt": "/dev/mapper/luks-1", "/dev/vg-0/root": "/dev/vg-0/root"},
)


@pytest.mark.parametrize(
    ("source", "device"),
    [
        ("UUID=1B2C-3D4E", "/dev/sda1"),
        ('LABEL="Data"', "/dev/sdb1"),
        ("LABEL=data", None),
        ("PARTUUID=ab-01", "/dev/sda1"),
        ("/dev/disk/by-uuid/1B2C-3D4E", "/dev/sda1"),
        ("/dev/disk/by-label/Data", "/dev/sdb1"),
        ("/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part1", "/dev/sdb1"),
        ("/dev/sdb1", "/dev/sdb1"),
        ("/dev/sdc1", None),
        ("/dev/vg-0/root", "/dev/vg-0/root"),
        ("/dev/mapper/sda3_crypt", "/dev/mapper/luks-1"),
        ("/dev/mapper/other", None),
        ("LABEL=my data", "/dev/md127"),
        ("/dev/disk/by-label/my\\x20data", "/dev/md127"),
    ],
)
def test_a_source_is_found(source: str, device: str | None) -> None:
    assert KNOWN.device(source) == device


def test_mounts_are_made_from_the_root_down() -> None:
    wanted = wanted_mounts(
        "# a comment\n"
        "UUID=1 /home/my\\040data ext4 defaults 0 2\n"
        "UUID=2 / btrfs defaults,subvol=@ 0 0\n"
        "UUID=3 /home xfs defaults 0 0\n"
        "/srv/a /srv/b none bind 0 0\n"
        "UUID=4 none swap sw 0 0\n"
        "tmpfs /tmp tmpfs nosuid 0 0\n"
        "server:/export /mnt nfs defaults 0 0\n"
        "LABEL=my\\040data\t/data\\011tab\tauto\tdefaults 0 2\n"
        "/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\n"
        "/dev/sdb1 /media/usb auto user,noauto 0 0\n"
        "UUID=5 /boot auto noauto 0 0\n"
        ".host:/ /mnt/hgfs fuse.vmhgfs-fuse defaults 0 0\n"
        "pool/home /tank zfs defaults 0 0\n"
    )
    assert [one.source for one in wanted if one.place == "/data\ttab"] == ["LABEL=my data"]
    assert [(one.place, one.subvolume) for one in wanted] == [
        ("/", "subvol=@"),
        ("/home", ""),
        ("/boot", ""),
        ("/data\ttab", ""),
        ("/home/my data", ""),
    ]


@pytest.mark.parametrize(
    ("options", "subvolume", "booted"),
    [
        ("subvol=@", "@", True),
        ("subvol=/@", "@", True),
        ("subvol=@", "@snapshots/1", False),
        ("subvolid=256", "@", True),
        ("subvolid=257", "@", False),
        ("defaults", "", True),
        ("defaults", "@/.snapshots/2/snapshot", False),
    ],
)
def test_a_copy_of_the_root_is_told_from_the_root(options: str, subvolume: str, booted: bool) -> None:
    fstab = f"UUID=1-2 / btrfs {options} 0 0\nUUID=1-2 /home btrfs subvol=@home 0 0\n"
    assert is_root_of(fstab, subvolume, {"256": "@", "257": "@before"}) is booted


def test_a_filesystem_in_a_volume_that_no_key_opens_is_refused_with_the_way_out(tmp_path: Path) -> None:
    guest = cast(guestfs.GuestFS, Tree(tmp_path))
    wanted = wanted_mounts("/dev/mapper/vg-var /var ext4 defaults 0 2\n")
    with pytest.raises(Refused) as raised:
        mount_all(guest, "/dev/sda2", wanted, KNOWN, Encryption({}, ("/dev/sdb1",), 2))
    assert raised.value.message == (
        "the filesystem of /var (/dev/mapper/vg-var) is not found: /dev/sdb1 is encrypted with LUKS, "
        "and none of the worker's 2 keys opens it"
    )
    assert "HYPERCTL_DISK_KEYS_FILE" in raised.value.hint
    with pytest.raises(Refused, match="is on none of the disks by that name") as raised:
        mount_all(guest, "/dev/sda2", wanted, KNOWN, Encryption({}, ()))
    assert "name it by UUID" in raised.value.hint


def test_a_unit_of_systemds_is_an_entry() -> None:
    unit = "[Unit]\nAfter=a\n[Mount]\nWhat=/dev/sda1\nWhere=/boot\n#Type=xfs\n  Type = ext4 \n"
    (data, boot) = wanted_mounts(
        "UUID=old /boot ext4 defaults 0 2\n" + as_fstab(unit) + as_fstab("What=LABEL=my data\nWhere=/srv\n")
    )
    assert (boot.source, boot.place, boot.kind) == ("/dev/sda1", "/boot", "ext4")
    assert (data.source, data.place) == ("LABEL=my data", "/srv")
    assert as_fstab("[Mount]\nWhere=/srv\n") == ""
