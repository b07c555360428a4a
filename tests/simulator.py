"""A simulated vCenter of one's own, for tests and benches."""

import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.dev.programme import VCENTER
from hyperctl.workflows.request import MigrationRequest, VCenter
from tests.moments import LONGEST_SECONDS, until

USERNAME = "administrator@vsphere.local"


@dataclass(frozen=True)
class VCenterSimulator:
    """The running simulator; `deploy/dev/vcenter/README.md` documents its control endpoint."""

    server: str
    control: str
    certificate_sha256: str
    ca_file: Path
    guests: Path

    def vcenter(self, **changes: Any) -> VCenter:
        return VCenter(**{"server": self.server, "certificate_sha256": self.certificate_sha256, **changes})

    def request(self, vm_name: str, **vcenter: Any) -> MigrationRequest:
        return MigrationRequest(vm_name=vm_name, vcenter=self.vcenter(**vcenter))

    def raw_disk(self, guest: str, index: int) -> Path:
        return self.guests / guest / f"disk{index}.raw"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.control + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=LONGEST_SECONDS) as answer:
            return json.loads(answer.read() or "null")

    def fault(self, kind: str, **fields: Any) -> int:
        """Its number, by which it can be lifted."""
        set_: dict[str, int] = self.call("POST", "/faults", {"kind": kind, **fields})
        return set_["id"]

    def lift(self, fault: int) -> None:
        """Remove a fault: what it stalls or slows down goes on."""
        self.call("DELETE", f"/faults/{fault}")

    def leases(self, vm_name: str) -> list[dict[str, Any]]:
        return [lease for lease in self.call("GET", "/leases") if lease["vm"] == vm_name]

    def active_leases(self) -> list[dict[str, Any]]:
        return [lease for lease in self.call("GET", "/leases") if lease["active"]]

    def sessions(self) -> int:
        return int(self.call("GET", "/sessions")["count"])

    def sent_bytes(self, transport: str = "") -> int:
        """Of disks since the start, by one transport (`nfc`, `folder`) or by all."""
        traffic: dict[str, int] = self.call("GET", "/traffic")
        return traffic.get(transport, 0) if transport else sum(traffic.values())

    def sends(self, transport: str = "", size_bytes: int = 1) -> Callable[[], bool]:
        """Says, whenever it is asked, whether so many bytes of disks have gone out from now on."""
        before = self.sent_bytes(transport)
        return lambda: self.sent_bytes(transport) - before >= size_bytes


@contextmanager
def running_vcenter(
    guests: Path,
    state: Path,
    password: str,
    *,
    lease_timeout_seconds: int = 300,
    datacenter: str = "DC1",
    listen: str = "127.0.0.1:0",
) -> Iterator[VCenterSimulator]:
    """Start it on free ports or at a given address, with its state in a folder, and end it."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    password_file = state / "password"
    password_file.write_text(password + "\n")
    arguments = {
        "--guests": guests,
        "--password-file": password_file,
        "--state": state,
        "--username": USERNAME,
        "--lease-timeout": f"{lease_timeout_seconds}s",
        "--datacenter": datacenter,
        "--listen": listen,
    }
    argv = [str(VCENTER.make()), *(str(part) for pair in arguments.items() for part in pair)]
    log_file = state / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        ready = state / "vcenter.json"
        until(lambda: ready.exists() or process.poll() is not None, "the simulated vCenter does not come up")
        assert process.poll() is None, log_file.read_text()
        facts = json.loads(ready.read_text())
        yield VCenterSimulator(
            server=facts["server"],
            control=facts["control"],
            certificate_sha256=facts["certificate_sha256"],
            ca_file=Path(facts["ca_file"]),
            guests=guests,
        )
    finally:
        process.terminate()
        process.wait(LONGEST_SECONDS)
