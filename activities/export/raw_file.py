"""Reading a raw disk that is a file here, or a part of one: holes are asked for, and not read."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hyperctl.activities.export.ranges import Connection, Extent
from hyperctl.activities.export.throttle import Stopped
from hyperctl.activities.source.images import ImageFile
from hyperctl.activities.source.opened import Opened, read_failed

READ_BYTES = 1 << 20
"""What is read at a time, so that a throttle and a stop are obeyed soon."""


class RawFileReader:
    """A `DiskReader` over an open file. Holes are those of lseek(2), `SEEK_DATA` and `SEEK_HOLE`."""

    def __init__(self, image: ImageFile, opened: Opened, connections: int, stop: threading.Event) -> None:
        self.connections = connections
        self._image = image
        self._descriptor = opened.descriptor
        self._stop = stop

    def extents(self) -> Iterator[Extent]:
        """The disk's own offsets; a file system that knows no holes has none."""
        start, end = self._image.offset_bytes, self._image.offset_bytes + self._image.size_bytes
        at = start
        while at < end:
            data = min(self._seek(at, os.SEEK_DATA, end), end)
            if data > at:
                yield Extent(at - start, data - at, is_zero=True)
            at = data
            if at < end:
                hole = min(self._seek(at, os.SEEK_HOLE, end), end)
                yield Extent(at - start, hole - at)
                at = hole

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        yield self

    @contextmanager
    def open(self, offset_bytes: int, length_bytes: int) -> Iterator["_RawBody"]:
        """`pread` has no position: one descriptor serves every thread."""
        yield _RawBody(self, offset_bytes, length_bytes)

    def read_into(self, buffer: memoryview, offset_bytes: int) -> int:
        """Some bytes of the disk. Raises `HyperctlError` where the storage of the source fails."""
        if self._stop.is_set():
            raise Stopped
        try:
            return os.preadv(self._descriptor, [buffer], self._image.offset_bytes + offset_bytes)
        except OSError as error:
            raise read_failed(self._image.path, self._image.offset_bytes + offset_bytes, error) from error

    def _seek(self, at: int, whence: int, end: int) -> int:
        try:
            return os.lseek(self._descriptor, at, whence)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return end  # nothing but a hole is left
            if whence == os.SEEK_DATA and error.errno in (errno.EINVAL, errno.ENOTSUP):
                return at
            if error.errno in (errno.EINVAL, errno.ENOTSUP):
                return end
            raise read_failed(self._image.path, at, error) from error


class _RawBody:
    def __init__(self, reader: RawFileReader, offset_bytes: int, length_bytes: int) -> None:
        self._reader = reader
        self._at = offset_bytes
        self._end = offset_bytes + length_bytes

    def readinto(self, buffer: memoryview) -> int:
        size = min(len(buffer), READ_BYTES, self._end - self._at)
        taken = self._reader.read_into(buffer[:size], self._at) if size else 0
        self._at += taken
        return taken
