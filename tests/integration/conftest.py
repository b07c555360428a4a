"""What integration tests share: a simulated vCenter with small guests, libvirt, a real guest."""

import hashlib
import json
import logging
import random
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from deploy.dev.guest.packages import agent_packages
from deploy.dev.libvirt import libvirt_in_use
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.convert.activity import convert_guest
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import ExportInput
from hyperctl.workflows.status import Phase
from tests.found_out import content_digest
from tests.integration.source_guest import ConvertedGuest, SourceGuest, add_units, read_source_guest
from tests.simulator import USERNAME, VCenterSimulator, running_vcenter

PASSWORD = "a password for tests"
LEASE_TIMEOUT_SECONDS = 5
MIB = 1 << 20


@pytest.fixture(scope="session")
def small_guests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their files, which nobody writes to."""
    folder = tmp_path_factory.mktemp("vcenter") / "guests"
    make_guests(folder)
    return folder


@pytest.fixture(scope="module")
def vcenter_sim(small_guests: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenterSimulator]:
    """One for each file: what a test leaves in it is nothing to those of other files."""
    state = tmp_path_factory.mktemp("state")
    with running_vcenter(
        small_guests, state, PASSWORD, lease_timeout_seconds=LEASE_TIMEOUT_SECONDS
    ) as simulator:
        yield simulator


@pytest.fixture
def sim(vcenter_sim: VCenterSimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[VCenterSimulator]:
    """The simulator without faults and sessions of other tests, and the worker's credentials for it."""
    monkeypatch.setenv("VSPHERE_USERNAME", USERNAME)
    monkeypatch.setenv("VSPHERE_PASSWORD", PASSWORD)
    vcenter_sim.fault("expire_sessions")
    vcenter_sim.call("DELETE", "/faults")
    yield vcenter_sim
    vcenter_sim.call("DELETE", "/faults")


@pytest.fixture(scope="session")
def libvirt_uri() -> Iterator[str]:
    with libvirt_in_use() as uri:
        yield uri


@pytest.fixture(scope="session")
def source_guest() -> SourceGuest:
    return read_source_guest()


@pytest.fixture(scope="session")
def converted_guest(source_guest: SourceGuest, guest_output_dir: Path) -> ConvertedGuest:
    """Converted once for all tests, which leave it as it is; with the guest agent, and `UNITS`."""
    staging = source_guest.land(guest_output_dir, f"job-converted-{secrets.token_hex(4)}")
    with TemporaryDirectory() as folder:
        add_units(staging.image(1), Path(folder))
    order = source_guest.order(staging, staging.image(1)).model_copy(
        update={"guest_packages": str(agent_packages())}
    )
    running = Attempt(Phase.CONVERT, logging.getLogger("test"))
    return ConvertedGuest(staging, order, convert_guest(order, running))


@pytest.fixture(scope="session")
def guest_output_dir() -> Iterator[Path]:
    """One that qemu, which runs as a user of its own, can pass through; pytest's are closed to others."""
    with TemporaryDirectory(dir="/var/tmp", prefix="hyperctl-test-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture
def own_tmp(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where our code puts what is temporary, so that it can be seen whether any is left."""
    tmp_path_factory.getbasetemp()  # pytest's own has its place by now
    with TemporaryDirectory() as folder:  # of a short name, for sockets
        Path(folder).chmod(0o711)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


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


@pytest.fixture
def staging(argument: ExportInput) -> Staging:
    """Where the copy lands that a module's own `argument` asks for."""
    return Staging(argument.output_dir, argument.job_id)


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
        "bsd-01": {"guest_id": "freebsd13_64Guest", "guest_full_name": "FreeBSD 13 (64-bit)"},
        "appliance-01": {"guest_id": "other5xLinux64Guest", "has_snapshot": True},
        "odd-01": {
            "guest_id": "rhel8_64Guest",
            "independent_disk": True,
            "consolidation_needed": True,
            "tools": "absent",
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


def state_of(images: Sequence[Path]) -> list[tuple[str, int, int, int]]:
    """Content, mode and owners: everything that a look at an image must leave as it was."""
    return [
        (content_digest(image), status.st_mode, status.st_uid, status.st_gid)
        for image in images
        for status in (image.stat(),)
    ]
