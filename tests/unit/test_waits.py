"""What an initramfs waits for, and units that are named after devices."""

import shutil
import subprocess

import pytest

from hyperctl.activities.convert.devices import BlockDevice, DiskPlace, StableNames
from hyperctl.activities.convert.linux.cpio import Archive, Entry, read_archive, write_segment
from hyperctl.activities.convert.linux.unit_names import escaped, renamed_units, unescaped
from hyperctl.activities.convert.linux.waits import hook_for, is_hook, units_for
from tests.unit.test_kernels import FILE, added, usrmerged

NAMES = StableNames(
    {
        "/dev/sda1": BlockDevice("root-uuid", "part-1", "ext4"),
        "/dev/sda2": BlockDevice("pv-uuid", "part-2", "LVM2_member"),
        "/dev/sdb": BlockDevice("pv2-uuid", "", "LVM2_member"),
        "/dev/sdb1": BlockDevice(),
    },
    places=[DiskPlace(0, "pvscsi", 0, "6000c29a" * 4), DiskPlace(1, "pvscsi", 0, "6000c29b" * 4)],
)
BY_PATH = "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1"
BY_ID = f"/dev/disk/by-id/scsi-3{'6000c29b' * 4}"
LINK = 0o120777


def stable(name: str) -> str | None:
    return NAMES.waited_for(name, "vd")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (BY_PATH, "/dev/disk/by-uuid/root-uuid"),
        ("/dev/sda2", "/dev/disk/by-partuuid/part-2"),
        (BY_ID, "/dev/vdb"),
        ("/dev/disk/by-uuid/root-uuid", None),
        ("/dev/sdc", None),
    ],
)
def test_what_is_waited_for_comes(name: str, path: str | None) -> None:
    """udev makes no link by the UUID of a physical volume or of a member of an array."""
    assert stable(name) == path


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f'[ -e "{BY_PATH}" ]\n', '[ -e "/dev/disk/by-uuid/root-uuid" ]\n'),
        (
            f'warn "\\"{BY_PATH}\\" does not exist"\n',
            'warn "\\"/dev/disk/by-uuid/root-uuid\\" does not exist"\n',
        ),
        (f'[ -e "{BY_ID}" ] || exit 1\n', '[ -e "/dev/vdb" ] || exit 1\n'),
        ('[ -e "/dev/sda2" ]\n', '[ -e "/dev/disk/by-partuuid/part-2" ]\n'),
        ('[ -e "/dev/mapper/vg-root" ]; for d in /dev/sd*; do :; done; x=/dev/sdab1-x\n', ""),
        ('[ -e "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:5:0" ]\n', ""),
    ],
)
def test_dracuts_hooks(before: str, after: str) -> None:
    assert hook_for(before, stable) == (after or before)


def test_which_files_are_hooks() -> None:
    folder = "lib/dracut/hooks/initqueue/finished/"
    assert is_hook(f"usr/{folder}devexists-\\x2fdev\\x2fsda2.sh")
    assert is_hook("var/lib/dracut/hooks/emergency/80-\\x2fdev\\x2fsda2.sh")
    assert not is_hook("usr/lib/dracut/hooks/readme")
    assert not is_hook("usr/lib/dracut-lib.sh")


def waiting() -> Archive:
    unit, folder = f"{escaped(BY_PATH)}.device", "etc/systemd/system"
    return usrmerged(
        Entry(f"{folder}/initrd.target.wants", 0o40755),
        Entry(f"{folder}/initrd.target.wants/{unit}", LINK, f"../{unit}".encode()),
        Entry(f"{folder}/{unit}.d/timeout.conf", FILE, b"[Unit]\nJobTimeoutSec=0\n"),
        Entry(f"{folder}/initrd.target.wants/dev-mapper-vg\\x2droot.device", LINK, b"../x"),
        Entry(
            "usr/lib/dracut/hooks/initqueue/finished/devexists-a.sh", FILE, f'[ -e "{BY_PATH}" ]\n'.encode()
        ),
    )


