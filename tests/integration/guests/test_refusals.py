"""What cannot be converted is refused by name, in a rehearsal in the same words, and left as it was.

Most are judged in one appliance; the last test has the way of a refusal from its process to who asked.
"""

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from hyperctl.activities.convert.activity import convert_guest
from hyperctl.activities.convert.disk_keys import read_disk_keys
from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.inspect import Inspected, inspect_guest
from hyperctl.activities.convert.linux.room import assert_room
from hyperctl.activities.convert.mounts import mount_root
from hyperctl.activities.convert.order import Order
from hyperctl.activities.convert.refusal import Refused, StepFailed
from hyperctl.activities.convert.storage import probe_devices, survey
from hyperctl.activities.convert.work import Work
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import ConvertInput, ConvertResult
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.rehearsal import Verdict
from hyperctl.workflows.request import Fixers
from tests.found_out import AGAIN
from tests.integration.conftest import sha256
from tests.integration.guests.arrival import attempt, landed_disk
from tests.integration.guests.bench import DEBIAN, Bench, blank, e2fs, in_appliance, system
from tests.integration.guests.test_arch import TREE
from tests.integration.rehearsing import machine_of, rehearsed
from tests.simulator import VCenterSimulator
from tests.unit.machines import disk, machine

SWAP_PAGE = 4096
PASSPHRASE = "the right one"
ROOM_BYTES = 256 << 10
BOOT_UUID = "11111111-2222-4333-8444-555555555501"

pytestmark = pytest.mark.timeout(900)


def order_of(keys: Path | None = None) -> Order:
    about = machine(name="odd-01", disks=tuple(disk(number) for number in (1, 2, 3)))
    return Order(machine=about, fix=Fixers(), disk_keys_file=keys)


def refused(bench: Bench, keys: Path | None = None) -> Refused:
    """The refusal of what is on the bench."""
    order = order_of(keys)
    with pytest.raises(Refused) as raised:
        inspect_guest(bench.guest, order, read_disk_keys(keys, order.machine.name))
    return raised.value


def convert(
    folder: Path, images: Sequence[Path], keys: Path | None = None, odd: Machine | None = None
) -> ConvertResult:
    Staging(folder, "job-refused").create()
    argument = ConvertInput(
        job_id="job-refused",
        output_dir=str(folder),
        machine=odd or order_of().machine,
        disks=tuple(landed_disk(index, image) for index, image in enumerate(images, start=1)),
        fix=Fixers(),
    )
    return convert_guest(argument, attempt(), keys)


def half_a_group(bench: Bench) -> None:
    """On the third disk, whose other half is gone."""
    halves = ["/dev/sdb", "/dev/sdc"]
    for device in halves:
        bench.guest.pvcreate(device)
    bench.guest.vgcreate("data", halves)
    bench.guest.lvcreate_free("all", "data", 100)
    bench.clear("/dev/sdb")


def test_all_that_is_wrong_with_the_disks_is_told_at_once(bench: Bench, tmp_path: Path) -> None:
    hibernated = blank(tmp_path / "hibernated.raw")
    e2fs("mkswap", str(hibernated))
    with hibernated.open("r+b") as file:
        file.seek(SWAP_PAGE - 10)
        file.write(b"S1SUSPEND\0")
    faulty = system(tmp_path / "faulty.raw", DEBIAN)
    e2fs("debugfs", "-w", "-R", "set_super_value state 2", str(faulty))
    bench.clear()
    half_a_group(bench)
    bench.write("/dev/sda", faulty)
    bench.write("/dev/sdb", hibernated)
    error = refused(bench)
    assert error.code is ErrorCode.GUEST_UNSUPPORTED
    for words in (
        "the filesystem on /dev/sda (ext4) has errors",
        "hibernated: the swap space on /dev/sdb",
        "the volume group data lacks 1 of its 2 disks",
    ):
        assert words in str(error)


def test_two_systems(bench: Bench, tmp_path: Path) -> None:
    bench.put(*(system(tmp_path / f"system{number}.raw", DEBIAN) for number in (1, 2)))
    assert "more than one operating system" in str(refused(bench))


