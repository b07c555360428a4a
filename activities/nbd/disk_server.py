"""An NBD server of this process, on a Unix socket: it shows a disk that is read in here, and ends with us.

For what nbdkit's plugins cannot do: a session that is renewed, a certificate that is pinned, an answer that
is held against the request, and the very error for which a disk cannot be read.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.chain import nbd_address
from hyperctl.activities.export.throttle import Stopped
from hyperctl.activities.nbd import protocol
from hyperctl.activities.nbd.fetched import FetchedDisk
from hyperctl.activities.nbd.protocol import Command, Errno, Handshake, Option, OptionReply, Request
from hyperctl.workflows.errors import ErrorCode, HyperctlError

LONGEST_PATH_BYTES = 107
"""unix(7)."""
MOST_CLIENTS = 16
READS_AT_ONCE = 16
"""Of one client, beside those that wait for nothing."""
MOST_WAITING = 64
"""Requests of one client; more of them are not taken from its connection."""


class DiskServer:
    """Shows a disk read-only to everybody who may open the socket."""

    def __init__(self, disk: FetchedDisk, path: Path, attempt: Attempt, group: int | None = None) -> None:
        """Listen at once. `group` may connect too, else only our own user.

        Raises `HyperctlError` where the path is longer than a socket's may be.
        """
        self.path = path
        self._disk = disk
        self._attempt = attempt
        self._lock = threading.Lock()
        self._clients: set[_Client] = set()
        if len(os.fsencode(path)) > LONGEST_PATH_BYTES:
            raise HyperctlError(
                ErrorCode.INVALID_REQUEST,
                f"{path} is too long for a socket, which has at most {LONGEST_PATH_BYTES} bytes",
                "Give a shorter --output-dir.",
            )
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listening.bind(str(path))
            os.chmod(path, 0o600)
            if group is not None:
                os.chown(path, -1, group)
                os.chmod(path, 0o660)
            self._listening.listen(MOST_CLIENTS)  # nobody can connect before
        except BaseException:
            self._listening.close()
            raise
        self._thread = threading.Thread(target=self._accept, name="nbd-accept", daemon=True)
        self._thread.start()

    def __enter__(self) -> "DiskServer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        return nbd_address(self.path)

    def close(self) -> None:
        """End every connection and remove the socket; the disk cannot be read any more."""
        self._disk.stop()
        with contextlib.suppress(OSError):  # closed before
            # Only a shutdown wakes a thread that waits in accept.
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        with self._lock:
            clients = tuple(self._clients)
        for client in clients:
            client.hang_up()
        for client in clients:
            client.join()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return  # closed
            with self._lock:
                if len(self._clients) >= MOST_CLIENTS:
                    connection.close()
                    continue
                client = _Client(self._disk, connection, self._attempt, self._ended)
                self._clients.add(client)
            client.start()

    def _ended(self, client: "_Client") -> None:
        with self._lock:
            self._clients.discard(client)


class _Client(threading.Thread):
    """One connection: its requests are read here, those that have to wait are answered by other threads."""

    def __init__(
        self,
        disk: FetchedDisk,
        connection: socket.socket,
        attempt: Attempt,
        ended: Callable[["_Client"], None],
    ) -> None:
        super().__init__(name="nbd-client", daemon=True)
        self._disk = disk
        self._connection = connection
        self._attempt = attempt
        self._ended = ended
        self._sending = threading.Lock()
        self._waiting = threading.Semaphore(MOST_WAITING)

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):  # the other side was faster
            self._connection.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        try:
            with self._connection, ThreadPoolExecutor(READS_AT_ONCE, "nbd-read") as readers:
                if self._negotiated():
                    self._serve(readers)
        except (OSError, EOFError):
            pass  # the client has gone, in good order or not
        except protocol.ProtocolError as error:
            self._attempt.log.warning("an NBD client of %s is sent away: %s", self._disk.name, error)
        finally:
            self._ended(self)

    def _negotiated(self) -> bool:
        """Whether the client wants the disk after all."""
        ours = Handshake.FIXED_NEWSTYLE | Handshake.NO_ZEROES
        self._send(protocol.GREETING + int(ours).to_bytes(2, "big"))
        theirs = Handshake(int.from_bytes(self._receive(4), "big") & ours)
        capacity = self._disk.capacity_bytes
        while True:
            option, length = protocol.read_option(self._receive(protocol.OPTION_BYTES))
            self._receive(length)  # the name of the export: there is one
            if option == Option.EXPORT_NAME:
                self._send(protocol.old_export_reply(capacity, zeroes=Handshake.NO_ZEROES not in theirs))
                return True
            if option in (Option.GO, Option.INFO):
                self._send(protocol.export_reply(option, capacity))
                if option == Option.GO:
                    return True
            elif option == Option.ABORT:
                self._send(protocol.option_reply(option, OptionReply.ACK))
                return False
            elif option == Option.LIST:
                unnamed = protocol.option_reply(option, OptionReply.SERVER, bytes(4))
                self._send(unnamed + protocol.option_reply(option, OptionReply.ACK))
            else:
                self._send(protocol.option_reply(option, OptionReply.UNSUPPORTED))

    def _serve(self, readers: ThreadPoolExecutor) -> None:
        while True:
            request = protocol.read_request(self._receive(protocol.REQUEST_BYTES))
            if request.command == Command.DISCONNECT:
                return
            refusal = request.refusal(self._disk.capacity_bytes)
            if request.command == Command.WRITE:
                raise protocol.ProtocolError("it writes to a disk that was said to be read-only")
            if refusal or request.command == Command.FLUSH:
                self._send(protocol.reply(request, refusal))
            elif self._disk.has(request.offset_bytes, request.length_bytes):
                self._answer(request)
            else:
                self._waiting.acquire()
                readers.submit(self._answer_later, request)

    def _answer_later(self, request: Request) -> None:
        try:
            self._answer(request)
        except OSError:
            self.hang_up()
        finally:
            self._waiting.release()

    def _answer(self, request: Request) -> None:
        try:
            content = self._disk.read(request.offset_bytes, request.length_bytes)
        except (HyperctlError, Stopped):
            self._send(protocol.reply(request, Errno.IO))
        else:
            self._send(protocol.reply(request) + content)

    def _send(self, data: bytes) -> None:
        with self._sending:
            self._connection.sendall(data)

    def _receive(self, size: int) -> bytes:
        """Exactly so many bytes. Raises `EOFError` where the client has gone."""
        data = bytearray()
        while len(data) < size:
            part = self._connection.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)
