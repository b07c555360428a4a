"""The transport every vSphere offers: an export lease, streamOptimized VMDKs over HTTPS.

One thread reads the network and hashes what came, another takes the stream apart, and those of the
assembler unpack, hash and write blocks; what waits between them is bounded, which keeps memory flat. There
is no Range: a stream that breaks is begun anew.
"""

import hashlib
import http.client
import queue
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from hyperctl.activities.export.assembly import assemble
from hyperctl.activities.export.landing import Landing
from hyperctl.activities.export.throttle import Stopped
from hyperctl.activities.export.transport import Received, Terms
from hyperctl.activities.export.vmdk import StreamVmdk, VmdkError, VmdkTruncated
from hyperctl.activities.export.vsphere import VSphereMachine, opened_machine
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.certificate import Endpoint, Trust, untrusted
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.lease import DeviceUrl, Lease, export_lease, match_urls
from hyperctl.activities.vsphere.session import Session
from hyperctl.workflows.contract import ExportInput
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import MachineDisk

CHUNK_BYTES = 256 << 10
QUEUE_CHUNKS = 64
POLL_SECONDS = 0.2
TRICKLE_SILENCES = 2
"""In which a whole chunk must have come: a server that sends a byte now and then is given up."""
_ALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))
"""tcp(7): that a silent host is still there is asked after 30 seconds, and no longer believed after 90."""
_JOIN_SECONDS = 2.0


@contextmanager
def nfc_transport(argument: ExportInput, settings: HostSettings, terms: Terms) -> Iterator["_NfcMachine"]:
    """The machine in its vCenter. Opening it for copying takes an export lease."""
    with opened_machine(argument, settings, terms.attempt) as (session, source):
        yield _NfcMachine(session, source, terms)


class _NfcMachine(VSphereMachine):
    @contextmanager
    def open(self) -> Iterator["_NfcSource"]:
        """Export under a lease, which is completed when the block ends well and aborted when not."""
        with export_lease(self.session, self.source, self.terms.attempt) as lease:
            yield _NfcSource(self.session, self.source, lease, self.terms)


class _NfcSource:
    def __init__(self, session: Session, source: SourceMachine, lease: Lease, terms: Terms) -> None:
        self._session = session
        self._lease = lease
        self._terms = terms
        self._urls = match_urls(lease.urls, source.machine.disks)

    def version(self, disk: MachineDisk) -> str:
        return ""

    def copy(self, disk: MachineDisk, landing: Landing, stop: threading.Event) -> Received:
        download = Download(self._session, self._urls[disk.key], disk.name, self._terms.silence_seconds)

        def took(size_bytes: int) -> None:
            landing.received(size_bytes)
            self._terms.throttle.take(size_bytes, stop)

        landing.done_bytes = 0
        download.start()
        try:
            self._decode(disk, landing, _Stream(download, took, stop))
        finally:
            download.close()
        return Received(download.received_bytes, download.sha1)

    def _decode(self, disk: MachineDisk, landing: Landing, stream: "_Stream") -> None:
        try:
            vmdk = StreamVmdk(stream.read)
            if vmdk.capacity_bytes != disk.capacity_bytes:
                raise HyperctlError(
                    ErrorCode.IMAGE_INVALID,
                    f"the stream of {disk.name} holds a disk of {vmdk.capacity_bytes} bytes, "
                    f"vSphere says {disk.capacity_bytes}",
                )
            assemble(landing, vmdk.grains())
        except VmdkTruncated as error:
            raise HyperctlError(
                ErrorCode.TRANSFER_INTERRUPTED, f"the stream of {disk.name} was cut off: {error}"
            ) from error
        except VmdkError as error:
            raise HyperctlError(
                ErrorCode.TRANSFER_CORRUPT, f"the stream of {disk.name} is damaged: {error}"
            ) from error

    def confirm(self, disk: MachineDisk, received: Received) -> str | None:
        entry = self._lease.manifest().get(self._urls[disk.key].key)
        if entry is None:
            return None
        if entry.size_bytes != received.received_bytes or (
            entry.sha1 and entry.sha1.lower() != received.sha1
        ):
            raise HyperctlError(
                ErrorCode.TRANSFER_CORRUPT,
                f"{disk.name} did not arrive as it was sent: {received.received_bytes} bytes with SHA-1 "
                f"{received.sha1}, the source sent {entry.size_bytes} with {entry.sha1 or 'no checksum'}",
                "It is fetched anew.",
            )
        return f"sha1:{entry.sha1.lower()}" if entry.sha1 else ""

    def told(self, percent: int) -> None:
        self._lease.told(percent)

    def check(self) -> None:
        self._lease.check()

    def diagnose(self) -> None:
        self._lease.probe()


