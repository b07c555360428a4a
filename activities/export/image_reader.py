"""Reading a landed image again, whatever its format."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.image import data_extents
from hyperctl.activities.export.nbd_image import NbdImage
from hyperctl.workflows.request import DiskFormat


class ImageReader(Protocol):
    """A disk image to read from, by any number of threads. Offsets in bytes; errors are `OSError`."""

    def read(self, offset: int, size: int) -> bytes:
        """What is there; fewer bytes only at the disk's end."""

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """The stretches that are not known to be zero, as start and end."""


@contextmanager
def open_image(path: Path, image_format: str, capacity_bytes: int, attempt: Attempt) -> Iterator[ImageReader]:
    """An image of just this format and capacity. What the page cache holds of it is dropped before.

    Raises `OSError`, and `ValueError` where it is of another capacity or no such image.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if image_format == DiskFormat.RAW:
            size = os.fstat(descriptor).st_size
            if size != capacity_bytes:
                raise ValueError(f"{path} holds {size} bytes, and not {capacity_bytes}")
            yield _RawReader(descriptor)
        else:
            image = NbdImage(path, image_format, capacity_bytes, attempt)
            try:
                yield image
            finally:
                image.close()
    finally:
        os.close(descriptor)


class _RawReader:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, offset: int, size: int) -> bytes:
        pieces: list[bytes] = []
        while size > 0 and (piece := os.pread(self._descriptor, size, offset)):
            pieces.append(piece)
            offset += len(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        return data_extents(self._descriptor, offset, length)
