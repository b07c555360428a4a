"""LVM's filters and mdadm.conf: what names VMware's disks lets virtio's through too, all else stays."""

import time
from collections.abc import Callable

import pytest

from hyperctl.activities.convert.linux.storage import (
    arrays_on_any_disk,
    devices_by_name,
    filters_for,
    multipath_names,
)

VIRTIO = '"a|^/dev/vd[a-z]+[0-9]*$|"'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '\tglobal_filter = [ "a|^/dev/sd[a-z][0-9]*$|", "r|.*|" ]\n',
            f'\tglobal_filter = [ {VIRTIO}, "a|^/dev/sd[a-z][0-9]*$|", "r|.*|" ]\n',
        ),
        (
            "filter=['a#/dev/disk/by-path/pci.*#',\n  'r/.*/']",
            f"filter=[ {VIRTIO},'a#/dev/disk/by-path/pci.*#',\n  'r/.*/']",
        ),
        (  # of virtio's disks multipathd makes none
            'filter = [ "a|/dev/mapper/mpath.*|", "r|.*|" ]\n',
            f'filter = [ {VIRTIO}, "a|/dev/mapper/mpath.*|", "r|.*|" ]\n',
        ),
    ],
)
def test_a_filter_for_vmwares_disks_is_widened_once(before: str, after: str) -> None:
    assert filters_for(before) == after
    assert filters_for(after) == after


@pytest.mark.parametrize(
    "text",
    [
        '# filter = [ "a|/dev/sd.*|" ]\n',
        'filter = [ "a|.*|" ]\n',
        'filter = [ "r|/dev/sd.*|", "a|.*|" ]\n',
        'filter = [ "a|/dev/drbd.*|", "r|.*|" ]\n',
    ],
)
def test_other_filters_stay(text: str) -> None:
    assert filters_for(text) == text


def test_lvms_list_of_devices_goes_by_what_is_on_them() -> None:
    text = (
        "# LVM uses devices listed in this file.\n# a comment\nHASH=123\nPRODUCT_UUID=4213\nVERSION=1.1.5\n"
        "IDTYPE=sys_wwid IDNAME=naa.6000c29f1a2b DEVNAME=/dev/sda2 PVID=abc PART=2\n"
        "IDTYPE=md_uuid IDNAME=1:2:3:4 DEVNAME=/dev/md0 PVID=def\n"
    )
    after = (
        "# LVM uses devices listed in this file.\n# a comment\nVERSION=1.1.5\n"
        "IDTYPE=devname IDNAME=/dev/vda2 DEVNAME=/dev/vda2 PVID=abc PART=2\n"
        "IDTYPE=md_uuid IDNAME=1:2:3:4 DEVNAME=/dev/md0 PVID=def\n"
    )
    assert devices_by_name(text) == after
    assert devices_by_name(after) == after
    only_md = "HASH=1\nIDTYPE=md_uuid IDNAME=1:2:3:4 DEVNAME=/dev/md0 PVID=def\n"
    assert devices_by_name(only_md) == only_md


def test_lvm_finds_what_multipath_had() -> None:
    before = (
        "HASH=1\nVERSION=1.1.5\n"
        "IDTYPE=mpath_uuid IDNAME=mpath-36000c29a DEVNAME=/dev/mapper/mpatha2 PVID=abc PART=2\n"
        "IDTYPE=mpath_uuid IDNAME=mpath-36000c29b DEVNAME=/dev/mapper/mpathb PVID=def\n"
        "IDTYPE=crypt_uuid IDNAME=CRYPT-LUKS2-1 DEVNAME=/dev/mapper/luks-1 PVID=ghi\n"
    )
    after = (
        "VERSION=1.1.5\n"
        "IDTYPE=devname IDNAME=/dev/vda2 DEVNAME=/dev/vda2 PVID=abc PART=2\n"
        "IDTYPE=devname IDNAME=/dev/vdb DEVNAME=/dev/vdb PVID=def\n"
        "IDTYPE=crypt_uuid IDNAME=CRYPT-LUKS2-1 DEVNAME=/dev/mapper/luks-1 PVID=ghi\n"
    )
    assert devices_by_name(before) == after
    assert devices_by_name(after) == after


def test_multipaths_names_of_disks() -> None:
    wwid = "36000c29f1a2b3c4d5e6f708192a3b4c5"
    configuration = f"""
defaults {{ user_friendly_names yes }}
multipaths {{
    multipath {{
        wwid "{wwid}"
        alias oracle2
    }}
    multipath {{
        wwid {wwid[:-1]}6
        no_path_retry 5
    }}
}}
"""
    bindings = f"# Multipath bindings, Version : 1.0\nmpatha {wwid}\nmpathb 0QEMU_HARDDISK_1\n"
    assert multipath_names(configuration, bindings) == {"mpatha": wwid, "oracle2": wwid}


def test_mdadm_looks_on_all_disks() -> None:
    text = (
        "DEVICE /dev/sda* /dev/sdb*\n"
        "ARRAY /dev/md0 metadata=1.2 UUID=1:2:3:4 devices=/dev/sda1,/dev/sdb1\n"
        "ARRAY /dev/md1 UUID=5:6:7:8\n"
    )
    assert arrays_on_any_disk(text) == (
        "DEVICE partitions containers\n"
        "ARRAY /dev/md0 metadata=1.2 UUID=1:2:3:4\n"
        "ARRAY /dev/md1 UUID=5:6:7:8\n"
    )


def test_mdadms_lines_go_on() -> None:
    text = (
        "DEVICE /dev/sda1\n  /dev/sdb1\n# a comment\n"
        "ARRAY /dev/md/0 level=raid1 UUID=1:2:3:4 name=a:0\n   devices=/dev/sda1,/dev/sdb1\n"
        "ARRAY /dev/md/1 UUID=5:6:7:8\n   spares=1\n"
    )
    after = (
        "DEVICE partitions containers\n# a comment\n"
        "ARRAY /dev/md/0 level=raid1 UUID=1:2:3:4 name=a:0\n"
        "ARRAY /dev/md/1 UUID=5:6:7:8\n   spares=1\n"
    )
    assert arrays_on_any_disk(text) == after
    assert arrays_on_any_disk(after) == after


@pytest.mark.parametrize("text", ["DEVICE partitions\n", "#DEVICE /dev/sda\n"])
def test_an_mdadm_that_looks_everywhere_stays(text: str) -> None:
    assert arrays_on_any_disk(text) == text


MIB = 1 << 20


@pytest.mark.parametrize(
    ("read", "start", "repeated", "end"),
    [
        (lambda text: multipath_names(text, ""), "", "multipath{", ""),
        (lambda text: multipath_names(text, ""), "multipath {", "\n", "}"),
        (filters_for, "", "\n", ""),
        (filters_for, "", "filter=[\n", ""),
        (filters_for, "filter=[", '"a|x",', "]"),
        (arrays_on_any_disk, "DEVICE\n", "  a\n", ""),
        (arrays_on_any_disk, "ARRAY", " ", ""),
        (arrays_on_any_disk, " devices=", "/dev/sd", " x"),
    ],
)
def test_no_text_takes_hours(read: Callable[[str], object], start: str, repeated: str, end: str) -> None:
    text = start + repeated * (MIB // len(repeated)) + end
    began = time.monotonic()
    read(text)
    assert time.monotonic() - began < 20, "quadratic, it takes hours"
