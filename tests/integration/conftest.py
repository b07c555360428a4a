"""A simulated vCenter with small guests, for whatever talks to a vCenter."""

import hashlib
import json
import logging
import random
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.dev.simulator import make_vcenter
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.settings import HostSettings
from hyperctl.workflows.request import MigrationRequest, VCenter
from hyperctl.workflows.status import Phase

USERNAME = "administrator@vsphere.local"
PASSWORD = "a password for tests"
LEASE_TIMEOUT_SECONDS = 5
MIB = 1 << 20


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
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or "null")

    def fault(self, kind: str, **fields: Any) -> None:
        self.call("POST", "/faults", {"kind": kind, **fields})

    def leases(self, vm_name: str) -> list[dict[str, Any]]:
        return [lease for lease in self.call("GET", "/leases") if lease["vm"] == vm_name]

    def active_leases(self) -> list[dict[str, Any]]:
        return [lease for lease in self.call("GET", "/leases") if lease["active"]]


@pytest.fixture(scope="session")
def vcenter_sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenterSimulator]:
    folder = tmp_path_factory.mktemp("vcenter")
    guests, state = folder / "guests", folder / "state"
    make_guests(guests)
    password = folder / "password"
    password.write_text(PASSWORD + "\n")
    arguments = {
        "--guests": guests,
        "--password-file": password,
        "--state": state,
        "--username": USERNAME,
        "--lease-timeout": f"{LEASE_TIMEOUT_SECONDS}s",
    }
    argv = [str(make_vcenter()), *(str(part) for pair in arguments.items() for part in pair)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        ready = state / "vcenter.json"
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "the simulated vCenter did not come up in 30 s"
            time.sleep(0.05)
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
        process.wait(10)


@pytest.fixture
def sim(vcenter_sim: VCenterSimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[VCenterSimulator]:
    """The simulator without faults of other tests, and the worker's credentials for it."""
    monkeypatch.setenv("VSPHERE_USERNAME", USERNAME)
    monkeypatch.setenv("VSPHERE_PASSWORD", PASSWORD)
    vcenter_sim.call("DELETE", "/faults")
    yield vcenter_sim
    vcenter_sim.call("DELETE", "/faults")


@pytest.fixture
def settings(tmp_path: Path) -> HostSettings:
    return HostSettings(
        host="kvm-test",
        output_dir=str(tmp_path / "output"),
        work_dir=tmp_path / "work",
        vsphere_timeout_seconds=10.0,
    )


@pytest.fixture
def running() -> Attempt:
    """An attempt outside of Temporal; `stop()` is its cancel."""
    return Attempt(Phase.EXPORT, logging.getLogger("test"))


def make_guests(folder: Path) -> None:
    """Small guests: one with two disks of data and holes, and one for each thing to refuse."""
    nic = {
        "mac": "00:50:56:AA:BB:01",
        "network": "VM Network",
        "adapter": "vmxnet3",
        "addresses": ["192.0.2.10/24", "fe80::250:56ff:feaa:bb01/64"],
    }
    web = make_guest(
        folder, "web-server-01", [24 * MIB + 199 * 1024, 9 * MIB], nics=[nic], annotation="the shop"
    )
    others: dict[str, dict[str, Any]] = {
        "web-server-02": {},
        "db-master": {"esxi_host": "esxi-02.example.com", "nics": [nic | {"mac": "00:50:56:aa:bb:02"}]},
        "running-01": {"power_state": "poweredOn"},
        "windows-01": {
            "guest_id": "windows2019srv_64Guest",
            "guest_full_name": "Microsoft Windows Server 2019",
        },
        "appliance-01": {"guest_id": "other5xLinux64Guest", "has_snapshot": True},
        "odd-01": {
            "guest_id": "rhel8_64Guest",
            "independent_disk": True,
            "consolidation_needed": True,
            "power_state": "poweredOn",
        },
        "rdm-01": {"physical_rdm": True},
        "secret-01": {"encrypted": True, "vtpm": True},
    }
    for name, facts in others.items():
        make_guest(folder, name, [], **facts)
        for file in ("disk2.raw", "disk2.vmdk"):
            (folder / name / file.replace("2", "1")).hardlink_to(web / file)


def make_guest(folder: Path, name: str, capacities: list[int], **facts: Any) -> Path:
    """One guest's folder. Without capacities it is for one disk that the caller puts there."""
    guest = folder / name
    guest.mkdir(parents=True)
    disks = max(1, len(capacities))
    document = {
        "name": name,
        "guest_id": "debian12_64Guest",
        "guest_full_name": "Debian GNU/Linux 12 (64-bit)",
        "host_name": name,
        "disks": [{"flat": f"disk{n}.raw", "stream": f"disk{n}.vmdk"} for n in range(1, disks + 1)],
        **facts,
    }
    (guest / "guest.json").write_text(json.dumps(document))
    for number, capacity in enumerate(capacities, start=1):
        raw, stream = guest / f"disk{number}.raw", guest / f"disk{number}.vmdk"
        write_disk(raw, capacity, seed=number)
        convert = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]
        subprocess.run([*convert, str(raw), str(stream)], check=True)
        with stream.open("ab") as file:
            file.write(bytes(512))  # qemu-img writes no end-of-stream marker where its padding is not one
    return guest


def write_disk(path: Path, capacity: int, seed: int) -> None:
    """A sparse disk: noise, text, single bytes in wide holes, data in its last bytes."""
    source = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(capacity)
        for offset, content in (
            (0, b"\xeb\x63boot" + bytes(500)),
            (MIB + 4096, source.randbytes(5 * MIB + 123)),
            (7 * MIB + 70_000, b"the quick brown fox\n" * 20_000),
            (8 * MIB + 5, b"\x01"),
            (capacity - 700, source.randbytes(700)),
        ):
            file.seek(offset)
            file.write(content[: capacity - offset])


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
