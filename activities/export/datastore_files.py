"""Files on a datastore, read over HTTPS in the session of a login.

vSphere Web Services SDK programming guide, "Managing Storage Data by Using HTTP Access"; RFC 9110 for ranges,
redirects and Retry-After. A vCenter may pass a request on to an ESXi host: only an authority vouches for
that one, and it never gets the session's cookie. A session that has ended is renewed.
"""

import http.client
import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urljoin, urlsplit

from pyVmomi import vmodl

from hyperctl.activities.export.throttle import Stopped
from hyperctl.activities.vsphere.certificate import Endpoint, Trust, untrusted
from hyperctl.activities.vsphere.session import SESSION_COOKIE, Session, fault_text, meaning
from hyperctl.workflows.errors import ErrorCode, HyperctlError

READ_BYTES = 1 << 20
"""At most so much at once: large enough that Python costs nothing beside TLS, small enough to stop in it."""
TRICKLE_SECONDS = 300.0
"""A server that has not sent so much in that time, though something now and then, is given up."""
MOST_REDIRECTS = 5
MOST_RENEWALS = 2
LONGEST_RETRY_AFTER_SECONDS = 30
_REDIRECTS = (301, 302, 303, 307, 308)
_BUSY = (429, 503)
_DRAINED_BYTES = 64 << 10
_URL_CHARACTERS = "%:/?#[]@!$&'()*+,;=~"
_GUARD_SECONDS = 0.2
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_PRIVILEGES = (
    "Give the user a role with Datastore.Browse and Datastore.FileManagement (Browse datastore, Low level "
    "file operations) on the datastore, or copy with --transport nfc."
)


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells one state of a file from another; a server need not say all of it."""

    size_bytes: int
    etag: str
    modified: str

    def __str__(self) -> str:
        return f"{self.size_bytes} bytes, ETag {self.etag or '-'}, modified {self.modified or '-'}"


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer whose body has not been read."""

    name: str
    """Of the file, for messages."""
    endpoint: Endpoint
    """Who answers, which need not be who was asked."""
    response: http.client.HTTPResponse


class RangeAnswer:
    """The bytes that were asked for, in their order. `state` is the whole file's."""

    def __init__(self, reader: "FileReader", answer: "_Answer", state: FileState, left_bytes: int) -> None:
        self.state = state
        self.left_bytes = left_bytes
        self._reader = reader
        self._answer = answer

    def readinto(self, buffer: memoryview) -> int:
        """Some more of them, 0 only at their end. Raises as `FileReader.range` does."""
        view = buffer[: min(READ_BYTES, self.left_bytes)]
        if not view:
            return 0
        with self._reader.translated(self._answer.endpoint, self._answer.name):
            size = self._answer.response.readinto(view)
            if not size:
                raise http.client.HTTPException(f"{self.left_bytes} bytes of the answer are missing")
        self.left_bytes -= size
        return size


