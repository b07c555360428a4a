"""Whom to trust: pins are held against every connection, authorities are asked otherwise."""

import hashlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.certificate import (
    Endpoint,
    PinMismatch,
    Trust,
    plain_fingerprint,
    server_fingerprint,
    shown_fingerprint,
    untrusted,
)
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.request import VCenter


@dataclass(frozen=True)
class Server:
    endpoint: Endpoint
    certificate: Path
    sha256: str
    sha1: str
    received: list[bytes]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Answers TLS on loopback with a certificate of its own and notes what it is sent."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    received: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(plain, server_side=True) as connection:
                    received.append(connection.recv(100))
                    connection.sendall(b"heard")
            except OSError:
                plain.close()

    threading.Thread(target=serve, daemon=True).start()
    yield Server(
        Endpoint("127.0.0.1", listener.getsockname()[1]),
        certificate,
        hashlib.sha256(der).hexdigest(),
        hashlib.sha1(der).hexdigest(),
        received,
    )
    # A blocked accept does not end with close alone.
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def talk(server: Server, trust: Trust) -> None:
    plain = socket.create_connection((server.endpoint.host, server.endpoint.port), 5)
    with plain, trust.context().wrap_socket(plain, server_hostname=server.endpoint.host) as connection:
        connection.sendall(b"secret")
        assert connection.recv(100) == b"heard"


def test_the_pinned_certificate_is_trusted(server: Server) -> None:
    talk(server, Trust(frozenset({server.sha256})))
    talk(server, Trust(frozenset({server.sha1})))


def test_every_connection_of_a_context_is_held_against_the_pin(server: Server) -> None:
    context = Trust(frozenset({"00" * 32})).context()
    before = len([data for data in server.received if data])
    for _ in range(2):
        plain = socket.create_connection((server.endpoint.host, server.endpoint.port), 5)
        with plain, pytest.raises(PinMismatch):
            context.wrap_socket(plain, server_hostname=server.endpoint.host)
    assert len([data for data in server.received if data]) == before, "nothing was sent to a stranger"


def test_without_a_pin_the_authorities_decide(server: Server) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        talk(server, Trust())
    talk(server, Trust(ca_file=server.certificate))
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        talk(
            Server(Endpoint("localhost", server.endpoint.port), server.certificate, "", "", []),
            Trust(ca_file=server.certificate),
        )


def test_a_pin_wins_over_an_authority(server: Server) -> None:
    with pytest.raises(PinMismatch):
        talk(server, Trust(frozenset({"00" * 32}), server.certificate))


def test_the_message_holds_the_fingerprint_and_the_way_out(server: Server) -> None:
    error = untrusted(server.endpoint, ssl.SSLCertVerificationError(1, "self-signed certificate"))
    shown = shown_fingerprint(server.sha256)
    assert server_fingerprint(server.endpoint) == shown
    assert error.code is ErrorCode.VCENTER_CERTIFICATE_UNTRUSTED
    assert shown in error.failure.message
    assert f"--certificate-sha256 {shown}" in error.failure.hint
    assert "renewed" not in error.failure.hint
    assert "renewed" in untrusted(server.endpoint, PinMismatch(1, "another")).failure.hint


def test_the_requests_pin_wins_over_the_workers() -> None:
    settings = HostSettings(vsphere_certificate_sha256="AA" * 32)
    of_worker = Trust.chosen(VCenter(server="vc"), settings)
    of_request = Trust.chosen(VCenter(server="vc", certificate_sha256=":".join(["BB"] * 32)), settings)
    assert of_worker.pins == {"aa" * 32}
    assert of_request.pins == {"bb" * 32}
    assert Trust.chosen(VCenter(server="vc"), HostSettings()).pins == frozenset()


def test_a_workers_pin_that_is_none_is_refused() -> None:
    with pytest.raises(HyperctlError, match="32 bytes"):
        Trust.chosen(VCenter(server="vc"), HostSettings(vsphere_certificate_sha256="abc"))


def test_an_unreadable_authority_file_is_said(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    for file in (junk, tmp_path / "missing.pem"):
        with pytest.raises(HyperctlError, match=file.name) as caught:
            Trust(ca_file=file).context()
        assert "HYPERCTL_VSPHERE_CA_FILE" in caught.value.failure.hint


@pytest.mark.parametrize(
    ("text", "endpoint", "shown"),
    [
        ("vcenter.example.com", Endpoint("vcenter.example.com"), "vcenter.example.com"),
        (" vc:8443 ", Endpoint("vc", 8443), "vc:8443"),
        ("vc:443", Endpoint("vc"), "vc"),
        ("[2001:db8::1]:8443", Endpoint("2001:db8::1", 8443), "[2001:db8::1]:8443"),
        ("2001:db8::1", Endpoint("2001:db8::1"), "[2001:db8::1]"),
    ],
)
def test_endpoints(text: str, endpoint: Endpoint, shown: str) -> None:
    assert Endpoint.parse(text) == endpoint
    assert str(endpoint) == shown


@pytest.mark.parametrize("text", ["https://vc", "vc:0", "vc:99999", "vc/sdk", "a b", "https://[::1]/sdk"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(HyperctlError) as caught:
        Endpoint.parse(text)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_fingerprints_are_compared_without_their_dress() -> None:
    assert plain_fingerprint("AB:cd:01 ") == "abcd01"
    assert shown_fingerprint("abcd01") == "AB:CD:01"
