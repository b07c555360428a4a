"""A web server in front of the simulated vCenter, for what a real one may do and the simulator does not."""

import http.client
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from hyperctl.activities.vsphere.certificate import Endpoint, server_fingerprint
from hyperctl.workflows.request import VCenter
from tests.simulator import VCenterSimulator


@dataclass(frozen=True)
class Answer:
    """One answer; without a body only its headers."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Asked:
    """One request for a file."""

    target: str
    headers: dict[str, str]


Rule = Callable[[Asked], Answer | None]
"""What to answer in place of the simulator; None passes the request on to it."""
Change = Callable[[Asked, Answer], Answer]
"""What becomes of the simulator's answer."""


@dataclass
class Front:
    endpoint: Endpoint
    certificate: Path
    fingerprint: str
    requests: list[Asked] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)
    """The clients', of the connections on which they came."""
    rule: Rule = lambda asked: None
    change: Change = lambda asked, answer: answer
    hears: Callable[[bytes], object] = lambda body: None
    """What is done with a call of the API before it is passed on."""
    unanswered: int = 0
    """So many calls of the API from now on end with their connection, without an answer."""

    def vcenter(self) -> VCenter:
        return VCenter(server=str(self.endpoint), certificate_sha256=self.fingerprint)


@contextmanager
def front_of(sim: VCenterSimulator, folder: Path, address: str = "127.0.0.1") -> Iterator[Front]:
    """Serve TLS with a certificate of its own, which is an authority as well."""
    folder.mkdir()
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-subj", "/CN=front", "-addext", f"subjectAltName=IP:{address}", "-days", "2"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            front.hears(body)
            if front.unanswered:
                front.unanswered -= 1
                self.close_connection = True
                return
            self._answer(self._passed_on("POST", body))

        def do_GET(self) -> None:
            if not self.path.startswith("/folder/"):
                self._answer(self._passed_on("GET", b""))
                return
            asked = Asked(self.path, dict(self.headers.items()))
            front.requests.append(asked)
            front.ports.add(self.client_address[1])
            self._answer(front.rule(asked) or front.change(asked, self._passed_on("GET", b"")))

        def _passed_on(self, method: str, body: bytes) -> Answer:
            behind = Endpoint.parse(sim.server)
            trusting = ssl.create_default_context(cafile=sim.ca_file)
            trusting.check_hostname = False
            connection = http.client.HTTPSConnection(behind.host, behind.port, context=trusting)
            headers = {key: value for key, value in self.headers.items() if key.lower() != "host"}
            connection.request(method, self.path, body=body or None, headers=headers)
            answer = connection.getresponse()
            skipped = ("content-length", "transfer-encoding", "connection")
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in skipped}
            content = answer.read()
            connection.close()
            return Answer(answer.status, kept, content)

        def _answer(self, answer: Answer) -> None:
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if answer.headers.get("Transfer-Encoding") == "chunked":
                for at in range(0, len(answer.body), 100_000):
                    piece = answer.body[at : at + 100_000]
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.write(b"0\r\n\r\n")
            else:
                self.wfile.write(answer.body)
            self.close_connection |= answer.headers.get("Connection") == "close"

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that refuses the certificate, or goes in the middle of an answer, is meant to."""

    server = Server((address, 0), Handler)
    thread = threading.Thread(
        target=lambda: server.serve_forever(poll_interval=0.02), name="front", daemon=True
    )
    thread.start()
    endpoint = Endpoint(address, server.server_address[1])
    front = Front(endpoint, certificate, "")
    front.fingerprint = server_fingerprint(endpoint)
    try:
        yield front
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
