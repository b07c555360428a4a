"""The boot proof on a real guest: converted and not, cancelled, killed."""

import hashlib
import json
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from temporalio.exceptions import CancelledError

from deploy.dev.libvirt import URI
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.chain import BaseDisk
from hyperctl.activities.convert.overlay import fresh_overlays
from hyperctl.activities.prove.activity import prove_and_record
from hyperctl.activities.staging import Staging
from hyperctl.activities.target.libvirt_host import connect, find_domain
from hyperctl.workflows.contract import ProveInput
from hyperctl.workflows.disk import ConvertedDisk
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.request import ProveMode
from hyperctl.workflows.status import Phase
from tests.integration.source_guest import ConvertedGuest, SourceGuest
from tests.unit.machines import landed

MAC = "00:50:56:aa:bb:01"


pytestmark = pytest.mark.timeout(1800)
"""Guests in software emulation on a busy machine take ten times what they take on their own."""


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


@pytest.fixture(scope="module")
def converted(converted_guest: ConvertedGuest, libvirt_uri: str) -> Prepared:
    return _prepared(converted_guest.staging, converted_guest.order.machine, converted_guest.result.disks)


@pytest.fixture(scope="module")
def unconverted(source_guest: SourceGuest, guest_output_dir: Path, libvirt_uri: str) -> Prepared:
    """The guest as it came from VMware, under an overlay that changes nothing."""
    staging = source_guest.land(guest_output_dir, f"job-unconverted-{secrets.token_hex(4)}")
    disks = (BaseDisk.landed(landed(staging.image(1))),)
    return _prepared(staging, source_guest.machine, fresh_overlays(disks, staging, attempt()))


def _prepared(staging: Staging, machine: Machine, disks: tuple[ConvertedDisk, ...]) -> Prepared:
    argument = ProveInput(
        job_id=staging.job_id,
        output_dir=str(staging.folder.parents[1]),
        machine=machine,
        disks=disks,
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
