"""Whom to trust: the TLS context for every connection to a vCenter or an ESXi host.

Either one exact certificate is trusted, by its fingerprint, or the system's certificate authorities and
those of a file. There is no way to trust anything. A pinned fingerprint is compared inside the handshake
of every single socket, so nothing, not even a request line, is sent to a stranger; pyvmomi's own
`thumbprint` is not used, because it is looked at only after an authority has failed to vouch.
"""

import hashlib
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hyperctl.activities.settings import HostSettings
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.request import VCenter

PROBE_SECONDS = 10.0
_DIGESTS: dict[int, Callable[[bytes], "hashlib._Hash"]] = {40: hashlib.sha1, 64: hashlib.sha256}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's host name or address (an IPv6 one without brackets) and its TCP port."""

    host: str
    port: int = 443

    @classmethod
    def parse(cls, server: str) -> "Endpoint":
        """Read `HOST`, `HOST:PORT` or `[V6]:PORT`. Raises `HyperctlError` (`invalid_request`)."""
        text = server.strip()
        bracketed = re.fullmatch(r"\[([^\]]+)\](?::(\d+))?", text)
        plain = re.fullmatch(r"([^:/\s]+)(?::(\d+))?", text)
        match = bracketed or plain
        if match is None and text.count(":") > 1 and "/" not in text:
            return cls(text)
        if match is None or not 0 < int(match[2] or 443) < 65536:
            raise HyperctlError(
                ErrorCode.INVALID_REQUEST,
                f"{server!r} is no vCenter server",
                "Give a host name or an address, with :PORT where it is not 443, and no https://.",
            )
        return cls(match[1], int(match[2] or 443))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"


class PinMismatch(ssl.SSLCertVerificationError):
    """The server showed another certificate than the pinned one; nothing was sent to it."""


class _PinnedSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        certificate = self.getpeercert(binary_form=True) or b""
        pins = self.context.pins if isinstance(self.context, _PinnedContext) else frozenset()
        if not any(_DIGESTS[len(pin)](certificate).hexdigest() == pin for pin in pins):
            raise PinMismatch(1, "the server's certificate is not the pinned one")


class _PinnedContext(ssl.SSLContext):
    """No authority is asked: the handshake itself holds the certificate against the pins."""

    sslsocket_class = _PinnedSocket
    pins: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Trust:
    """The pinned fingerprints (lower-case hex without colons, SHA-256 or SHA-1), else authorities."""

    pins: frozenset[str] = frozenset()
    ca_file: Path | None = None

    @classmethod
    def chosen(cls, vcenter: VCenter, settings: HostSettings) -> "Trust":
        """The request's own pin, else the worker's pin, else the authorities that the worker knows.

        Raises `HyperctlError` where the worker's own pin is no SHA-256 fingerprint.
        """
        pin = plain_fingerprint(vcenter.certificate_sha256 or settings.vsphere_certificate_sha256)
        if pin and not re.fullmatch(r"[0-9a-f]{64}", pin):
            raise HyperctlError(
                ErrorCode.VCENTER_CERTIFICATE_UNTRUSTED,
                "the pinned certificate fingerprint is not 32 bytes in hexadecimal",
                "Correct HYPERCTL_VSPHERE_CERTIFICATE_SHA256 on the worker, or unset it.",
            )
        return cls(frozenset({pin}) if pin else frozenset(), settings.vsphere_ca_file)

    def context(self) -> ssl.SSLContext:
        """A client context that trusts exactly this. Raises `HyperctlError` for an unreadable CA file."""
        if self.pins:
            pinned = _PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
            pinned.minimum_version = ssl.TLSVersion.TLSv1_2
            pinned.check_hostname = False
            pinned.verify_mode = ssl.CERT_NONE
            pinned.pins = self.pins
            return pinned
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ca_file is not None:
            try:
                context.load_verify_locations(self.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise HyperctlError(
                    ErrorCode.VCENTER_CERTIFICATE_UNTRUSTED,
                    f"cannot read certificate authorities from {self.ca_file}: {error}",
                    "HYPERCTL_VSPHERE_CA_FILE on the worker must name a PEM file that it can read.",
                ) from error
        return context


def plain_fingerprint(text: str) -> str:
    """A fingerprint in lower case and without colons."""
    return text.replace(":", "").strip().lower()


def shown_fingerprint(digest: str) -> str:
    """A fingerprint as people compare it: `AB:CD:...`."""
    digest = digest.upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def server_fingerprint(endpoint: Endpoint, timeout_seconds: float = PROBE_SECONDS) -> str:
    """The SHA-256 fingerprint of the certificate that a server shows; nothing is sent to it.

    Only for telling a person what is there: nobody vouches for the answer. Raises `OSError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((endpoint.host, endpoint.port), timeout_seconds) as plain,
        context.wrap_socket(plain, server_hostname=endpoint.host) as connection,
    ):
        certificate = connection.getpeercert(binary_form=True) or b""
    return shown_fingerprint(hashlib.sha256(certificate).hexdigest())


def trusted_certificate(endpoint: Endpoint, trust: Trust, timeout_seconds: float) -> bytes:
    """The certificate that a server shows and that is trusted, DER: for programmes that check it themselves.

    Raises `OSError`, of which `ssl.SSLCertVerificationError` is one.
    """
    with (
        socket.create_connection((endpoint.host, endpoint.port), timeout_seconds) as plain,
        trust.context().wrap_socket(plain, server_hostname=endpoint.host) as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def sha1_thumbprint(certificate: bytes) -> str:
    """How VMware names a certificate (DER): `AB:CD:...`."""
    return shown_fingerprint(hashlib.sha1(certificate).hexdigest())


def untrusted(endpoint: Endpoint, error: ssl.SSLCertVerificationError) -> HyperctlError:
    """What to tell a person about a certificate that was refused: its fingerprint and how to trust it."""
    try:
        fingerprint = server_fingerprint(endpoint)
    except OSError as gone:
        fingerprint = f"(not to be had: {gone})"
    reason = getattr(error, "verify_message", "") or error.strerror or str(error)
    pinned = isinstance(error, PinMismatch)
    return HyperctlError(
        ErrorCode.VCENTER_CERTIFICATE_UNTRUSTED,
        f"the certificate of {endpoint} is not trusted: {reason}. Its SHA-256 fingerprint is {fingerprint}",
        ("It may have been renewed, or somebody is in between. " if pinned else "")
        + "Compare the fingerprint with the server's own, then trust it: "
        f"--certificate-sha256 {fingerprint} on the command line, or on the worker "
        "HYPERCTL_VSPHERE_CERTIFICATE_SHA256 (this one certificate) or HYPERCTL_VSPHERE_CA_FILE "
        "(a PEM file with the authority that signed it).",
    )
