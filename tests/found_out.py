"""What is true of a built guest and needs a long boot to see: seen once for each image, then remembered.

`HYPERCTL_TEST_GUESTS=all`, as `make test-guests` sets it, looks again.
"""

import hashlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.dev.artifact import keep, kept
from deploy.dev.layout import digest

SHELF = "found-out"
CHUNK_BYTES = 1 << 20
AGAIN = os.environ.get("HYPERCTL_TEST_GUESTS") == "all"


def name_of(fact: str, images: Sequence[Path], code: Sequence[Path]) -> str:
    """Changes with the images' contents, with the code that looks at them, and with qemu."""
    version = subprocess.run(
        ["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    return f"{fact}-{digest(code, version, *map(content_digest, images))}"


def is_known(name: str) -> bool:
    return not AGAIN and kept(name, SHELF).is_dir()


def remember(name: str) -> None:
    keep(name, lambda folder: None, SHELF)


def content_digest(image: Path) -> str:
    """Of a sparse file: its size, and its data by their places."""
    found = hashlib.sha256(str(image.stat().st_size).encode())
    end = -1
    for offset, content in data_of(image):
        if offset != end:
            found.update(f" {offset} ".encode())
        found.update(content)
        end = offset + len(content)
    return found.hexdigest()


def data_of(image: Path) -> Iterator[tuple[int, bytes]]:
    """The data of a sparse file in pieces, each with its offset."""
    with image.open("rb") as file:
        for start, end in _data(file.fileno(), image.stat().st_size):
            file.seek(start)
            for at in range(start, end, CHUNK_BYTES):
                yield at, file.read(min(CHUNK_BYTES, end - at))


def _data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # ENXIO: no data beyond
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
