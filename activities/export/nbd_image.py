"""A qcow2 image that a disk lands in, written by qemu through NBD: there is no second pass.

qemu-nbd flushes what refers to a cluster only after the cluster is counted as used, so that a crash at any
moment leaves an image that is right, with clusters at most that nobody refers to; they are given back before
the image is gone on with.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbd

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.direct import is_direct
from hyperctl.activities.export.image import data_runs
from hyperctl.activities.export.ledger import Content
from hyperctl.activities.image_file import ImageBusyError, image_info, wait_until_free
from hyperctl.activities.nbd.command import image_command
from hyperctl.activities.nbd.server import NbdServer, NbdServerError
from hyperctl.activities.process import ProcessError, run
from hyperctl.workflows.errors import ErrorCode, HyperctlError

CLUSTER_BYTES = 64 << 10
"""qemu's own choice, and the unit in which zeroes take no space."""
CREATE_TIMEOUT_SECONDS = 60.0
CHECK_TIMEOUT_SECONDS = 6 * 3600.0
MAP_BYTES = 1 << 30
END_SECONDS = 1.0
"""How long after a connection broke the end of its server is waited for, which explains it."""
REQUEST_BYTES = 2 << 20
_STATE_ZERO = 2
_CONTEXT = "base:allocation"


class NbdImage:
    """A disk image over a qemu-nbd of its own; see `DiskImage`. Any number of threads."""

    def __init__(
        self, path: Path, image_format: str, capacity_bytes: int, attempt: Attempt, *, writable: bool = False
    ) -> None:
        """Open an image of just this format and capacity.

        Raises `FileNotFoundError` where there is none, `ValueError` where it is another one, `OSError` where
        it cannot be served.
        """
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "no such image", str(path))
        self._path = path
        with as_storage_error(path):
            wait_until_free(path, image_format, attempt)
        info = image_info(path, image_format, attempt)
        if info.virtual_bytes != capacity_bytes or not info.stands_alone:
            raise ValueError(f"{path} is not an image of its own of {capacity_bytes} bytes")
        with as_storage_error(path):
            direct = is_direct(path)
            self._server = NbdServer(
                lambda place: image_command(place, path, image_format, writable=writable, direct=direct),
                attempt,
            )
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        try:
            with self._handle() as handle:
                self._is_shareable = bool(handle.can_multi_conn())
        except BaseException:
            self._server.close()
            raise

    @property
    def server(self) -> NbdServer:
        return self._server

    def read(self, offset: int, size: int) -> bytes:
        """What is there; `size` may be of any amount."""
        content = bytearray(size)
        self.readinto(memoryview(content), offset)
        return bytes(content)

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

    @property
    def allocated_bytes(self) -> int:
        return self._path.stat().st_blocks * 512

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


class Qcow2Image(NbdImage):
    """A qcow2 image to be filled."""

    def __init__(self, path: Path, capacity_bytes: int, attempt: Attempt, *, fresh: bool) -> None:
        """A fresh image, or one to go on with, of which nothing but its structure is taken for granted.

        Raises `FileNotFoundError` where there is nothing to go on with, `ValueError` where it is damaged or
        another one, `OSError`.
        """
        self._fresh = fresh
        if fresh:
            _create(path, capacity_bytes, attempt)
        elif path.exists():
            _repair(path, attempt)
        super().__init__(path, "qcow2", capacity_bytes, attempt, writable=True)
        if not self._is_shareable:
            self.close()
            raise OSError(
                errno.ENOTSUP, "this qemu-nbd lets one client write only: version 7.1 or later is needed"
            )

    def write(self, offset: int, data: Content) -> None:
        view = memoryview(data)
        at = 0
        for start, end in cluster_runs(offset, data):
            self.zero(offset + at, start - at)
            while start < end:
                part = min(end - start, REQUEST_BYTES)
                with self._handle() as handle:
                    handle.pwrite(view[start : start + part], offset + start)
                start += part
            at = end
        self.zero(offset + at, len(view) - at)

    def zero(self, offset: int, length: int) -> None:
        if self._fresh or not length:
            return  # a hole by itself
        # Only what holds something: a zero that is written explicitly takes a table, if not a cluster.
        for start, stop in list(self.data_extents(offset, length)):
            while start < stop:
                part = min(stop - start, MAP_BYTES)
                with self._handle() as handle:
                    handle.zero(part, start)
                start += part

    def expect_rewrites(self) -> None:
        self._fresh = False

    def sync(self) -> None:
        with self._handle() as handle:
            handle.flush()


def cluster_runs(offset: int, data: Content) -> Iterator[tuple[int, int]]:
    """The runs of clusters that are not all zero, as start and end within the data."""
    first = last = -1
    for start, end in data_runs(data):
        start = max(0, start - (offset + start) % CLUSTER_BYTES)
        end = min(len(data), end + -(offset + end) % CLUSTER_BYTES)
        if first < 0:
            first = start
        elif start > last:
            yield first, last
            first = start
        last = end
    if first >= 0:
        yield first, last


@contextlib.contextmanager
def as_storage_error(path: Path) -> Iterator[None]:
    """What keeps an image of our own from being served, as the `OSError` that a `DiskImage` raises."""
    try:
        yield
    except (NbdServerError, ImageBusyError, ProcessError) as error:
        raise OSError(errno.EIO, str(error), str(path)) from error


def _create(path: Path, capacity_bytes: int, attempt: Attempt) -> None:
    if capacity_bytes % 512:
        raise HyperctlError(
            ErrorCode.IMAGE_INVALID,
            f"a qcow2 image has whole sectors of 512 bytes, this disk has {capacity_bytes} bytes",
            "Take it as raw (--format raw).",
        )
    # A new inode: what a left-over qemu-nbd of an earlier attempt still writes goes to the old one.
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    options = f"cluster_size={CLUSTER_BYTES},lazy_refcounts=off"
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, str(path), str(capacity_bytes)]
    try:
        run(argv, attempt, timeout_seconds=CREATE_TIMEOUT_SECONDS)
    except ProcessError as error:
        status = os.statvfs(path.parent)
        code = errno.EIO if status.f_bavail * status.f_frsize > CLUSTER_BYTES * 4 else errno.ENOSPC
        raise OSError(code, str(error), str(path)) from error


def _repair(path: Path, attempt: Attempt) -> None:
    """Give back what nobody refers to. Raises `ValueError` where more than that is wrong."""
    with as_storage_error(path):
        wait_until_free(path, "qcow2", attempt)
        argv = ["qemu-img", "check", "-q", "-f", "qcow2", "-r", "leaks", str(path)]
        ended = run(argv, attempt, timeout_seconds=CHECK_TIMEOUT_SECONDS, check=False)
    # 0: it is right now. 3: leaks that could not be repaired, which are waste only. 2: it is damaged.
    if ended.returncode not in (0, 3):
        raise ValueError(f"{path} is damaged: qemu-img check says {ended.complaint}")


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
