"""Reading a landed image again through qemu, by an NBD server of our own, for formats that it alone reads."""

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import nbd

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.direct import is_direct
from hyperctl.activities.image_file import as_storage_error, image_info, wait_until_free
from hyperctl.activities.nbd.command import image_command
from hyperctl.activities.nbd.server import NbdServer, NbdServerError

MAP_BYTES = 1 << 30
END_SECONDS = 1.0
"""How long after a connection broke the end of its server is waited for, which explains it."""
REQUEST_BYTES = 2 << 20
_STATE_ZERO = 2
_CONTEXT = "base:allocation"


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


class NbdImage:
    """An `ImageReader` over a qemu-nbd of its own."""

    def __init__(self, path: Path, image_format: str, capacity_bytes: int, attempt: Attempt) -> None:
        """Open an image of just this format and capacity.

        Raises `ValueError` where it is another one, `OSError` where it cannot be served.
        """
        self._path = path
        with as_storage_error(path):
            wait_until_free(path, image_format, attempt)
        info = image_info(path, image_format, attempt)
        if info.virtual_bytes != capacity_bytes or not info.stands_alone:
            raise ValueError(f"{path} is not an image of its own of {capacity_bytes} bytes")
        direct = is_direct(path)
        try:
            self._server = NbdServer(
                lambda place: image_command(place, path, image_format, direct=direct), attempt
            )
        except NbdServerError as error:
            raise OSError(errno.EIO, str(error), str(path)) from error
        self._lock = threading.Lock()
        self._idle: list[Any] = []

    def readinto(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer of any size with what is there."""
        with self._handle() as handle:
            for at in range(0, len(buffer), REQUEST_BYTES):
                part = buffer[at : at + REQUEST_BYTES]
                part[:] = handle.pread(len(part), offset + at)

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """The stretches that the image does not know to be zero, as start and end."""
        end = offset + length
        while offset < end:
            part = min(MAP_BYTES, end - offset)
            with self._handle() as handle:
                found = _extents(handle, offset, part)
            for size, is_zero in found:
                stop = min(offset + size, end)
                if not is_zero and offset < stop:
                    yield offset, stop
                offset = stop

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for handle in idle:
            with contextlib.suppress(nbd.Error):
                handle.shutdown()
        self._server.close()

    @contextlib.contextmanager
    def _handle(self) -> Iterator[Any]:
        """A connection that nobody else uses meanwhile; what goes wrong on it is an `OSError`."""
        with self._lock:
            handle = self._idle.pop() if self._idle else None
        try:
            if handle is None:
                handle = nbd.NBD()
                handle.add_meta_context(_CONTEXT)
                # Nobody looks at an answer that failed.
                handle.set_pread_initialize(False)
                handle.connect_unix(str(self._server.socket))
            yield handle
        except nbd.Error as error:
            # A request that was refused leaves the connection as good as it was.
            if handle is not None and handle.aio_is_ready():
                self._give_back(handle)
                raise OSError(error.errnum or errno.EIO, error.string, str(self._path)) from error
            ended = self._server.ends_within(END_SECONDS)
            reason = f"qemu-nbd has ended: {self._server.complaint}" if ended else error.string
            raise OSError(errno.EIO, reason, str(self._path)) from error
        self._give_back(handle)

    def _give_back(self, handle: Any) -> None:
        with self._lock:
            self._idle.append(handle)


def _extents(handle: Any, offset: int, length: int) -> list[tuple[int, bool]]:
    """Lengths from an offset on, and whether they are zero; one with data where nothing is known."""
    found: list[tuple[int, bool]] = []

    def take(context: str, start: int, entries: list[int], error: object) -> int:
        if context == _CONTEXT:
            found.extend(
                (size, bool(flags & _STATE_ZERO))
                for size, flags in zip(entries[::2], entries[1::2], strict=True)
            )
        return 0

    if handle.can_meta_context(_CONTEXT):
        handle.block_status(length, offset, take)
    return found or [(length, False)]