def test_a_backup_of_a_systems_files_is_no_system(bench: Bench, tmp_path: Path) -> None:
    files = {**DEBIAN, "etc/fstab": f"UUID={BOOT_UUID} / ext4 rw 0 1\n"}
    own = system(tmp_path / "own.raw", files)
    e2fs("tune2fs", "-U", BOOT_UUID, str(own))
    bench.put(system(tmp_path / "backup.raw", files), own)
    assert "no Linux kernel" in str(refused(bench)), "that is asked of the one that is its own /"
    e2fs("tune2fs", "-U", BOOT_UUID, str(tmp_path / "backup.raw"))
    bench.put(tmp_path / "backup.raw", own)
    assert "more than one operating system" in str(refused(bench)), "nobody knows which is booted"


def bitlocker(image: Path) -> Path:
    """The first sector of a BitLocker volume and its metadata, as blkid(8) knows them."""
    with blank(image).open("r+b") as file:
        file.write(b"\xeb\x58\x90-FVE-FS-")
        file.seek(176)
        file.write(struct.pack("<QQQ", 4096, 8192, 12288))
        file.seek(4096)
        file.write(b"-FVE-FS-" + struct.pack("<HH", 64, 2))
    return image


def keys_file(folder: Path, mode: int = 0o600) -> Path:
    path = folder / "keys.yaml"
    path.touch(mode=mode)
    path.write_text("passphrases: [a wrong one]\n")
    return path


def test_no_system_for_reasons_that_are_told_together(bench: Bench, tmp_path: Path) -> None:
    corrupt = system(tmp_path / "corrupt.raw", DEBIAN)
    with corrupt.open("r+b") as file:
        file.seek(2048)
        file.write(b"\xff" * 2048)
    bench.put(corrupt, bitlocker(tmp_path / "windows.raw"))
    bench.encrypt("/dev/sdc", PASSPHRASE)
    token = '{"type": "clevis", "keyslots": ["0"]}'
    bench.guest.debug("sh", [f"echo '{token}' | cryptsetup token import {in_appliance('/dev/sdc')}"])
    error = refused(bench, keys_file(tmp_path))
    assert error.code is ErrorCode.GUEST_UNSUPPORTED
    assert "no operating system was found" in str(error)
    assert "/dev/sda (ext4) cannot be" in str(error) or "the filesystem on /dev/sda" in str(error)
    assert "/dev/sdb is encrypted with BitLocker" in str(error)
    assert "/dev/sdc is encrypted with LUKS, and none of the worker's 1 keys opens it" in str(error)
    assert "(clevis has one, which is of no use but in the VM)" in str(error)
    assert "HYPERCTL_DISK_KEYS_FILE" in error.hint
    assert "manage-bde -off" in error.hint


def test_a_filesystem_that_can_only_be_read(bench: Bench, tmp_path: Path) -> None:
    image = system(tmp_path / "readonly.raw", DEBIAN)
    e2fs("tune2fs", "-O", "read-only", str(image))
    bench.put(image)
    assert "the filesystem of / (/dev/sda) can only be mounted for reading" in str(refused(bench))


def test_a_snapshot_that_can_only_be_read(bench: Bench) -> None:
    """The root of a transactional system."""
    bench.clear()
    bench.guest.debug("sh", [f"mkfs.btrfs --mixed {in_appliance('/dev/sdb')}"])  # as small as it is
    bench.guest.mount("/dev/sdb", "/")
    bench.guest.btrfs_subvolume_create("/root")
    bench.guest.btrfs_subvolume_snapshot("/root", "/booted", ro=True)
    bench.guest.umount_all()
    assert str(refused_root(bench, "btrfsvol:/dev/sdb/booted")) == (
        "the filesystem of / (btrfsvol:/dev/sdb/booted) can only be mounted for reading"
    )
    mount_root(bench.guest, "btrfsvol:/dev/sdb/root")
    assert bench.guest.ls("/") == [], "the trial leaves nothing"


def refused_root(bench: Bench, root: str) -> Refused:
    with pytest.raises(Refused) as raised:
        mount_root(bench.guest, root)
    return raised.value


