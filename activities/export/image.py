"""The image that a disk lands in: sparse, written from several threads, what is zero takes no space."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from hyperctl.activities.export.direct import DirectFile
from hyperctl.activities.export.ledger import Content

PAGE_BYTES = 4096
"""What is zero is looked for in pages of this size, the block size of the usual file systems."""
_ZERO_PAGE = bytes(PAGE_BYTES)
_ZEROES = memoryview(bytes(4 << 20))
_COMPARED_BYTES = 256 << 10
_ZERO_PART = bytes(_COMPARED_BYTES)


class DiskImage(Protocol):
    """An image as the landing sees it. Offsets and sizes in bytes of the disk; errors are `OSError`.

    All but `close` may be called from several threads, for different places of the disk.
    """

    def write(self, offset: int, data: Content) -> None:
        """Make this the content, whatever was there; zero pages end up as holes where they were holes."""

    def zero(self, offset: int, length: int) -> None:
        """Make this zeroes, whatever was there."""

    def expect_rewrites(self) -> None:
        """From now on places are written that were written before."""

    def read(self, offset: int, size: int) -> bytes:
        """What is there."""

    def sync(self) -> None:
        """Return only when what was written would survive a power cut."""

    @property
    def allocated_bytes(self) -> int:
        """What it takes of its file system; right after `sync`."""

    def close(self) -> None: ...


class RawImage:
    """A raw image. Every byte of the disk is at its own offset in the file."""

    def __init__(self, path: Path, capacity_bytes: int, *, fresh: bool, is_empty: bool = False) -> None:
        """A fresh image, or one to go on with, of which nothing is taken for granted but that it `is_empty`.

        Raises `FileNotFoundError` where there is nothing to go on with, `ValueError` where it is of another
        size.
        """
        self._is_empty = fresh or is_empty
        self._writing = threading.Lock()
        if fresh:
            # A new inode: what a left-over thread of an earlier attempt still writes goes to the old one.
            path.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT | os.O_EXCL if fresh else 0)
        self._descriptor = os.open(path, flags, 0o600)
        try:
            if fresh:
                os.ftruncate(self._descriptor, capacity_bytes)
            elif os.fstat(self._descriptor).st_size != capacity_bytes:
                raise ValueError(f"{path} is not an image of {capacity_bytes} bytes")
            self._file = DirectFile(self._descriptor, os.O_RDWR)
        except BaseException:
            os.close(self._descriptor)
            raise

    def write(self, offset: int, data: Content) -> None:
        view = memoryview(data)
        at = 0
        for start, end in data_runs(data):
            self.zero(offset + at, start - at)
            self._write(offset + start, view[start:end])
            at = end
        self.zero(offset + at, len(view) - at)

    def zero(self, offset: int, length: int) -> None:
        if self._is_empty or not length:
            return  # a hole by itself
        for start, stop in data_extents(self._descriptor, offset, length):
            while start < stop:
                size = min(stop - start, len(_ZEROES))
                self._write(start, _ZEROES[:size])
                start += size

    def expect_rewrites(self) -> None:
        self._is_empty = False

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    @property
    def allocated_bytes(self) -> int:
        return os.fstat(self._descriptor).st_blocks * 512

    def close(self) -> None:
        self._file.close()
        os.close(self._descriptor)

    def _write(self, offset: int, view: memoryview) -> None:
        while view:
            # The kernel lets one write into a file at a time, and who waits for it there burns a processor.
            with self._writing:
                done = self._file.write(view, offset)
            offset += done
            view = view[done:]


def is_zero(data: Content) -> bool:
    """Whether there is nothing but zeroes in it."""
    size = _COMPARED_BYTES
    return all(data[at : at + size] == _ZERO_PART[: len(data) - at] for at in range(0, len(data), size))


def data_runs(data: Content) -> Iterator[tuple[int, int]]:
    """The runs of pages that are not all zero, as start and end."""
    start = -1
    size = len(data)
    # Its first byte alone clears most pages of suspicion. The others are compared as slices of bytes, not of
    # a memoryview, which Python compares element by element.
    for at, first in zip(range(0, size, PAGE_BYTES), data[::PAGE_BYTES], strict=True):
        if first == 0 and data[at : at + PAGE_BYTES] == _ZERO_PAGE[: size - at]:
            if start >= 0:
                yield start, at
                start = -1
        elif start < 0:
            start = at
    if start >= 0:
        yield start, size


def data_extents(descriptor: int, offset: int, length: int) -> Iterator[tuple[int, int]]:
    """The stretches of a part of a file that are not holes, as start and end."""
    end = offset + length
    while offset < end:
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            # Nothing but a hole up to the end of the file.
            if error.errno != errno.ENXIO:
                raise
            return
        if start >= end:
            return
        stop = min(os.lseek(descriptor, start, os.SEEK_HOLE), end)
        yield start, stop
        offset = stop
