"""A login to a vCenter, and what its errors mean here.

Follows the vSphere Web Services API (SOAP) by pyvmomi. Calls of the session's own stub run on a thread
of their own while the caller goes on beating, so that a vCenter that does not answer neither costs the
attempt its heartbeat nor delays a cancel.
"""

import http.client
import socket
import ssl
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from xml.parsers.expat import ExpatError

from pyVmomi import SoapAdapter, VmomiSupport, vim, vmodl

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.certificate import Endpoint, Trust, untrusted
from hyperctl.activities.vsphere.credentials import Credentials, resolve
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.request import VCenter

POLL_SECONDS = 0.25
CLEAN_UP_SECONDS = 4.0
"""How long a call that puts something away may take: a cancel has five seconds in all."""
SESSION_COOKIE = "vmware_soap_session"
_VERSIONS_LIMIT_BYTES = 1 << 20

T = TypeVar("T")

_STUB: Any = SoapAdapter.SoapStubAdapter
_SERVICE_VERSIONS: Any = VmomiSupport.GetServiceVersions


def patiently(attempt: Attempt, work: Callable[[], T]) -> T:
    """Do something that blocks while the attempt goes on beating.

    When the attempt is to stop, the work is left behind to end by its own timeout.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="vsphere-call", daemon=True).start()
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    while not done.wait(POLL_SECONDS):
        attempt.checkpoint()
    return future.result()


class _PatientStub(SoapAdapter.SoapStubAdapter):
    """pyvmomi's transport, patient; a call that finds the session ended is made again in a new one."""

    def __init__(self, attempt: Attempt, renew: Callable[[str], None], **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._attempt = attempt
        self._renew = renew

    def InvokeMethod(self, mo: Any, info: Any, args: Any, outerStub: Any = None) -> Any:
        call: Callable[..., Any] = super().InvokeMethod

        def work() -> Any:
            sent = _plain_cookie(self.cookie)
            try:
                return call(mo, info, args, outerStub)
            except vim.fault.NotAuthenticated:
                if isinstance(mo, vim.HttpNfcLease):
                    raise  # a lease ends with the session that opened it
                self._renew(sent)
                return call(mo, info, args, outerStub)

        return patiently(self._attempt, work)


class Session:
    """A live login. `content` is the service's root; objects reached from it use the patient stub.

    A vCenter ends a session that has been idle for half an hour, and all of them when it restarts: `renew`
    logs in anew, once, however many threads notice.
    """

    def __init__(
        self, endpoint: Endpoint, trust: Trust, version: str, timeout_seconds: float, attempt: Attempt
    ) -> None:
        self.endpoint = endpoint
        self.trust = trust
        self.timeout_seconds = timeout_seconds
        self._version = version
        self._attempt = attempt
        self._renewal = threading.Lock()
        self._credentials: Credentials | None = None
        self._is_in = False
        self._is_over = threading.Event()
        self._stub = _PatientStub(attempt, self.renew, **self._options(timeout_seconds))
        self.content: Any = self.managed(vim.ServiceInstance, "ServiceInstance").RetrieveContent()

    def login(self, credentials: Credentials) -> None:
        """An attempt that is to stop does not wait for it, and leaves no login behind all the same."""
        try:
            patiently(self._attempt, lambda: self._log_in(credentials))
        except BaseException:
            self._is_over.set()
            if self._is_in:
                self._let_go()
            raise
        self._credentials = credentials

    def renew(self, ended_cookie: str) -> None:
        """Log in anew, unless another thread has already replaced the session of this cookie.

        Blocks, for any thread. Raises what the connection or the vCenter says.
        """
        with self._renewal:
            if self._credentials is None or self.cookie != ended_cookie:
                return
            ended = self.on(self.content.sessionManager, CLEAN_UP_SECONDS)
            self._log_in(self._credentials)
            # A session that only the files' server no longer takes must not be left behind.
            with suppress(OSError, http.client.HTTPException, vmodl.MethodFault):
                ended.Logout()
            self._attempt.log.warning("%s had ended the session; logged in anew", self.endpoint)

    def again(self, work: Callable[[], T]) -> T:
        """Do something, and once more in a new session where this one turns out to have ended."""
        sent = self.cookie
        try:
            return work()
        except vim.fault.NotAuthenticated:
            patiently(self._attempt, lambda: self.renew(sent))
            return work()

    def replace_cookie(self, sent: str, cookie: str) -> None:
        """The server has given the session that was `sent` another cookie."""
        with self._renewal:
            if self.cookie == sent:
                self._stub.cookie = cookie

    @property
    def username(self) -> str:
        """Who is logged in, for messages."""
        return self._credentials.username if self._credentials else "the user"

    def logout(self) -> None:
        """End the login. Raises what the connection or the vCenter says."""
        self._is_over.set()
        self.on(self.content.sessionManager, CLEAN_UP_SECONDS).Logout()

    def _log_in(self, credentials: Credentials) -> None:
        """In a new session, which is ended at once where this one is over by now."""
        stub: Any = _STUB(**self._options(self.timeout_seconds))
        manager = self.content.sessionManager
        type(manager)(manager._GetMoId(), stub).Login(credentials.username, credentials.password, None)
        self._stub.cookie = stub.cookie
        self._is_in = True
        if self._is_over.is_set():
            self._let_go()

    def _let_go(self) -> None:
        with suppress(OSError, http.client.HTTPException, vmodl.MethodFault):
            self.logout()

    @property
    def cookie(self) -> str:
        """The session's cookie, a secret: only for this very server."""
        return _plain_cookie(self._stub.cookie)

    def on(self, managed_object: Any, timeout_seconds: float) -> Any:
        """The same object over connections of its own, for another thread or a shorter patience."""
        stub: Any = _STUB(**self._options(timeout_seconds))
        stub.cookie = self._stub.cookie
        return type(managed_object)(managed_object._GetMoId(), stub)

    def managed(self, kind: Any, moref: str) -> Any:
        """The managed object with this reference."""
        return kind(moref, self._stub)

    def _options(self, timeout_seconds: float) -> dict[str, Any]:
        return {
            "host": self.endpoint.host,
            "port": self.endpoint.port,
            "version": self._version,
            "sslContext": self.trust.context(),
            "httpConnectionTimeout": timeout_seconds,
        }


@contextmanager
def open_session(vcenter: VCenter, settings: HostSettings, attempt: Attempt) -> Iterator[Session]:
    """Log in to a vCenter and out again.

    Within it, what pyvmomi raises comes out as `HyperctlError` with a code: `vcenter_unreachable`,
    `vcenter_name_unknown`, `vcenter_certificate_untrusted`, `authentication_failed`, `permission_denied`,
    `vcenter_fault`.
    """
    endpoint = Endpoint.parse(vcenter.server)
    trust = Trust.chosen(vcenter, settings)
    credentials = resolve(vcenter, settings)
    timeout = settings.vsphere_timeout_seconds
    with translated(endpoint, attempt, credentials.username):
        version = patiently(attempt, lambda: _api_version(endpoint, trust, timeout))
        session = Session(endpoint, trust, version, timeout, attempt)
        session.login(credentials)
        attempt.log.info("logged in to %s as %s (%s)", endpoint, credentials.username, version)
        try:
            yield session
        finally:
            try:
                session.logout()
            except (OSError, http.client.HTTPException, vmodl.MethodFault) as error:
                attempt.log.warning("could not log out of %s: %s", endpoint, fault_text(error))


@contextmanager
def translated(endpoint: Endpoint, attempt: Attempt, username: str = "") -> Iterator[None]:
    """Give errors of the connection and faults of the API their codes."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        # The loop variable dies with the except block, and the thread outlives neither.
        refused = error
        raise patiently(attempt, lambda: untrusted(endpoint, refused)) from error
    except (OSError, http.client.HTTPException, ExpatError, vmodl.MethodFault) as error:
        raise meaning(error, endpoint, username) from error


def meaning(error: Exception, endpoint: Endpoint, username: str = "") -> HyperctlError:
    """What an error of the connection or a fault of the vSphere API is to a person."""
    match error:
        case socket.gaierror() if error.errno != socket.EAI_AGAIN:
            return HyperctlError(
                ErrorCode.VCENTER_NAME_UNKNOWN,
                f"no such host: {endpoint.host}",
                "Check the vCenter's name, or the name servers of the worker's host.",
            )
        case TimeoutError():
            return _unreachable(endpoint, "it does not answer in time")
        case OSError():
            return _unreachable(endpoint, error.strerror or str(error))
        case http.client.HTTPException() | ExpatError():
            return _unreachable(endpoint, f"it does not answer as a vCenter does ({fault_text(error)})")
        case vim.fault.InvalidLogin():
            return HyperctlError(
                ErrorCode.AUTHENTICATION_FAILED,
                f"{endpoint} refuses the user name or password of {username or 'the user'}",
                "Check VSPHERE_USERNAME and VSPHERE_PASSWORD in the worker's environment, or its credentials "
                "file; the user name usually has a domain, as in name@vsphere.local.",
            )
        case vim.fault.NotAuthenticated():
            return HyperctlError(ErrorCode.VCENTER_FAULT, f"{endpoint} has ended the session of {username}")
        case vim.fault.NoPermission():
            privilege = getattr(error, "privilegeId", "") or "unknown"
            return HyperctlError(
                ErrorCode.PERMISSION_DENIED,
                f"{username or 'the user'} lacks the privilege {privilege} in {endpoint}",
                f"Give it a role with {privilege} on the virtual machine and what it stands on.",
            )
        case _:
            return HyperctlError(ErrorCode.VCENTER_FAULT, f"{endpoint} says: {fault_text(error)}")


def _plain_cookie(cookie: Any) -> str:
    """The name and the value of what a Set-Cookie header said."""
    return str(cookie).split(";", 1)[0]


def fault_text(error: BaseException) -> str:
    """An error in one line: a fault's own message and type, not pyvmomi's dump of the object."""
    if not isinstance(error, vmodl.MethodFault):
        return str(error) or type(error).__name__
    name = type(error).__name__.rsplit(".", 1)[-1]
    fault: Any = error
    details = [fault.msg or "", *(item.message or "" for item in fault.faultMessage or [])]
    text = "; ".join(detail.strip() for detail in details if detail.strip())
    return f"{text} ({name})" if text else name


def _unreachable(endpoint: Endpoint, reason: str) -> HyperctlError:
    return HyperctlError(
        ErrorCode.VCENTER_UNREACHABLE,
        f"cannot reach the vCenter {endpoint}: {reason}",
        f"Check that it is up and that the worker's host reaches its port {endpoint.port}.",
    )


def _api_version(endpoint: Endpoint, trust: Trust, timeout_seconds: float) -> str:
    """The newest version of the API that both sides speak, by the server's vimServiceVersions.xml.

    pyVim's own SmartConnect asks the same, but without any timeout.
    """
    connection = http.client.HTTPSConnection(
        endpoint.host, endpoint.port, timeout=timeout_seconds, context=trust.context()
    )
    try:
        connection.request("GET", "/sdk/vimServiceVersions.xml")
        answer = connection.getresponse()
        body = answer.read(_VERSIONS_LIMIT_BYTES)
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise http.client.HTTPException(f"{answer.status} {answer.reason}")
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise http.client.HTTPException(f"no list of API versions: {error}") from error
    offered = {element.text for element in root.iter("version")}
    for version in _SERVICE_VERSIONS("vim25"):
        if VmomiSupport.versionIdMap[version] in offered:
            return str(version)
    raise http.client.HTTPException("it speaks no version of the vSphere API that is known here")