def test_a_table_that_nobody_can_read_is_named(bench: Bench) -> None:
    """On anything but plain filesystems libguestfs reads it."""
    bench.clear()
    bench.guest.debug("sh", [f"mkfs.btrfs --mixed {in_appliance('/dev/sdb')}"])
    bench.guest.mount("/dev/sdb", "/")
    for folder in ("/bin", "/etc"):
        bench.guest.mkdir(folder)
    bench.guest.write("/etc/os-release", DEBIAN["etc/os-release"])
    bench.guest.write("/etc/fstab", "/dev/sdb / btrfs defaults 0 0\r\n")
    bench.guest.umount_all()
    assert "cannot be told: inspect_os: /etc/fstab" in str(refused(bench))


def test_a_volume_is_told_from_its_snapshot_and_a_label_may_have_spaces(bench: Bench) -> None:
    bench.clear()
    bench.guest.pvcreate("/dev/sda")
    bench.guest.vgcreate("vg", ["/dev/sda"])
    bench.guest.lvcreate("root", "vg", 16)
    bench.guest.mkfs("ext4", "/dev/vg/root", label="the root")
    bench.guest.debug("sh", ["lvm lvcreate -s -L 8M -n before vg/root 2>&1"])
    bench.guest.mkfs("ext4", "/dev/sdb", label='of "us"')
    found = survey(bench.guest, probe_devices(bench.guest))
    assert found.tags["LABEL", "the root"] == found.tags["UUID", bench.guest.vfs_uuid("/dev/vg/root")]
    assert found.tags["LABEL", "the root"] == "/dev/vg/root"
    assert found.tags["LABEL", 'of "us"'] == "/dev/sdb"
    assert "/dev/vg/before" in bench.guest.lvs()
    assert "/dev/vg/before" not in found.kinds


def test_a_file_with_attributes_is_written_and_keeps_them(bench: Bench, tmp_path: Path) -> None:
    bench.put(system(tmp_path / "held.raw", DEBIAN))
    bench.guest.mount("/dev/sda", "/")
    bench.guest.set_e2attrs("/etc/fstab", "i")
    files = GuestFiles(bench.guest)
    assert files.edit("/etc/fstab", "# new\n", Work())
    assert (files.text("/etc/fstab"), bench.guest.get_e2attrs("/etc/fstab")) == ("# new\n", "ei")
    with pytest.raises(RuntimeError, match="Is a directory"):
        files.replace("/etc", "", Work())


def full_boot(bench: Bench, folder: Path) -> tuple[Path, Path]:
    """A system that could be converted, and its /boot, which is full."""
    in_boot = {name.removeprefix("boot/"): content for name, content in TREE.items() if name[:5] == "boot/"}
    others = {
        name.replace("usr/lib/", "lib/"): content for name, content in TREE.items() if name[:5] != "boot/"
    }
    root = system(folder / "root.raw", {**others, "etc/fstab": "/dev/sdb /boot ext4 rw 0 1\n"})
    bench.put(root, system(folder / "boot.raw", in_boot))
    bench.guest.mount("/dev/sdb", "/")
    space = bench.guest.statvfs("/")
    free = space["bfree"] - space["blocks"] // 50  # with what is kept for root, and not what is for nobody
    bench.guest.fallocate64("/filler", free * space["bsize"] - ROOM_BYTES)
    bench.guest.umount_all()
    return root, bench.copy("/dev/sdb", folder / "boot.raw")


def test_filesystems_without_room_are_told_together(bench: Bench, tmp_path: Path) -> None:
    full_boot(bench, tmp_path)
    bench.guest.mount("/dev/sda", "/")
    bench.guest.mount("/dev/sdb", "/boot")
    places = {"/": "/dev/sda", "/boot": "/dev/sdb"}
    inspected = cast(Inspected, SimpleNamespace(files=GuestFiles(bench.guest), mounts=places))
    assert_room(inspected, {"/etc/fstab": 1 << 20})
    with pytest.raises(StepFailed) as raised:
        assert_room(inspected, {"/boot/one.img": 1 << 20, "/boot/two.img": 1 << 20, "/usr/big": 1 << 30})
    assert "/boot has 0.2 MiB free and needs 3.0 MiB: 2.8 MiB are missing" in str(raised.value)
    assert "; / has" in str(raised.value)


