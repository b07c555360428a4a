"""What cannot be converted is refused by name, in a rehearsal in the same words, and left as it was."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.dev.prepare import load_parts
from hyperctl.activities.acceleration import libguestfs_environment
from hyperctl.activities.convert.activity import convert_guest
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
from tests.integration.rehearsing import machine_of, rehearsed
from tests.simulator import VCenterSimulator
from tests.unit.machines import disk, machine

MIB = 1 << 20
SWAP_PAGE = 4096
DEBIAN = {"debian_version": "12.1\n", "os-release": "ID=debian\nVERSION_ID=12\n", "fstab": ""}

pytestmark = pytest.mark.timeout(900)


def convert(
    folder: Path,
    images: Sequence[Path],
    keys: Path | None = None,
    image_format: str = "raw",
    odd: Machine | None = None,
) -> ConvertResult:
    Staging(folder, "job-refused").create()
    argument = ConvertInput(
        job_id="job-refused",
        output_dir=str(folder),
        machine=odd or machine(name="odd-01", disks=tuple(disk(n) for n in range(1, len(images) + 1))),
        disks=tuple(
            landed_disk(index, image).model_copy(update={"format": image_format})
            for index, image in enumerate(images, start=1)
        ),
        fix=Fixers(),
    )
    return convert_guest(argument, attempt(), keys)


def refused(folder: Path, images: Sequence[Path], keys: Path | None = None) -> HyperctlError:
    """The refusal of a guest on raw images, after which nothing of it is left and the images are the same."""
    before = [sha256(image) for image in images]
    with pytest.raises(HyperctlError) as raised:
        convert(folder, images, keys)
    assert "odd-01" in str(raised.value)
    assert [sha256(image) for image in images] == before
    assert list(Staging(folder, "job-refused").folder.glob("*.qcow2")) == []
    return raised.value


def blank(image: Path, size_mib: int = 64) -> Path:
    with image.open("wb") as file:
        file.truncate(size_mib * MIB)
    return image


def system(image: Path, etc: dict[str, str], *more: str) -> Path:
    """A root filesystem by its files, on a disk without partitions. `more` are files that are empty."""
    tree = image.with_suffix(".tree")
    for name in ("bin", "boot", "etc", "lib", "usr"):
        (tree / name).mkdir(parents=True)
    for name, content in etc.items():
        (tree / "etc" / name).write_text(content)
    for name in more:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    e2fs("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(blank(image)))
    return image


def e2fs(*argv: str) -> None:
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    subprocess.run(argv, check=True, env=environment, capture_output=True, timeout=60)


def in_appliance(images: Sequence[Path], *statements: str) -> None:
    """Python statements on `g`, libguestfs with these drives."""
    script = ["import guestfs", "g = guestfs.GuestFS(python_return_dict=True)"]
    script += [f'g.add_drive_opts("{image}", format="{image.suffix[1:]}")' for image in images]
    script += ["g.launch()", *statements]
    environment = {**os.environ, **libguestfs_environment()}
    subprocess.run(
        [sys.executable, "-c", "\n".join(script)],
        check=True,
        env=environment,
        timeout=300,
        capture_output=True,
    )


@dataclass(frozen=True)
class Odd:
    """Disks that only the appliance can make: for reading, they are all tests'."""

    half_a_group: Path
    encrypted: Path
    full: Path
    """The demo's guest, with a /boot that is full."""
    dirty: Path


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Odd:
    """Made in one launch, at whose end the power fails."""
    folder = tmp_path_factory.mktemp("odd")
    pair = [blank(folder / "lvm1.raw"), blank(folder / "lvm2.raw")]
    encrypted, dirty = blank(folder / "encrypted.raw"), system(folder / "dirty.raw", DEBIAN)
    source, full = load_parts().guests / "web-server-01" / "disk1.raw", folder / "full.qcow2"
    backed = ["qemu-img", "create", "-qf", "qcow2", "-F", "raw", "-b", str(source), str(full)]
    subprocess.run(backed, check=True, timeout=60)
    in_appliance(
        [*pair, encrypted, dirty, full],
        'g.pvcreate("/dev/sda"); g.pvcreate("/dev/sdb"); g.vgcreate("data", ["/dev/sda", "/dev/sdb"])',
        'g.lvcreate_free("all", "data", 100); g.mkfs("ext4", "/dev/data/all")',
        'g.luks_format("/dev/sdc", "the right one", 0)',
        'g.mount("/dev/sde1", "/"); space = g.statvfs("/")',
        'g.fallocate64("/filler", space["bavail"] * space["bsize"] - (256 << 10)); g.umount_all()',
        'g.mount("/dev/sdd", "/"); g.touch("/etc/new"); g.sync()',
        "import os, signal; os.kill(g.get_pid(), signal.SIGKILL)",
    )
    return Odd(pair[0], encrypted, full, dirty)