class Download(threading.Thread):
    """Reads one URL to its end on a thread of its own. `chunks` ends with None; then see `error`."""

    def __init__(self, session: Session, device: DeviceUrl, name: str, silence_seconds: float) -> None:
        super().__init__(name=f"nfc-{name}", daemon=True)
        self.chunks: queue.Queue[memoryview | None] = queue.Queue(QUEUE_CHUNKS)
        self.error: HyperctlError | None = None
        self.received_bytes = 0
        self.silence_seconds = silence_seconds
        self._disk = name
        self._used: deque[memoryview] = deque()
        self._sha1 = hashlib.sha1()
        self._closed = threading.Event()
        self._socket: socket.socket | None = None
        parts = urlsplit(device.url)
        own = session.endpoint
        host = own.host if parts.hostname in (None, "*") else parts.hostname or own.host
        self._endpoint = Endpoint(host, parts.port or 443)
        self._path = parts.path + (f"?{parts.query}" if parts.query else "")
        self._headers = {"Connection": "close"}
        self._timeout_seconds = session.timeout_seconds
        self._trust = session.trust
        if host == own.host:
            if self._endpoint.port == own.port:
                self._headers["Cookie"] = session.cookie
        elif device.thumbprint:
            # An ESXi host's own certificate, of which the vCenter, which is trusted, has told.
            self._trust = Trust(frozenset({device.thumbprint}))

    @property
    def sha1(self) -> str:
        return self._sha1.hexdigest()

    def run(self) -> None:
        try:
            self._fetch()
        except HyperctlError as error:
            self.error = error
        except ssl.SSLCertVerificationError as error:
            self.error = untrusted(self._endpoint, error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = "no data for too long" if isinstance(error, TimeoutError) else str(error) or repr(error)
            self.error = self.interrupted(reason)
        self._put(None)

    def take_back(self, chunk: memoryview) -> None:
        """Fill this chunk anew: memory that is there already is faster than new."""
        if len(chunk) == CHUNK_BYTES:
            self._used.append(chunk)

    def close(self) -> None:
        """Stop at once, wherever it is."""
        self._closed.set()
        if self._socket is not None:
            try:
                # Of the plain socket: SSLSocket.shutdown takes the TLS state from under the reading thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                self._closed.set()  # it had ended by itself
        self.join(_JOIN_SECONDS)

    def _fetch(self) -> None:
        connection = http.client.HTTPSConnection(
            self._endpoint.host,
            self._endpoint.port,
            timeout=self._timeout_seconds,
            context=self._trust.context(),
        )
        try:
            connection.connect()
            self._socket = connection.sock
            self._be_patient(connection.sock)
            connection.request("GET", self._path, headers=self._headers)
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                raise self.interrupted(f"{self._endpoint} answers {answer.status} {answer.reason}")
            announced = answer.length
            while not self._closed.is_set():
                chunk = self._used.popleft() if self._used else memoryview(bytearray(CHUNK_BYTES))
                size = answer.readinto(chunk)
                if not size:
                    break
                self._sha1.update(chunk[:size])
                self.received_bytes += size
                self._put(chunk[:size])
            if announced is not None and self.received_bytes < announced:
                raise self.interrupted(f"{self.received_bytes} of {announced} bytes came")
        finally:
            connection.close()

    def _be_patient(self, stream: socket.socket) -> None:
        """A host may be silent for long; whether it is still there is TCP's to find out."""
        stream.settimeout(self.silence_seconds)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _ALIVE:
            stream.setsockopt(socket.IPPROTO_TCP, option, value)

    def _put(self, data: memoryview | None) -> None:
        while not self._closed.is_set():
            try:
                self.chunks.put(data, timeout=POLL_SECONDS)
                return
            except queue.Full:
                continue

    def interrupted(self, reason: str) -> HyperctlError:
        """That the stream has broken off, and why."""
        return HyperctlError(
            ErrorCode.TRANSFER_INTERRUPTED,
            f"the stream of {self._disk} from {self._endpoint} broke off "
            f"after {self.received_bytes} bytes: {reason}",
        )


class _Stream:
    """The chunks of a download as something that can be read from."""

    def __init__(self, download: Download, took: Callable[[int], None], stop: threading.Event) -> None:
        self._download = download
        self._took = took
        self._stop = stop
        self._chunk = memoryview(b"")
        self._at = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """So many bytes, fewer only at the end. Raises what broke the download off, or `Stopped`."""
        piece = self._chunk[self._at : self._at + size]
        self._at += len(piece)
        if len(piece) == size:
            return bytes(piece)
        pieces = [bytes(piece)]
        left = size - len(piece)
        while left and self._next():
            piece = self._chunk[:left]
            self._at = len(piece)
            left -= len(piece)
            pieces.append(bytes(piece))
        return b"".join(pieces)

    def _next(self) -> bool:
        self._download.take_back(self._chunk)
        began = time.monotonic()
        while not self._ended:
            if self._stop.is_set():
                raise Stopped
            try:
                chunk = self._download.chunks.get(timeout=POLL_SECONDS)
            except queue.Empty:
                longest = TRICKLE_SILENCES * self._download.silence_seconds
                if time.monotonic() - began > longest:
                    reason = f"not even {CHUNK_BYTES >> 10} KiB came in {longest:.0f} s"
                    raise self._download.interrupted(reason) from None
                continue
            if chunk is not None:
                self._took(len(chunk))
                self._chunk, self._at = chunk, 0
                return True
            self._ended = True
            self._chunk, self._at = memoryview(b""), 0
            if self._download.error is not None:
                raise self._download.error
        return False
