"""Units and maps that name disks: what boots and mounts by them goes on, and the rest is said."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperctl.activities.convert.linux.fstab import stable_fstab, stable_map, update_fstab
from hyperctl.activities.convert.linux.units import FOLDER, stable_unit
from hyperctl.activities.convert.work import Work
from tests.unit.test_devices import ONE_DISK
from tests.unit.test_layouts import inspected

BY_PATH = "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part1"
BY_PATH_UNIT = r"dev-disk-by\x2dpath-pci\x2d0000:03:00.0\x2dscsi\x2d0:0:1:0\x2dpart1"
DATA, DATA_UNIT = "/dev/disk/by-uuid/data-uuid", r"dev-disk-by\x2duuid-data\x2duuid"
ROOT_UNIT = r"dev-disk-by\x2duuid-root\x2duuid"


def test_a_unit_that_mounts_names_its_device_by_a_path() -> None:
    unit = "[Mount]\nWhat=/dev/sda2\nWhere=/srv\n"
    assert stable_unit(unit, ONE_DISK) == (unit.replace("/dev/sda2", "/dev/disk/by-uuid/root-uuid"), [])
    assert stable_unit(unit.replace("sda2", "sdz2"), ONE_DISK)[1] == ["/dev/sdz2"]
    other = "[Mount]\nWhat=server:/export\n"
    assert stable_unit(other, ONE_DISK) == (other, [])


def test_a_unit_waits_for_the_device_that_comes() -> None:
    unit = (
        "[Unit]\n# After=dev-sda2.device\nDescription=of dev-sda2.device\nBindsTo=dev-sda2.device\n"
        "After=network.target \\\n  dev-sda2.device dev-sdz9.device\nRequiresMountsFor=/srv/dev-sda2.device\n"
    )
    after = unit.replace("BindsTo=dev-sda2", f"BindsTo={ROOT_UNIT}").replace("  dev-sda2", f"  {ROOT_UNIT}")
    assert stable_unit(unit, ONE_DISK) == (after, [])
    assert stable_unit(after, ONE_DISK) == (after, [])


@pytest.mark.parametrize(("device", "unit"), [("/dev/sdb1", "dev-sdb1"), (BY_PATH, BY_PATH_UNIT)])
def test_a_swap_is_called_as_its_device_is_now(tmp_path: Path, device: str, unit: str) -> None:
    """systemd loads none whose name is not its device's."""
    files = {
        f"{FOLDER}/{unit}.swap": f"[Unit]\nBefore=x.service\n[Swap]\nWhat={device}\nPriority=5\n",
        f"{FOLDER}/{unit}.swap.d/priority.conf": "[Swap]\nPriority=7\n",
        f"{FOLDER}/x.service": f"[Unit]\nAfter={unit}.swap\nRequiresMountsFor=/srv\n",
        f"{FOLDER}/systemd-fsck@{unit}.service.d/slow.conf": "[Service]\nTimeoutSec=1h\n",
        f"{FOLDER}/srv-data.mount.d/device.conf": f"[Mount]\nWhat={device}\n",
    }
    (tmp_path / f"{FOLDER}/swap.target.wants".lstrip("/")).mkdir(parents=True)
    os.symlink(f"{FOLDER}/{unit}.swap", f"{tmp_path}{FOLDER}/swap.target.wants/{unit}.swap")
    guest, work = inspected(tmp_path, files), Work()
    update_fstab(guest, work)
    assert f"What={DATA}\nPriority=5\n" in (guest.files.text(f"{FOLDER}/{DATA_UNIT}.swap") or "")
    assert guest.files.exists(f"{FOLDER}/{DATA_UNIT}.swap.d/priority.conf")
    assert (
        guest.files.links_to(f"{FOLDER}/swap.target.wants/{DATA_UNIT}.swap") == f"{FOLDER}/{DATA_UNIT}.swap"
    )
    assert f"After={DATA_UNIT}.swap\n" in (guest.files.text(f"{FOLDER}/x.service") or "")
    assert guest.files.exists(f"{FOLDER}/systemd-fsck@{DATA_UNIT}.service.d/slow.conf")
    assert f"What={DATA}\n" in (guest.files.text(f"{FOLDER}/srv-data.mount.d/device.conf") or "")
    assert not guest.files.matching(f"{FOLDER}/*{unit.replace(chr(92), '?')}*", f"{FOLDER}/*/dev-sdb1*")
    assert work.warnings == []
    again = Work()
    update_fstab(guest, again)
    assert again.changed == []


