"""Reading a disk that an NBD server offers, with several requests on their way at a time.

Follows the NBD protocol (its doc/proto.md) by libnbd: a connection is driven by one thread; more than one is
opened only where the server says that they see the same (`NBD_FLAG_CAN_MULTI_CONN`), and holes are what it
reports in the metadata context `base:allocation`.
"""

import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import nbd

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.ranges import Connection, Extent
from hyperctl.activities.export.throttle import Stopped
from hyperctl.activities.nbd.server import NbdServer, NbdServerError
from hyperctl.workflows.errors import ErrorCode, HyperctlError

REQUEST_BYTES = 2 << 20
"""The most that VMware's library reads at a time through a vCenter."""
REQUESTS_IN_FLIGHT = 4
"""Of one connection: so much hides the way there and back."""
MAP_BYTES = 1 << 30
"""How much is asked about holes at a time."""
POLL_MILLISECONDS = 200
PATIENCE_SECONDS = 180.0
"""How long one answer may take: longer than what nbdkit tries by itself."""
HANG_UP_SECONDS = 5.0
"""How long answers that nobody wants any more are waited for: nbdkit 1.32 may abort, with every other
connection, where a client leaves while one is being sent."""
_STATE_ZERO = 2
_CONTEXT = "base:allocation"


class NbdReader:
    """A `DiskReader` over a server of our own."""

    def __init__(
        self,
        server: NbdServer,
        name: str,
        connections: int,
        stop: threading.Event,
        attempt: Attempt,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Ask the server about the disk. Raises `HyperctlError` (`transfer_interrupted`) or `Stopped`."""
        self._server = server
        self._name = name
        self._stop = stop
        self._attempt = attempt
        self._patience_seconds = patience_seconds
        with self._handle() as handle:
            self.capacity_bytes: int = handle.get_size()
            self.connections = connections if handle.can_multi_conn() else 1
            self._has_map: bool = handle.can_meta_context(_CONTEXT)

    def extents(self) -> Iterator[Extent]:
        """What the server knows of holes; the rest is data, also where it fails to say."""
        offset = 0
        if self._has_map:
            try:
                with self._handle() as handle:
                    while offset < self.capacity_bytes:
                        for extent in self._asked(handle, offset):
                            yield extent
                            offset += extent.length_bytes
            except HyperctlError as error:
                self._attempt.log.warning("%s; from %d on all of it is read", error, offset)
        if offset < self.capacity_bytes:
            yield Extent(offset, self.capacity_bytes - offset)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._handle() as handle:
            yield _NbdConnection(self, handle)

    def drive(self, handle: Any, is_done: Callable[[], bool]) -> None:
        """Let a handle work until something is true. Raises `Stopped`, `transfer_interrupted`."""
        deadline = time.monotonic() + self._patience_seconds
        try:
            while not is_done():
                if self._stop.is_set():
                    raise Stopped
                if time.monotonic() > deadline:
                    raise self.interrupted(f"no answer in {self._patience_seconds:.0f} s")
                handle.poll(POLL_MILLISECONDS)
        except nbd.Error as error:
            raise self.interrupted(error.string) from error

    def interrupted(self, reason: str) -> HyperctlError:
        reason = self._server.complaint or reason
        return HyperctlError(
            ErrorCode.TRANSFER_INTERRUPTED, f"the disk {self._name} cannot be read through NBD: {reason}"
        )

    @contextmanager
    def _handle(self) -> Iterator[Any]:
        """A connected handle."""
        try:
            self._server.revive()
        except NbdServerError as error:
            raise self.interrupted(str(error)) from error
        handle = nbd.NBD()
        try:
            handle.add_meta_context(_CONTEXT)
            # Every buffer is filled before anybody looks into it.
            handle.set_pread_initialize(False)
            handle.aio_connect_unix(str(self._server.socket))
            self.drive(handle, lambda: not handle.aio_is_connecting())
            if not handle.aio_is_ready():
                raise self.interrupted("the server refuses the connection")
            yield handle
        except nbd.Error as error:
            raise self.interrupted(error.string) from error
        finally:
            hang_up(handle, 0.0 if self._stop.is_set() else HANG_UP_SECONDS)

    def _asked(self, handle: Any, offset: int) -> list[Extent]:
        """The extents of a stretch from here on, at least one."""
        found: list[Extent] = []

        def take(context: str, start: int, entries: list[int], error: object) -> int:
            at = start
            for length, flags in zip(entries[::2], entries[1::2], strict=True):
                # The last may go beyond what was asked, and beyond the disk.
                length = min(length, self.capacity_bytes - at)
                if context == _CONTEXT and length > 0:
                    found.append(Extent(at, length, bool(flags & _STATE_ZERO)))
                    at += length
            return 0

        cookie = handle.aio_block_status(min(MAP_BYTES, self.capacity_bytes - offset), offset, take)
        self.drive(handle, lambda: handle.aio_command_completed(cookie))
        if not found:
            raise self.interrupted("the server says nothing of its holes")
        return found


def hang_up(handle: Any, seconds: float) -> None:
    """End a handle's connection, whoever still refers to the handle.

    What is on its way then is waited for that long, and lost.
    """
    deadline = time.monotonic() + seconds
    with contextlib.suppress(nbd.Error, OSError):
        while handle.aio_in_flight() and time.monotonic() < deadline:
            handle.poll(POLL_MILLISECONDS)
        if handle.aio_is_ready() and not handle.aio_in_flight():
            handle.shutdown()
        else:
            with socket.socket(fileno=os.dup(handle.aio_get_fd())) as connection:
                connection.shutdown(socket.SHUT_RDWR)


class _NbdConnection:
    """One handle, used by one thread."""

    def __init__(self, reader: NbdReader, handle: Any) -> None:
        self._reader = reader
        self._handle = handle

    @contextmanager
    def open(self, offset_bytes: int, length_bytes: int) -> Iterator["_NbdBody"]:
        yield _NbdBody(self._reader, self._handle, offset_bytes, length_bytes)


@dataclass(slots=True)
class _Request:
    cookie: int
    content: memoryview
    taken: int = 0


class _NbdBody:
    """The answers to several requests, in order."""

    def __init__(self, reader: NbdReader, handle: Any, offset_bytes: int, length_bytes: int) -> None:
        self._reader = reader
        self._handle = handle
        self._offset = offset_bytes
        self._end = offset_bytes + length_bytes
        self._requests: deque[_Request] = deque()

    def readinto(self, buffer: memoryview) -> int:
        self._ask()
        if not self._requests:
            return 0
        first = self._requests[0]
        if not first.taken:
            self._reader.drive(self._handle, lambda: self._handle.aio_command_completed(first.cookie))
        size = min(len(buffer), len(first.content) - first.taken)
        buffer[:size] = first.content[first.taken : first.taken + size]
        first.taken += size
        if first.taken == len(first.content):
            self._requests.popleft()
        return size

    def _ask(self) -> None:
        """Have as many requests on their way as there may be."""
        try:
            while self._offset < self._end and len(self._requests) < REQUESTS_IN_FLIGHT:
                size = min(REQUEST_BYTES, self._end - self._offset)
                content = bytearray(size)
                cookie = self._handle.aio_pread(nbd.Buffer.from_buffer(content), self._offset)
                self._requests.append(_Request(cookie, memoryview(content)))
                self._offset += size
        except nbd.Error as error:
            raise self._reader.interrupted(error.string) from error
