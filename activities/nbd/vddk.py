"""A disk of a vCenter as a read-only NBD export, by VMware's library behind nbdkit."""

from collections.abc import Iterator
from contextlib import contextmanager

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.nbd.command import VddkDisk, vddk_command
from hyperctl.activities.nbd.secret import SecretFile
from hyperctl.activities.nbd.server import NbdServer, NbdServerError
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.certificate import sha1_thumbprint, trusted_certificate
from hyperctl.activities.vsphere.credentials import Credentials
from hyperctl.activities.vsphere.session import Session, patiently, translated
from hyperctl.workflows.errors import ErrorCode, HyperctlError


@contextmanager
def opened_vddk(
    session: Session,
    credentials: Credentials,
    settings: HostSettings,
    machine: str,
    file: str,
    attempt: Attempt,
    snapshot: str = "",
) -> Iterator[NbdServer]:
    """A disk by VMware's library, of a machine that is off or of a snapshot; both by their references.

    `file` is the datastore path as the machine, or the snapshot, has it. Raises `HyperctlError`
    (`host_incapable`).
    """
    if settings.vddk_library_dir is None:
        raise library_missing(settings)
    certificate = _certificate(session, attempt)
    with SecretFile(credentials.password) as password:
        disk = VddkDisk(
            library_dir=settings.vddk_library_dir,
            server=session.endpoint.host,
            port=session.endpoint.port,
            user=credentials.username,
            password_file=password.path,
            thumbprint=sha1_thumbprint(certificate),
            machine=machine,
            file=file,
            snapshot=snapshot,
            transports=settings.vddk_transports,
        )
        try:
            server = NbdServer(lambda place: vddk_command(place, disk), attempt, (password.descriptor,))
        except NbdServerError as error:
            raise HyperctlError(ErrorCode.HOST_INCAPABLE, f"{file} cannot be served: {error}") from error
        with server:
            yield server


def _certificate(session: Session, attempt: Attempt) -> bytes:
    """Of the session's server, DER."""

    def fetch() -> bytes:
        return trusted_certificate(session.endpoint, session.trust, session.timeout_seconds)

    with translated(session.endpoint, attempt):
        return patiently(attempt, fetch)


def library_missing(settings: HostSettings) -> HyperctlError:
    return HyperctlError(
        ErrorCode.HOST_INCAPABLE,
        f"VMware's library (VDDK) is not configured on {settings.host}",
        "Unpack VMware's Virtual Disk Development Kit on the worker's host and set "
        "HYPERCTL_VDDK_LIBRARY_DIR to its folder, or choose another --transport.",
    )
