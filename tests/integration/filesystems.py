"""Small file systems that fill up."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .conftest import MIB

SIZE_MIB = 128


@contextmanager
def mounted(kind: str, folder: Path, size_mib: int = SIZE_MIB, options: str = "rw") -> Iterator[Path]:
    """A small file system of its own."""
    place = folder / "small"
    place.mkdir()
    if kind == "tmpfs":
        argv = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,{options}", "tmpfs", str(place)]
    else:
        image = folder / "small.img"
        image.touch()
        os.truncate(image, size_mib * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        argv = ["mount", "-o", f"loop,{options}", str(image), str(place)]
    subprocess.run(argv, check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(file: Path) -> None:
    """Take all the room there is."""
    with file.open("wb", buffering=0) as target:
        while True:
            try:
                target.write(bytes(256 * 1024))
            except OSError:
                return
