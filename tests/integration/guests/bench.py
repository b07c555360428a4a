"""One launched appliance for many guests, one after the other: its disks are written anew for each."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import guestfs

from hyperctl.activities.acceleration import probe_acceleration
from hyperctl.activities.appliance import appliance_environment
from hyperctl.activities.convert.encrypted import KEY_DERIVATION_MEMORY_MIB
from tests.found_out import data_of

DEVICES = ("/dev/sda", "/dev/sdb", "/dev/sdc")
DISK_BYTES = 64 << 20
DEBIAN = {
    "etc/debian_version": "12.1\n",
    "etc/os-release": "ID=debian\nPRETTY_NAME=Debian\nVERSION_ID=12\n",
    "etc/fstab": "",
}


def in_appliance(device: str) -> str:
    """libguestfs' device for a shell: the appliance's kernel may have found the disks in another order."""
    letter, part = device[7], device[8:]
    return f"/dev/disk/by-path/*-scsi-0:0:{ord(letter) - ord('a')}:0{part and '-part'}{part}"


class Bench:
    """`guest` is libguestfs with `DEVICES`, which are blank at first."""

    def __init__(self, guest: guestfs.GuestFS, files: Sequence[Path]) -> None:
        self.guest = guest
        self._files = dict(zip(DEVICES, files, strict=True))

    def clear(self, *devices: str) -> None:
        """Nothing is mounted or active any more, and these disks, or all, are blank."""
        self.guest.umount_all()
        self.guest.vg_activate_all(False)
        for device in devices or DEVICES:
            self.guest.blkdiscard(device)
            self.guest.blockdev_flushbufs(device)

    def put(self, *images: Path) -> None:
        """The images' content on the first disks; the others are blank."""
        self.clear()
        for device, image in zip(DEVICES, images, strict=False):
            self.write(device, image)

    def write(self, device: str, image: Path) -> None:
        for offset, content in data_of(image):
            self.guest.pwrite_device(device, content, offset)
        self.guest.blockdev_flushbufs(device)

    def encrypt(self, device: str, passphrase: str) -> None:
        """A LUKS volume whose key is derived at once; as cryptsetup makes them it takes long in emulation."""
        derivation, place = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000", in_appliance(device)
        command = f"echo -n '{passphrase}' | cryptsetup -q luksFormat {derivation} {place} -"
        self.guest.debug("sh", [f"{command} && udevadm settle"])

    def copy(self, device: str, image: Path) -> Path:
        """What is on one of the disks, as an image."""
        self.guest.sync()
        copy = ["cp", "--sparse=always", str(self._files[device]), str(image)]
        subprocess.run(copy, check=True, timeout=60)
        return image


@contextmanager
def launched(folder: Path) -> Iterator[Bench]:
    files = [folder / f"bench{number}.raw" for number in range(len(DEVICES))]
    with appliance_environment(probe_acceleration()) as environment:
        with mock.patch.dict(os.environ, environment):
            guest = guestfs.GuestFS(python_return_dict=True)  # reads them now
        guest.set_memsize(KEY_DERIVATION_MEMORY_MIB)
        try:
            for file in files:
                with file.open("wb") as opened:
                    opened.truncate(DISK_BYTES)
                guest.add_drive_opts(str(file), format="raw", cachemode="unsafe", discard="enable")
            guest.launch()
            yield Bench(guest, files)
        finally:
            guest.close()


def blank(image: Path) -> Path:
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    return image


def system(image: Path, files: Mapping[str, str | bytes], *more: str) -> Path:
    """A root filesystem by its files, on a disk without partitions. `more` are files that are empty."""
    tree = image.with_suffix(".tree")
    for name in ("bin", "boot", "etc", "lib", "usr"):
        (tree / name).mkdir(parents=True)
    for name, content in {**files, **dict.fromkeys(more, "")}.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    e2fs("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(blank(image)))
    return image


def e2fs(*argv: str) -> None:
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    subprocess.run(argv, check=True, env=environment, capture_output=True, timeout=60)
