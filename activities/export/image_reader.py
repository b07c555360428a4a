"""Reading a landed image again through qemu, for formats that it alone reads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.nbd_image import NbdImage


class ImageReader(Protocol):
    """A disk image to read from, by any number of threads. Offsets in bytes; errors are `OSError`."""

    def readinto(self, buffer: memoryview, offset: int) -> None:
        """Fill it with what is there, of the disk only."""

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """The stretches that are not known to be zero, as start and end."""


@contextmanager
def open_image(path: Path, image_format: str, capacity_bytes: int, attempt: Attempt) -> Iterator[ImageReader]:
    """An image of just this format and capacity, read by qemu. The page cache's part of it is dropped before.

    Raises `OSError`, and `ValueError` where it is of another capacity or no such image.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        image = NbdImage(path, image_format, capacity_bytes, attempt)
        try:
            yield image
        finally:
            image.close()
    finally:
        os.close(descriptor)