def test_systemd_waits_for_what_comes_and_not_for_what_does_not() -> None:
    folder, old, new = "etc/systemd/system", escaped(BY_PATH), "dev-disk-by\\x2duuid-root\\x2duuid.device"
    made = {entry.name: (entry.mode, bytes(entry.data)) for entry in units_for(waiting(), stable)}
    assert made == {
        f"{folder}/initrd.target.wants/{new}": (LINK, f"../{new}".encode()),
        f"{folder}/{new}.d/timeout.conf": (FILE, b"[Unit]\nJobTimeoutSec=0\n"),
        f"{folder}/{old}.device": (LINK, b"/dev/null"),
    }
    after = Archive(waiting().entries | {entry.name: entry for entry in units_for(waiting(), stable)})
    assert units_for(after, stable) == []


def test_an_old_name_is_masked_where_the_new_one_is_waited_for_already() -> None:
    folder, new = "etc/systemd/system", "dev-disk-by\\x2duuid-root\\x2duuid.device"
    there = Entry(f"{folder}/initrd.target.wants/{new}", LINK, f"../{new}".encode())
    made = [entry.name for entry in units_for(Archive(waiting().entries | {there.name: there}), stable)]
    assert made == [f"{folder}/{escaped(BY_PATH)}.device", f"{folder}/{new}.d/timeout.conf"]


def test_an_initramfs_of_dracuts_gets_both() -> None:
    disk = "/dev/sda3"
    unit = f"{escaped(disk)}.device"
    archive = usrmerged(
        Entry(f"etc/systemd/system/initrd.target.wants/{unit}", LINK, f"../{unit}".encode()),
        Entry("usr/lib/dracut/hooks/initqueue/finished/devexists-a.sh", FILE, f'[ -e "{disk}" ]\n'.encode()),
    )
    found = added(archive, tool="dracut")
    hook = found["usr/lib/dracut/hooks/initqueue/finished/devexists-a.sh"]
    assert bytes(hook.data) == b'[ -e "/dev/disk/by-uuid/swap-uuid" ]\n'
    assert found[f"etc/systemd/system/{unit}"].is_link
    read = read_archive(write_segment(found.values()))
    assert read.entries[f"etc/systemd/system/{unit}"].data == b"/dev/null"


@pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="no systemd on this host")
@pytest.mark.parametrize("path", [BY_PATH, BY_ID, "/dev/sda1", "/dev/disk/by-label/a b_c\\x20.d", "/.a/.b"])
def test_names_are_escaped_as_systemd_does(path: str) -> None:
    argv = ["systemd-escape", "--path", path]
    said = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20).stdout.strip()
    assert escaped(path) == said
    assert unescaped(said) == path


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("After=dev-sda2.swap dev-sda1.device\n", "dev-disk-by\\x2dpartuuid-part\\x2d2.swap"),
        (f"BindsTo={escaped(BY_PATH)}.device\n", "BindsTo=dev-disk-by\\x2duuid-root\\x2duuid.device"),
        ("systemd-fsck@dev-sda1.service", "systemd-fsck@dev-disk-by\\x2duuid-root\\x2duuid.service"),
        ("dev-sda1.swap.d", "dev-disk-by\\x2duuid-root\\x2duuid.swap.d"),
    ],
)
def test_units_of_devices_get_the_devices_lasting_names(before: str, after: str) -> None:
    assert after in renamed_units(before, stable)


@pytest.mark.parametrize(
    "text",
    [
        "dev-mapper-vg\\x2droot.device",
        "mydev-sda1.device",
        "dev-sda1.mount",
        "dev-sdz9.swap",
        "a-dev-sda1.swap",
    ],
)
def test_other_units_keep_theirs(text: str) -> None:
    assert renamed_units(text, stable) == text