class DatastoreFiles:
    """Opens readers of a vCenter's datastores. Used as a context manager, whose end closes none of them."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._lock = threading.Lock()
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._readers: set[FileReader] = set()
        self._ended = threading.Event()
        self._guard = threading.Thread(target=self._interrupt_stopped, name="datastore-guard", daemon=True)

    def __enter__(self) -> "DatastoreFiles":
        self._guard.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._guard.join()

    @contextmanager
    def reader(self, stop: threading.Event) -> "Iterator[FileReader]":
        """A reader for one thread. `stop` makes whatever it waits for raise `Stopped`."""
        reader = FileReader(self, stop)
        with self._lock:
            self._readers.add(reader)
        try:
            yield reader
        finally:
            with self._lock:
                self._readers.discard(reader)
            reader.close()

    def context(self, endpoint: Endpoint) -> ssl.SSLContext:
        """A pinned certificate is the vCenter's; other hosts are vouched for by authorities alone."""
        trust = self.session.trust
        own = endpoint == self.session.endpoint
        with self._lock:
            if own not in self._contexts:
                self._contexts[own] = (trust if own else Trust(ca_file=trust.ca_file)).context()
            return self._contexts[own]

    def _interrupt_stopped(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(_GUARD_SECONDS)
            with self._lock:
                readers = tuple(self._readers)
            for reader in readers:
                reader.interrupt_if_pointless()


class FileReader:
    """Kept-alive connections of one thread. What can pass by itself raises `transfer_interrupted`."""

    def __init__(self, files: DatastoreFiles, stop: threading.Event) -> None:
        self._files = files
        self._session = files.session
        self._stop = stop
        self._connections: dict[Endpoint, http.client.HTTPSConnection] = {}
        self._active: socket.socket | None = None
        """Also where http.client has let go of it, because the answer is the connection's last."""
        self._waiting_since = math.inf
        self._is_given_up = False

    def whole(self, target: str, name: str, most_bytes: int) -> bytes:
        """All of a small file. Raises `HyperctlError`, `image_invalid` for a larger one."""
        with self._answered(target, name, {}) as answer:
            if answer.response.status != http.client.OK:
                raise self._refused(answer)
            with self.translated(answer.endpoint, name):
                data = answer.response.read(most_bytes + 1)
                if len(data) <= most_bytes and answer.response.length:
                    raise http.client.IncompleteRead(data, answer.response.length)
            if len(data) > most_bytes:
                raise HyperctlError(ErrorCode.IMAGE_INVALID, f"{name} has more than {most_bytes} bytes")
            return data

    def state(self, target: str, name: str) -> FileState:
        """The state of a file that can be read in ranges."""
        with self.range(target, name, 0, 1) as answer:
            answer.readinto(memoryview(bytearray(1)))
            return answer.state

    @contextmanager
    def range(
        self, target: str, name: str, offset_bytes: int, length_bytes: int, state: FileState | None = None
    ) -> Iterator[RangeAnswer]:
        """Exactly these bytes of a file; only an answer that is read whole leaves its connection open.

        Raises `HyperctlError`: `transfer_corrupt` for another range than the one asked for and, where a state
        is given, for a file that is no longer in it; `transfer_interrupted`, `permission_denied`,
        `image_invalid`, `vcenter_fault`, `vcenter_certificate_untrusted`.
        """
        asked = {"Range": f"bytes={offset_bytes}-{offset_bytes + length_bytes - 1}"}
        with self._answered(target, name, asked) as answer:
            found = self._state(answer, offset_bytes, length_bytes)
            if state is not None and found != state:
                raise HyperctlError(
                    ErrorCode.TRANSFER_CORRUPT,
                    f"{name} has changed while it was copied: from {state} to {found}",
                    "It is copied anew. Find out who writes to the disk of a machine that is off.",
                )
            body = RangeAnswer(self, answer, found, length_bytes)
            yield body
            if body.left_bytes == 0 and not answer.response.isclosed():
                with self.translated(answer.endpoint, name):
                    more = answer.response.read(1)
                if more:
                    raise _wrong_range(name, f"more than the {length_bytes} bytes that were asked for")

    @contextmanager
    def translated(self, endpoint: Endpoint, name: str) -> Iterator[None]:
        """Around whatever touches the network, and nothing else: errors of a storage are `OSError`, too."""
        self._waiting_since = time.monotonic()
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as error:
            if self._stop.is_set():
                raise Stopped from error
            reason = "no data for too long" if isinstance(error, TimeoutError) else str(error) or repr(error)
            if self._is_given_up:
                reason = f"not even {READ_BYTES >> 10} KiB came in {TRICKLE_SECONDS:.0f} s"
            # What a server says in place of a status line is its own choice, and its length too.
            raise _interrupted(f"reading {name} from {endpoint} broke off: {reason[:200]}") from error
        finally:
            self._waiting_since = math.inf

    def interrupt_if_pointless(self) -> None:
        """From another thread: end what the reader waits for, where it is to stop or waits for too long."""
        active = self._active
        if time.monotonic() - self._waiting_since > TRICKLE_SECONDS:
            self._is_given_up = True
        if (self._stop.is_set() or self._is_given_up) and active is not None:
            # Of the plain socket: SSLSocket.shutdown takes the TLS state from under the reading thread.
            with suppress(OSError):  # it had ended by itself
                socket.socket.shutdown(active, socket.SHUT_RDWR)

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    @contextmanager
    def _answered(self, target: str, name: str, headers: dict[str, str]) -> Iterator[_Answer]:
        self._is_given_up = False
        with self.translated(self._session.endpoint, name):
            answer = self._ask(target, name, headers)
        try:
            yield answer
        finally:
            if not answer.response.isclosed():
                self._connections[answer.endpoint].close()
                answer.response.close()

    def _ask(self, target: str, name: str, headers: dict[str, str]) -> _Answer:
        """An answer that is neither a redirect nor, if that helps, a demand to log in."""
        own = self._session.endpoint
        endpoint, redirects, renewals = own, 0, 0
        while True:
            cookie = self._session.cookie if endpoint == own else ""
            response = self._send(endpoint, target, headers, cookie)
            if endpoint == own:
                self._take_cookie(cookie, response)
            if response.status in _REDIRECTS:
                redirects += 1
                if redirects > MOST_REDIRECTS:
                    raise HyperctlError(
                        ErrorCode.VCENTER_FAULT, f"{own} redirects {name} more than {MOST_REDIRECTS} times"
                    )
                self._drain(endpoint, response)
                location = response.getheader("Location", "")
                endpoint, target = self._redirected(endpoint, target, location, name)
            elif response.status == http.client.UNAUTHORIZED and endpoint == own and renewals < MOST_RENEWALS:
                renewals += 1
                self._drain(endpoint, response)
                self._renew(cookie)
            else:
                return _Answer(name, endpoint, response)

    def _redirected(self, before: Endpoint, target: str, location: str, name: str) -> tuple[Endpoint, str]:
        # Spaces and the like, which no URL has and some servers send.
        url = quote(location, safe=_URL_CHARACTERS)
        try:
            parts = urlsplit(urljoin(f"https://{before}{target}", url))
            host, port = parts.hostname, parts.port or 443
        except ValueError:
            host, port = None, 0
        if host is None or parts.scheme != "https":
            raise HyperctlError(
                ErrorCode.VCENTER_FAULT,
                f"{before} redirects {name} to {url[:200]!r}, which is not HTTPS",
                "Copy with --transport nfc.",
            )
        own = self._session.endpoint
        endpoint = Endpoint(host, port)
        if (endpoint.host, endpoint.port) == (own.host.lower(), own.port):
            endpoint = own
        return endpoint, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def _drain(self, endpoint: Endpoint, response: http.client.HTTPResponse) -> None:
        """Read a short answer whose text nobody wants, so that its connection can be used again."""
        response.read(_DRAINED_BYTES)
        if not response.isclosed():
            response.close()
            self._connections[endpoint].close()

    def _send(
        self, endpoint: Endpoint, target: str, headers: dict[str, str], cookie: str
    ) -> http.client.HTTPResponse:
        if self._stop.is_set():
            raise Stopped
        connection = self._connections.get(endpoint)
        if connection is None:
            connection = self._connections[endpoint] = http.client.HTTPSConnection(
                endpoint.host,
                endpoint.port,
                timeout=self._session.timeout_seconds,
                context=self._files.context(endpoint),
            )
        everything = {"Accept-Encoding": "identity", **headers, **({"Cookie": cookie} if cookie else {})}
        was_open = connection.sock is not None
        try:
            return self._exchange(connection, target, everything)
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise untrusted(endpoint, error) from error
        except (ConnectionError, http.client.RemoteDisconnected, ssl.SSLEOFError):
            connection.close()
            if not was_open or self._stop.is_set():
                raise
            # The server had closed a connection that was kept: nothing was begun on it.
            return self._exchange(connection, target, everything)
        except BaseException:
            connection.close()
            raise

    def _exchange(
        self, connection: http.client.HTTPSConnection, target: str, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        if connection.sock is None:
            connection.connect()
            if self._stop.is_set():
                raise Stopped
        self._active = connection.sock
        connection.request("GET", target, headers=headers)
        return connection.getresponse()

    def _take_cookie(self, sent: str, response: http.client.HTTPResponse) -> None:
        for header in response.headers.get_all("Set-Cookie", []):
            try:
                morsel = SimpleCookie(header).get(SESSION_COOKIE)
            except CookieError:
                continue
            if morsel is None or not morsel.value or morsel["max-age"] == "0":
                continue
            expires = parsedate_tz(morsel["expires"])
            if expires is None or mktime_tz(expires) > time.time():
                self._session.replace_cookie(sent, f"{SESSION_COOKIE}={morsel.coded_value}")

    def _renew(self, cookie: str) -> None:
        session = self._session
        try:
            session.renew(cookie)
        except ssl.SSLCertVerificationError as error:
            raise untrusted(session.endpoint, error) from error
        except (OSError, http.client.HTTPException, vmodl.MethodFault) as error:
            meant = meaning(error, session.endpoint, session.username)
            if not meant.code.is_transient:
                raise meant from error
            raise _interrupted(f"the session could not be renewed: {fault_text(error)}") from error

    def _state(self, answer: _Answer, offset: int, length: int) -> FileState:
        """What an answer to a request for a range says of the file, after holding it against the request."""
        response, name = answer.response, answer.name
        if response.status == http.client.OK:
            raise _wrong_range(name, "the whole file (200, not 206)")
        if response.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _wrong_range(name, f"nothing: it ends before byte {offset}")
        if response.status != http.client.PARTIAL_CONTENT:
            raise self._refused(answer)
        said = response.getheader("Content-Range", "")
        match = _CONTENT_RANGE.fullmatch(said)
        if match is None or (int(match[1]), int(match[2])) != (offset, offset + length - 1):
            raise _wrong_range(name, f"the range {said[:100]!r}")
        announced = response.getheader("Content-Length")
        if announced is not None and announced.strip() != str(length):
            raise _wrong_range(name, f"{announced[:30]} bytes in place of {length}")
        if response.getheader("Content-Encoding", "identity") != "identity":
            raise _wrong_range(name, f"an encoding ({response.getheader('Content-Encoding')})")
        return FileState(
            int(match[3]), response.getheader("ETag", ""), response.getheader("Last-Modified", "")
        )

    def _refused(self, answer: _Answer) -> HyperctlError:
        """What an answer without the file means."""
        endpoint, response, name = answer.endpoint, answer.response, answer.name
        status, said = response.status, f"{endpoint} answers {response.status} {response.reason}"
        user = self._session.username
        if status in _BUSY:
            self._wait_as_told(response.getheader("Retry-After", ""))
        if status == http.client.UNAUTHORIZED and endpoint != self._session.endpoint:
            return HyperctlError(
                ErrorCode.PERMISSION_DENIED,
                f"the vCenter passes the request for {name} on to {endpoint}, which wants a login of its own",
                "Copy with --transport nfc.",
            )
        if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            return HyperctlError(
                ErrorCode.PERMISSION_DENIED, f"{user} may not read {name}: {said}", _PRIVILEGES
            )
        if status == http.client.NOT_FOUND:
            return HyperctlError(
                ErrorCode.IMAGE_INVALID,
                f"{name} is not there, or not for {user}: {said}",
                _PRIVILEGES,
            )
        if status in (408, 425, 429) or status >= 500:
            return _interrupted(f"{name} cannot be read now: {said}")
        return HyperctlError(
            ErrorCode.VCENTER_FAULT, f"{name} cannot be read: {said}", "Copy with --transport nfc."
        )

    def _wait_as_told(self, retry_after: str) -> None:
        """In seconds; a date, which RFC 9110 allows as well, is left to the caller's own pauses."""
        if not re.fullmatch(r"\s*\d{1,9}\s*", retry_after):
            return
        if self._stop.wait(min(int(retry_after), LONGEST_RETRY_AFTER_SECONDS)):
            raise Stopped


def _interrupted(message: str) -> HyperctlError:
    return HyperctlError(ErrorCode.TRANSFER_INTERRUPTED, message)


def _wrong_range(name: str, got: str) -> HyperctlError:
    return HyperctlError(
        ErrorCode.TRANSFER_CORRUPT,
        f"asked for a range of {name}, the server sends {got}",
        "Nothing of it was taken. Where it stays so, copy with --transport nfc.",
    )