def test_a_swap_of_a_disk_that_is_not_there_stays_and_is_said(tmp_path: Path) -> None:
    files = {f"{FOLDER}/dev-sdz1.swap": "[Swap]\nWhat=/dev/sdz1\n"}
    guest, work = inspected(tmp_path, files), Work()
    update_fstab(guest, work)
    assert guest.files.exists(f"{FOLDER}/dev-sdz1.swap")
    assert work.warnings == [f"{FOLDER}/dev-sdz1.swap: /dev/sdz1 is on none of the copied disks"]


def test_an_entry_of_fstab_waits_for_the_device_that_comes() -> None:
    line = (
        "UUID=1 /srv ext4 x-systemd.requires=dev-sda2.device,x-systemd.after=/dev/sda2,x-systemd.automount\n"
    )
    after = line.replace("dev-sda2.device", f"{ROOT_UNIT}.device").replace(
        "/dev/sda2", "/dev/disk/by-uuid/root-uuid"
    )
    assert stable_fstab(line, ONE_DISK) == (after, [])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("data -fstype=ext4,rw :/dev/sda2\n", "data -fstype=ext4,rw :/dev/disk/by-uuid/root-uuid\n"),
        ("data\t:/dev/sda2 # c\n", "data\t:/dev/disk/by-uuid/root-uuid # c\n"),
        ("# data :/dev/sda2\nhome nas:/export/&\ncd -fstype=iso9660,ro :/dev/cdrom\n", ""),
    ],
)
def test_a_map_of_autofs_mounts_the_same(before: str, after: str) -> None:
    assert stable_map(before, ONE_DISK) == (after or before, [])
    assert stable_map(before.replace("sda2", "sdz2"), ONE_DISK)[1] == (["/dev/sdz2"] if after else [])


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (f"{FOLDER}/backup.service", "[Service]\nExecStart=/sbin/dd if=/dev/sdb of=/b\n"),
        (f"{FOLDER}/x.service.d/a.conf", "[Service]\nIOReadBandwidthMax=/dev/sda 1M\n"),
        ("/etc/default/smartmontools", 'enable_smart="/dev/sda"\n'),
        ("/etc/hdparm.conf", "/dev/sda {\n\tapm = 127\n}\n"),
        ("/etc/systemd/zram-generator.conf", "[zram0]\nwriteback-device=/dev/sdb1\n"),
        ("/etc/smartd.conf", "/dev/sda -a\n"),
        ("/etc/multipath.conf", 'blacklist {\n  devnode "x"\n}\nmultipath /dev/sdb\n'),
    ],
)
def test_what_names_disks_for_a_purpose_of_its_own_is_said(tmp_path: Path, path: str, text: str) -> None:
    guest, work = inspected(tmp_path, {path: text}), Work()
    update_fstab(guest, work)
    assert guest.files.text(path) == text
    (warning,) = work.warnings
    assert warning.startswith(f"{path} names disks as VMware has them (/dev/sd")


MIB = 1 << 20


@pytest.mark.parametrize(
    ("read", "start", "repeated"),
    [
        (lambda text: stable_unit(text, ONE_DISK), "", "After=\n"),
        (lambda text: stable_unit(text, ONE_DISK), "After=", "dev-"),
        (lambda text: stable_unit(text, ONE_DISK), "After=", "dev-a."),
        (lambda text: stable_unit(text, ONE_DISK), "After=", "a@"),
        (lambda text: stable_unit(text, ONE_DISK), "After=", "\\x2d"),
        (lambda text: stable_map(text, ONE_DISK), "", " "),
        (lambda text: stable_map(text, ONE_DISK), "a", ":"),
        (lambda text: stable_map(text, ONE_DISK), "", "\n"),
    ],
)
def test_no_text_takes_hours(read: Callable[[str], object], start: str, repeated: str) -> None:
    text = start + repeated * (MIB // len(repeated))
    began = time.monotonic()
    read(text)
    assert time.monotonic() - began < 20, "quadratic, it takes hours"
