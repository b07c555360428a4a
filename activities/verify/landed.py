"""Landed images as verification reads them: one reader for each format, and what is wrong with the file.

To verify another format, add its reader to `READERS`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Protocol

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.direct import DirectFile
from hyperctl.activities.export.image import data_extents
from hyperctl.activities.export.image_reader import ImageReader, open_image
from hyperctl.activities.verify.structure import StructureError, check_qcow2
from hyperctl.workflows.disk import LandedDisk
from hyperctl.workflows.request import DiskFormat


class LandedReader(Protocol):
    """An image that is only read. Offsets and sizes in bytes of the disk; errors are `OSError`.

    May be called from several threads.
    """

    structure: str
    """What was looked at of the file as a whole, in words."""

    def readinto(self, buffer: memoryview, offset: int) -> int:
        """What is there, from the storage and not from memory; fewer bytes only at the image's end."""

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """The stretches of a part of the disk that are not known to be zeroes, as start and end."""

    def read_once(self, offset: int, length: int) -> None:
        """This part will not be read again: it may leave the page cache."""


OpenReader = Callable[[LandedDisk, Attempt], AbstractContextManager[LandedReader]]
"""Looks at the file as a whole and opens it. Raises `StructureError` and `OSError`."""


class _RawReader:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._file = DirectFile(descriptor, os.O_RDONLY)
        self.structure = "size of the raw image"

    def readinto(self, buffer: memoryview, offset: int) -> int:
        filled = 0
        while filled < len(buffer):
            size = self._file.readinto(buffer[filled:], offset + filled)
            if not size:
                break
            filled += size
        return filled

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        return data_extents(self._descriptor, offset, length)

    def read_once(self, offset: int, length: int) -> None:
        os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        self._file.close()


@contextmanager
def raw_reader(disk: LandedDisk, running: Attempt) -> Iterator[LandedReader]:
    """A raw image, with what the page cache holds of it dropped: the storage itself is to be read."""
    descriptor = os.open(disk.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        if size != disk.capacity_bytes:
            raise StructureError(f"the image has {size} bytes, the source disk {disk.capacity_bytes}")
        os.fdatasync(descriptor)  # what is not written yet cannot be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        with closing(_RawReader(descriptor)) as reader:
            yield reader
    finally:
        os.close(descriptor)


class _ThroughServer:
    """An image that a server of ours reads, which keeps nothing in the page cache for long."""

    def __init__(self, image: ImageReader, structure: str) -> None:
        self._image = image
        self.structure = structure

    def readinto(self, buffer: memoryview, offset: int) -> int:
        try:
            self._image.readinto(buffer, offset)
        except OSError as error:
            # That the server fails says nothing of a single block: none is thrown away for it.
            raise ConnectionError(str(error)) from error
        return len(buffer)

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        return self._image.data_extents(offset, length)

    def read_once(self, offset: int, length: int) -> None:
        """Where a part of the disk lies in the file is only known to the server."""


@contextmanager
def qcow2_reader(disk: LandedDisk, running: Attempt) -> Iterator[LandedReader]:
    """A qcow2 image, sound as a whole, read through qemu."""
    structure = check_qcow2(disk, running)
    try:
        with open_image(Path(disk.path), disk.format, disk.capacity_bytes, running) as image:
            yield _ThroughServer(image, structure)
    except ValueError as error:
        raise StructureError(str(error)) from error


READERS: dict[str, OpenReader] = {DiskFormat.RAW: raw_reader, DiskFormat.QCOW2: qcow2_reader}


def open_landed(disk: LandedDisk, running: Attempt) -> AbstractContextManager[LandedReader]:
    """Open a landed image by its format. Raises `StructureError`, also on entering."""
    opener = READERS.get(disk.format)
    if opener is None:
        raise StructureError(f"{Path(disk.path).name} has the unknown format {disk.format!r}")
    return opener(disk, running)
