"""The boot proof on a real guest: converted and not, cancelled, killed."""

import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from temporalio.exceptions import CancelledError

from deploy.dev.libvirt import URI, ensure_libvirt, release_libvirt
from deploy.dev.prepare import load_parts
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.convert.activity import ConvertActivities
from hyperctl.activities.prove.activity import prove_and_record
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.activities.target.libvirt_host import connect, find_domain
from hyperctl.workflows.contract import ConvertInput, ProveInput
from hyperctl.workflows.disk import ConvertedDisk, LandedDisk
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import Machine, MachineNic
from hyperctl.workflows.request import Fixers, ProveMode
from hyperctl.workflows.status import Phase
from tests.unit.machines import disk, machine

GUEST = "web-server-01"
MAC = "00:50:56:aa:bb:01"


@dataclass(frozen=True)
class Prepared:
    """A guest's disk in a job's staging folder, with an overlay over it."""

    staging: Staging
    argument: ProveInput

    @property
    def domain_name(self) -> str:
        return f"hyperctl-proof-{self.argument.job_id}"

    @property
    def images(self) -> list[Path]:
        return [Path(path) for disk in self.argument.disks for path in (disk.base, disk.overlay)]

    def state(self) -> list[tuple[str, int, int, int]]:
        """Content, mode and owners of everything that a proof must leave as it was."""
        found = []
        for path in self.images:
            status = path.stat()
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            found.append((content, status.st_mode, status.st_uid, status.st_gid))
        return found

    def domain_is_there(self) -> bool:
        with connect(URI) as connection:
            return find_domain(connection, self.domain_name) is not None

    def prove(self, running: Attempt | None = None) -> float:
        """Prove it and say how many seconds that took."""
        started = time.monotonic()
        prove_and_record(self.argument, URI, running or attempt())
        return time.monotonic() - started

    def assert_nothing_is_left(self) -> None:
        assert not self.domain_is_there()
        assert not self.staging.proof().exists()


def attempt() -> Attempt:
    return Attempt(Phase.PROVE, logging.getLogger("test"))


@pytest.fixture(scope="module", autouse=True)
def libvirt_daemon() -> Iterator[None]:
    user = Path(__file__)
    ensure_libvirt(user)
    yield
    release_libvirt(user)


@pytest.fixture(scope="module")
def output_dir() -> Iterator[Path]:
    """One that qemu, which runs as a user of its own, can pass through; pytest's are closed to others."""
    with TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="module")
def source() -> Machine:
    """The development guest as vSphere would describe it."""
    document = json.loads((load_parts().guests / GUEST / "guest.json").read_text())
    nics = tuple(
        MachineNic(
            key=4000 + number,
            label=f"Network adapter {number + 1}",
            mac=nic["mac"],
            network=nic["network"],
            adapter=nic["adapter"],
            addresses=tuple(address for address in nic["addresses"] if not address.startswith("fe80:")),
        )
        for number, nic in enumerate(document["nics"])
    )
    assert [nic.mac.lower() for nic in nics] == [MAC]
    return machine(name=GUEST, nics=nics, disks=(disk(),))


def land(output_dir: Path, job_id: str) -> Staging:
    staging = Staging(output_dir, job_id)
    staging.create()
    raw = load_parts().guests / GUEST / "disk1.raw"
    copy = ["cp", "--reflink=auto", "--sparse=always", str(raw), str(staging.image(1))]
    subprocess.run(copy, check=True, timeout=120)
    staging.image(1).chmod(0o600)
    return staging


@pytest.fixture(scope="module")
def converted(output_dir: Path, source: Machine) -> Prepared:
    staging = land(output_dir, "job-converted")
    image = staging.image(1)
    landed = LandedDisk(
        index=1,
        source_name="disk1.vmdk",
        path=str(image),
        format="raw",
        ledger="",
        capacity_bytes=image.stat().st_size,
        allocated_bytes=0,
        received_bytes=0,
        digest_algorithm="sha256",
        root_digest="",
    )
    argument = ConvertInput(
        job_id=staging.job_id, output_dir=str(output_dir), machine=source, disks=(landed,), fix=Fixers()
    )
    settings = HostSettings(work_dir=output_dir / "work", output_dir=str(output_dir))
    result = ConvertActivities(settings).convert_guest(argument)
    return Prepared(
        staging,
        ProveInput(
            job_id=staging.job_id,
            output_dir=str(output_dir),
            machine=source,
            disks=result.disks,
            mode=ProveMode.FULL,
        ),
    )