def test_all_that_is_wrong_with_the_disks_is_told_at_once(odd: Odd, tmp_path: Path) -> None:
    hibernated = blank(tmp_path / "hibernated.raw")
    e2fs("mkswap", str(hibernated))
    with hibernated.open("r+b") as file:
        file.seek(SWAP_PAGE - 10)
        file.write(b"S1SUSPEND\0")
    faulty = system(tmp_path / "faulty.raw", DEBIAN)
    e2fs("debugfs", "-w", "-R", "set_super_value state 2", str(faulty))
    error = refused(tmp_path, [faulty, hibernated, odd.half_a_group])
    assert error.code is ErrorCode.GUEST_UNSUPPORTED
    for words in (
        "the filesystem on /dev/sda (ext4) has errors",
        "hibernated: the swap space on /dev/sdb",
        "the volume group data lacks 1 of its 2 disks",
    ):
        assert words in str(error)


def test_two_systems(tmp_path: Path) -> None:
    images = [system(tmp_path / f"system{number}.raw", DEBIAN) for number in (1, 2)]
    assert "more than one operating system" in str(refused(tmp_path, images))


def bitlocker(image: Path) -> Path:
    """The first sector of a BitLocker volume and its metadata, as blkid(8) knows them."""
    with blank(image).open("r+b") as file:
        file.write(b"\xeb\x58\x90-FVE-FS-")
        file.seek(176)
        file.write(struct.pack("<QQQ", 4096, 8192, 12288))
        file.seek(4096)
        file.write(b"-FVE-FS-" + struct.pack("<HH", 64, 2))
    return image


def test_no_system_for_reasons_that_are_told_together(odd: Odd, tmp_path: Path) -> None:
    corrupt = system(tmp_path / "corrupt.raw", DEBIAN)
    with corrupt.open("r+b") as file:
        file.seek(2048)
        file.write(b"\xff" * 2048)
    error = refused(tmp_path, [corrupt, bitlocker(tmp_path / "windows.raw"), odd.encrypted])
    assert error.code is ErrorCode.GUEST_UNSUPPORTED
    assert "no operating system was found" in str(error)
    assert "/dev/sda (ext4) cannot be" in str(error) or "the filesystem on /dev/sda" in str(error)
    assert "/dev/sdb is encrypted with BitLocker" in str(error)
    assert "/dev/sdc is encrypted with LUKS, and the worker has no key" in str(error)
    assert "HYPERCTL_DISK_KEYS_FILE" in error.failure.hint
    assert "manage-bde -off" in error.failure.hint


def wrong_key(folder: Path) -> Path:
    path = folder / "keys.yaml"
    path.touch(mode=0o600)
    path.write_text("passphrases: [a wrong one]\n")
    return path


def test_an_encrypted_disk_that_no_key_opens(odd: Odd, tmp_path: Path) -> None:
    error = refused(tmp_path, [odd.encrypted], wrong_key(tmp_path))
    assert error.code is ErrorCode.GUEST_UNSUPPORTED
    assert "/dev/sda is encrypted with LUKS, and none of the worker's 1 keys opens it" in str(error)
    assert "HYPERCTL_DISK_KEYS_FILE" in error.failure.hint


def test_a_filesystem_that_can_only_be_read(tmp_path: Path) -> None:
    image = system(tmp_path / "readonly.raw", DEBIAN)
    e2fs("tune2fs", "-O", "read-only", str(image))
    assert "the filesystem of / (/dev/sda) can only be mounted for reading" in str(refused(tmp_path, [image]))