def test_a_system_that_was_switched_off_hard_is_told(bench: Bench, tmp_path: Path) -> None:
    bench.put(system(tmp_path / "dirty.raw", DEBIAN))
    bench.guest.mount("/dev/sda", "/")
    bench.guest.touch("/etc/new")
    bench.guest.sync()
    bench.guest.copy_device_to_device("/dev/sda", "/dev/sdb")  # as it is at this moment
    bench.clear("/dev/sda")
    assert survey(bench.guest, probe_devices(bench.guest)).warnings == (
        "/dev/sdb (ext4) was not unmounted: the VM was switched off, not shut down",
    )


def looks_like_two(image: Path) -> Path:
    """A filesystem in which the mark of a CD is left, as blkid(8) has it."""
    with image.open("r+b") as file:
        file.seek(16 * 2048)
        file.write(b"\1CD001")
    return image


def test_what_is_on_a_device_that_cannot_be_told_is_not_taken_for_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    untold = "what is on {} cannot be told: it is not active, or has traces of more than one filesystem"
    boot = looks_like_two(system(tmp_path / "boot.raw", {}))
    fstab = f"UUID={BOOT_UUID} /boot ext4 rw 0 1\n"
    bench.put(system(tmp_path / "root.raw", {**DEBIAN, "etc/fstab": fstab}), boot)
    assert f"(UUID={BOOT_UUID}) is on none of the disks by that name; {untold.format('/dev/sdb')}" in str(
        refused(bench)
    )
    bench.put(boot)
    assert f"no operating system was found on the disks: {untold.format('/dev/sda')}" in str(refused(bench))


def test_keys_that_others_may_read(tmp_path: Path) -> None:
    keys = keys_file(tmp_path, 0o644)
    with pytest.raises(HyperctlError) as raised:
        convert(tmp_path, [blank(tmp_path / "blank.raw")], keys)
    assert raised.value.code is ErrorCode.CREDENTIALS_UNSAFE
    assert "a wrong one" not in str(raised.value)


def without_virtio(bench: Bench, folder: Path) -> tuple[Path, ...]:
    names = ("boot/vmlinuz-2.6.18", "boot/initrd.img-2.6.18", "lib/modules/2.6.18/modules.dep")
    return (system(folder / "old.raw", DEBIAN, "usr/sbin/update-initramfs", *names),)


def encrypted(bench: Bench, folder: Path) -> tuple[Path, ...]:
    bench.put()
    bench.encrypt("/dev/sda", PASSPHRASE)
    return (bench.copy("/dev/sda", folder / "encrypted.raw"),)


again = pytest.mark.skipif(not AGAIN, reason="two appliances more each: make test-guests")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (without_virtio, "no kernel has virtio drivers: 2.6.18"),
        pytest.param(full_boot, "/boot has 0.", marks=again),
        pytest.param(encrypted, "the worker has no key", marks=again),
    ],
    ids=["no-virtio", "full-boot", "luks"],
)
def test_a_rehearsal_refuses_in_the_words_of_the_migration(
    make: Callable[[Bench, Path], tuple[Path, ...]],
    words: str,
    bench: Bench,
    sim: VCenterSimulator,
    settings: HostSettings,
    libvirt_uri: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    images = make(bench, tmp_path)
    before = [sha256(image) for image in images]
    name = request.node.callspec.id
    guest = tmp_path / name
    guest.mkdir()
    disks = [{"flat": str(image)} for image in images]
    facts = {"name": name, "guest_id": "debian12_64Guest", "disks": disks}
    (guest / "guest.json").write_text(json.dumps(facts))
    sim.call("POST", "/guests", {"directory": str(guest)})
    host = settings.model_copy(update={"libvirt_uri": libvirt_uri})
    found = machine_of(sim, name, host, attempt())
    rehearsal = rehearsed(sim, host, found, attempt())
    with pytest.raises(HyperctlError) as migration:
        convert(tmp_path, images, odd=found)
    assert f"{name}: " in str(migration.value)
    assert words in str(migration.value)
    assert rehearsal.verdict is Verdict.DOES_NOT_BOOT
    assert rehearsal.reason == migration.value.failure
    assert [sha256(image) for image in images] == before
    assert list(Staging(tmp_path, "job-refused").folder.glob("*.qcow2")) == []