@pytest.fixture(scope="module")
def unconverted(output_dir: Path, source: Machine) -> Prepared:
    """The guest as it came from VMware, under an overlay that changes nothing."""
    staging = land(output_dir, "job-unconverted")
    base, overlay = staging.image(1), staging.overlay(1)
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(overlay)]
    subprocess.run(create, check=True, timeout=60)
    overlay.chmod(0o600)
    only = ConvertedDisk(
        index=1,
        base=str(base),
        base_format="raw",
        overlay=str(overlay),
        capacity_bytes=base.stat().st_size,
    )
    argument = ProveInput(
        job_id=staging.job_id,
        output_dir=str(output_dir),
        machine=source,
        disks=(only,),
        mode=ProveMode.FULL,
    )
    return Prepared(staging, argument)


def test_a_converted_guest_proves_itself(converted: Prepared) -> None:
    before = converted.state()
    proof = prove_and_record(converted.argument, URI, attempt()).proof
    assert proof.passed, proof.problems
    assert proof.multi_user
    assert proof.failed_units == ()
    assert {mount.target for mount in proof.mounts} >= {"/"}
    assert all(mount.active for mount in proof.mounts)
    (nic,) = proof.nics
    assert (nic.mac, nic.name) == (MAC, "ens192")
    assert nic.missing_addresses == ()
    assert "192.0.2.10/24" in nic.addresses
    assert proof.default_routes
    assert converted.state() == before, "neither base nor overlay may be written, or change hands"
    converted.assert_nothing_is_left()
    assert converted.prove() < 2, "what is proved is not proved again"


def test_an_unconverted_guest_is_found_out_with_the_reason(unconverted: Prepared) -> None:
    before = unconverted.state()
    with pytest.raises(HyperctlError) as failed:
        unconverted.prove()
    assert failed.value.code is ErrorCode.PROOF_FAILED
    assert "root device not found" in str(failed.value)
    kept = Path(unconverted.argument.output_dir) / ".errors" / unconverted.argument.job_id
    assert (kept / "screenshot.png").read_bytes().startswith(b"\x89PNG")
    assert b"does not exist" in (kept / "serial.log").read_bytes()
    document = json.loads((kept / "proof.json").read_text())
    assert document["passed"] is False
    assert "root device not found" in document["diagnosis"]
    assert document["screenshot"] == str(kept / "screenshot.png")
    assert str(kept / "screenshot.png") in failed.value.failure.hint
    assert unconverted.state() == before
    unconverted.assert_nothing_is_left()


@pytest.mark.parametrize("moment", ["injection", "boot"])
def test_a_cancel_ends_it_within_five_seconds(unconverted: Prepared, moment: str) -> None:
    running = attempt()
    cancelled_at: list[float] = []

    def cancel() -> None:
        while not (
            unconverted.staging.proof().exists() if moment == "injection" else unconverted.domain_is_there()
        ):
            time.sleep(0.1)
        time.sleep(3)
        cancelled_at.append(time.monotonic())
        running.stop()

    thread = threading.Thread(target=cancel)
    thread.start()
    before = unconverted.state()
    with pytest.raises(CancelledError):
        unconverted.prove(running)
    assert time.monotonic() - cancelled_at[0] < 5
    thread.join()
    assert unconverted.state() == before
    unconverted.assert_nothing_is_left()


def test_killed_it_leaves_no_domain_and_can_be_done_again(unconverted: Prepared, tmp_path: Path) -> None:
    document = tmp_path / "input.json"
    document.write_text(unconverted.argument.model_dump_json())
    programme = (
        "import sys, logging; from pathlib import Path\n"
        "from hyperctl.activities.attempt import Attempt\n"
        "from hyperctl.activities.prove.activity import prove_and_record\n"
        "from hyperctl.workflows.contract import ProveInput; from hyperctl.workflows.status import Phase\n"
        "argument = ProveInput.model_validate_json(Path(sys.argv[1]).read_bytes())\n"
        "prove_and_record(argument, sys.argv[2], Attempt(Phase.PROVE, logging.getLogger('child')))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", programme, str(document), URI])
    deadline = time.monotonic() + 300
    while not unconverted.domain_is_there():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.5)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while unconverted.domain_is_there():
        assert time.monotonic() < deadline, "libvirt ends a trial whose owner is gone"
        time.sleep(0.2)
    running = attempt()
    threading.Timer(2, running.stop).start()
    with pytest.raises(CancelledError):
        unconverted.prove(running)
    unconverted.assert_nothing_is_left()
    assert all(os.access(path, os.R_OK) for path in unconverted.images)
