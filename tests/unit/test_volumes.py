"""Every name that a guest may have for its volumes and arrays."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import guestfs
import pytest

from hyperctl.activities.convert.devices import BlockDevice, DiskPlace, StableNames
from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.mounts import KnownDevices, wanted_mounts
from hyperctl.activities.convert.volumes import (
    encrypted_names,
    known_devices,
    names_of_arrays,
    names_of_partitions,
)
from tests.unit.tree import Tree, tree

LUKS = "5f0c1d2b-7a3e-4f68-9b0d-1c2e3f40510f"
MAPPED = f"/dev/mapper/luks-{LUKS}"
NAMES = StableNames({"/dev/sda1": BlockDevice(), "/dev/sdb1": BlockDevice()}, (DiskPlace(0), DiskPlace(1)))
TAGS = {("UUID", "1b2c-3d4e"): "/dev/sda1", ("UUID", LUKS): "/dev/sdb1"}


class Volumes(Tree):
    """A group of two volumes and an array, beside a tree of files: in libguestfs' words."""

    def lvs(self) -> list[str]:
        return ["/dev/vg-0/root", "/dev/vg-0/var"]

    def vgs_full(self) -> list[dict[str, str]]:
        return [
            {"vg_name": "other", "vg_uuid": "zzzzzz-zzzz"},
            {"vg_name": "vg-0", "vg_uuid": "abcdef-0123-4567"},
        ]

    def lvuuid(self, volume: str) -> str:
        return {"/dev/vg-0/root": "AAAAAA-rrrr", "/dev/vg-0/var": "BBBBBB-vvvv"}[volume]

    def list_md_devices(self) -> list[str]:
        return ["/dev/md127"]

    def md_detail(self, array: str) -> dict[str, str]:
        return {"level": "raid1", "uuid": "1a2b3c4d:00000000:00000000:00000003", "name": "web:0"}


def known(root: Path, fstab: str, files: Mapping[str, str]) -> KnownDevices:
    tree(root, files)
    guest = cast(guestfs.GuestFS, Volumes(root))
    return known_devices(
        guest,
        GuestFiles(guest),
        wanted_mounts(fstab),
        "/dev/vg-0/root",
        names=NAMES,
        tags=TAGS,
        opened={"/dev/sdb1": MAPPED},
    )


@pytest.mark.parametrize(
    ("source", "device"),
    [
        ("/dev/vg-0/var", "/dev/vg-0/var"),
        ("/dev/mapper/vg--0-var", "/dev/vg-0/var"),
        ("/dev/disk/by-id/dm-name-vg--0-var", "/dev/vg-0/var"),
        ("/dev/disk/by-id/dm-uuid-LVM-abcdef01234567BBBBBBvvvv", "/dev/vg-0/var"),
        ("/dev/disk/by-id/dm-uuid-LVM-abcdef01234567CCCCCCvvvv", None),
        ("/dev/md127", "/dev/md127"),
        ("/dev/md0", "/dev/md127"),
        ("/dev/md/0", "/dev/md127"),
        ("/dev/md1", None),
        ("/dev/disk/by-id/md-uuid-1a2b3c4d:00000000:00000000:00000003", "/dev/md127"),
        ("/dev/disk/by-id/md-name-web:0", "/dev/md127"),
        ("/dev/mapper/data", MAPPED),
        ("/dev/disk/by-id/dm-name-data", MAPPED),
        (f"/dev/mapper/luks-{LUKS}", MAPPED),
        ("/dev/mapper/other", None),
    ],
)
def test_a_source_of_fstab_is_found(tmp_path: Path, source: str, device: str | None) -> None:
    fstab = f"/dev/mapper/vg--0-root / ext4 defaults 0 1\n{source} /var ext4 defaults 0 2\n"
    crypttab = {"/etc/crypttab": f"# by UUID\ndata UUID={LUKS} none luks\n"}
    assert known(tmp_path, fstab, crypttab).device(source) == device


def test_what_fstab_calls_the_root_is_the_root(tmp_path: Path) -> None:
    """A name that only the kernel's arguments give, as mkinitcpio's `cryptdevice=UUID=...:system`."""
    fstab = "/dev/mapper/system / btrfs subvol=@ 0 0\n/dev/mapper/system /var btrfs subvol=@var 0 0\n"
    assert known(tmp_path, fstab, {}).device("/dev/mapper/system") == "/dev/vg-0/root"
    assert known(tmp_path, fstab, {}).device("/dev/mapper/data") is None
    assert known(tmp_path, "/dev/sdb1 / ext4\n", {}).device("/dev/sdb1") == "/dev/sdb1"


def test_an_encrypted_volume_is_found_by_any_name_of_its_device() -> None:
    others = {"/dev/mapper/vg--0-srv": "/dev/vg-0/srv", "/dev/md0": "/dev/md127"}
    crypttab = (
        "# a comment\none /dev/disk/by-uuid/1b2c-3d4e none luks\ntwo /dev/sdb1 none\n"
        "three /dev/mapper/vg--0-srv\n"
        "four /dev/md0 none\nfive /dev/sdz9 none\n"
    )
    opened = {"/dev/sda1": "a", "/dev/sdb1": "b", "/dev/vg-0/srv": "c", "/dev/md127": "d"}
    found = encrypted_names(crypttab, KnownDevices(NAMES, TAGS, others), opened)
    by_crypttab = {"one": "a", "two": "b", "three": "c", "four": "d"}
    assert found == {**by_crypttab, **dict(zip("abcd", "abcd", strict=True))}


def test_mdadms_configuration_wins_over_the_names_in_arrays() -> None:
    details = {
        "/dev/md126": {"uuid": "A:1", "name": "(web):0"},
        "/dev/md127": {"uuid": "b:2", "name": "web:1"},
    }
    configuration = (
        "ARRAY /dev/md1 metadata=1.2 UUID=a:1\n# ARRAY /dev/md9 UUID=a:1\narray /dev/md0 UUID=B:2\n"
    )
    found = names_of_arrays(details, configuration)
    assert (found["/dev/md1"], found["/dev/md0"]) == ("/dev/md126", "/dev/md127")
    assert (found["/dev/md/0"], found["/dev/md/1"]) == ("/dev/md126", "/dev/md127")
    assert "/dev/md9" not in found
    assert found["/dev/disk/by-id/md-name-_web_:0"] == "/dev/md126"


def test_partitions_of_an_array_have_its_names() -> None:
    arrays = {
        "/dev/md0": "/dev/md127",
        "/dev/md/data": "/dev/md127",
        "/dev/disk/by-id/md-uuid-1": "/dev/md127",
    }
    assert names_of_partitions(arrays, ["/dev/sda1", "/dev/md127", "/dev/md127p2", "/dev/md1270p1"]) == {
        "/dev/md0p2": "/dev/md127p2",
        "/dev/md/data2": "/dev/md127p2",
        "/dev/disk/by-id/md-uuid-1-part2": "/dev/md127p2",
    }


def test_an_array_of_a_very_long_name_is_read_at_once() -> None:
    began = time.monotonic()
    assert names_of_arrays({}, "ARRAY " + "a" * (1 << 20)) == {}
    assert time.monotonic() - began < 20, "quadratic, it takes hours"