def test_a_distribution_that_nobody_knows(tmp_path: Path) -> None:
    release = {**DEBIAN, "os-release": 'ID=frobnix\nPRETTY_NAME="Frobnix 1"\nVERSION_ID=1\n'}
    del release["debian_version"]
    image = system(tmp_path / "frobnix.raw", release, "boot/vmlinuz-6.1", "lib/modules/6.1/modules.dep")
    error = refused(tmp_path, [image])
    assert error.code is ErrorCode.GUEST_UNSUPPORTED
    assert "Frobnix 1 builds its initramfs with an unknown tool" in str(error)


def test_keys_that_others_may_read(tmp_path: Path) -> None:
    keys = wrong_key(tmp_path)
    keys.chmod(0o644)
    error = refused(tmp_path, [blank(tmp_path / "blank.raw")], keys)
    assert error.code is ErrorCode.CREDENTIALS_UNSAFE
    assert "a wrong one" not in str(error)


def test_a_system_without_a_kernel(tmp_path: Path) -> None:
    error = refused(tmp_path, [system(tmp_path / "bare.raw", DEBIAN)])
    assert error.code is ErrorCode.GUEST_UNSUPPORTED
    assert "no Linux kernel" in str(error)


def test_a_boot_filesystem_without_room(odd: Odd, tmp_path: Path) -> None:
    before = sha256(odd.full)
    with pytest.raises(HyperctlError, match=r"/boot has 0\.\d MiB free and needs .* MiB are missing"):
        convert(tmp_path, [odd.full], image_format="qcow2")
    assert sha256(odd.full) == before


def test_a_system_that_was_switched_off_hard_is_told(odd: Odd) -> None:
    script = [
        "import guestfs; from hyperctl.activities.convert.storage import survey",
        "g = guestfs.GuestFS(python_return_dict=True)",
        f'g.add_drive_opts("{odd.dirty}", format="raw", readonly=True)',
        "g.launch(); print(survey(g).warnings)",
    ]
    environment = {**os.environ, **libguestfs_environment()}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(script)], env=environment, capture_output=True, text=True, check=True
    )
    assert "/dev/sda (ext4) was not unmounted" in done.stdout


def without_virtio(folder: Path, odd: Odd) -> Path:
    names = ("boot/vmlinuz-2.6.18", "boot/initrd.img-2.6.18", "lib/modules/2.6.18/modules.dep")
    return system(folder / "old.raw", DEBIAN, "usr/sbin/update-initramfs", *names)


def full_boot(folder: Path, odd: Odd) -> Path:
    flat = folder / "full.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(odd.full), str(flat)], check=True, timeout=300)
    return flat


again = pytest.mark.skipif(not AGAIN, reason="two appliances more each: make test-guests")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (without_virtio, "no kernel has virtio drivers: 2.6.18"),
        pytest.param(full_boot, "/boot has 0.", marks=again),
        pytest.param(lambda folder, odd: odd.encrypted, "the worker has no key", marks=again),
    ],
    ids=["no-virtio", "full-boot", "luks"],
)
def test_a_rehearsal_refuses_in_the_words_of_the_migration(
    make: Callable[[Path, Odd], Path],
    words: str,
    odd: Odd,
    sim: VCenterSimulator,
    settings: HostSettings,
    libvirt_uri: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    image = make(tmp_path, odd)
    name = request.node.callspec.id
    guest = tmp_path / name
    guest.mkdir()
    facts = {"name": name, "guest_id": "debian12_64Guest", "disks": [{"flat": str(image)}]}
    (guest / "guest.json").write_text(json.dumps(facts))
    sim.call("POST", "/guests", {"directory": str(guest)})
    host = settings.model_copy(update={"libvirt_uri": libvirt_uri})
    found = machine_of(sim, name, host, attempt())
    rehearsal = rehearsed(sim, host, found, attempt())
    with pytest.raises(HyperctlError) as migration:
        convert(tmp_path, [image], odd=found)
    assert words in str(migration.value)
    assert rehearsal.verdict is Verdict.DOES_NOT_BOOT
    assert rehearsal.reason == migration.value.failure
