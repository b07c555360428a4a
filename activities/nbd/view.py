"""Disks as read-only NBD exports, fetched as they are read: an overlay can lie over a remote disk.

Each is a context manager of a running `NbdServer`, whose `uri` any qemu takes as a backing file of the format
raw.
"""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.image_file import image_info
from hyperctl.activities.nbd.command import (
    CurlDisk,
    VddkDisk,
    curl_command,
    file_command,
    image_command,
    vddk_command,
)
from hyperctl.activities.nbd.reader import NbdReader
from hyperctl.activities.nbd.secret import SecretFile
from hyperctl.activities.nbd.server import NbdServer, NbdServerError
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.certificate import sha1_thumbprint, trusted_certificate
from hyperctl.activities.vsphere.credentials import Credentials
from hyperctl.activities.vsphere.session import Session, patiently, translated
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.request import DiskFormat


@contextmanager
def opened_file(path: Path, image_format: str, attempt: Attempt) -> Iterator[NbdServer]:
    """An image on this host. Raises `HyperctlError` (`image_invalid`, `storage_failed`).

    An image that names another file, as a backing file or for its data, is refused.
    """
    if image_format != DiskFormat.RAW:
        try:
            alone = image_info(path, image_format, attempt).stands_alone
        except ValueError as error:
            raise HyperctlError(ErrorCode.IMAGE_INVALID, str(error)) from error
        if not alone:
            raise HyperctlError(
                ErrorCode.IMAGE_INVALID,
                f"{path} needs another file beside it",
                "Make one file of it: qemu-img convert.",
            )
    try:
        server = NbdServer(
            lambda place: (
                file_command(place, path)
                if image_format == DiskFormat.RAW
                else image_command(place, path, image_format)
            ),
            attempt,
        )
    except NbdServerError as error:
        raise HyperctlError(ErrorCode.STORAGE_FAILED, f"{path} cannot be served: {error}") from error
    with server:
        yield server


@contextmanager
def opened_datastore(session: Session, target: str, attempt: Attempt) -> Iterator[NbdServer]:
    """A file of a datastore, by the session that must stay open meanwhile.

    `target` is what to ask the vCenter's web server for, `/folder/vm/vm-flat.vmdk?dcPath=...&dsName=...`. The
    server is held against exactly the certificate that the session trusts, and against its name. Raises
    `HyperctlError` (`host_incapable`).
    """
    certificate = _certificate(session, attempt)
    with (
        SecretFile(session.cookie) as cookie,
        SecretFile(ssl.DER_cert_to_PEM_cert(certificate)) as authority,
    ):
        disk = CurlDisk(f"https://{session.endpoint}{target}", cookie.path, authority.path)
        descriptors = (cookie.descriptor, authority.descriptor)
        try:
            server = NbdServer(lambda place: curl_command(place, disk), attempt, descriptors)
        except NbdServerError as error:
            raise HyperctlError(
                ErrorCode.HOST_INCAPABLE,
                f"{target} cannot be served: {error}",
                "nbdkit with its curl plugin is needed: apt install nbdkit.",
            ) from error
        with server:
            _check_readable(server, target, attempt)
            yield server


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


def _check_readable(server: NbdServer, target: str, attempt: Attempt) -> None:
    """Connect once: nbdkit opens its source for each client anew, and says only then what is wrong."""
    try:
        NbdReader(server, target, 1, threading.Event(), attempt)
    except HyperctlError as error:
        raise HyperctlError(
            error.code,
            f"{error}: {server.last_words}",
            "The vCenter must be called by a name that its certificate is made for.",
        ) from error


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
