"""The boot proof of a guest that does not boot, cancelled, killed; `test_matrix` has one that is passed."""

import json
import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
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
from hyperctl.workflows.contract import CONVERT_GUEST, ConvertResult, ProveInput
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.guest import GuestSystem
from hyperctl.workflows.request import ProveMode
from hyperctl.workflows.status import Phase
from tests.integration.conftest import state_of
from tests.integration.source_guest import SourceGuest
from tests.moments import SOON_SECONDS, once, until
from tests.processes import is_worked_on
from tests.unit.machines import landed

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
        return state_of(self.images)

    def domain_is_there(self) -> bool:
        with connect(URI) as connection:
            return find_domain(connection, self.domain_name) is not None

    def prove(self, running: Attempt | None = None) -> None:
        prove_and_record(self.argument, URI, running or attempt())

    def assert_nothing_is_left(self) -> None:
        assert not self.domain_is_there()
        assert not self.staging.proof().exists()


def attempt() -> Attempt:
    return Attempt(Phase.PROVE, logging.getLogger("test"))


@pytest.fixture(scope="module")
def unconverted(source_guest: SourceGuest, guest_output_dir: Path, libvirt_uri: str) -> Prepared:
    return prepared_guest(source_guest, guest_output_dir)


def prepared_guest(source_guest: SourceGuest, guest_output_dir: Path) -> Prepared:
    """The guest as it came from VMware, under an overlay that changes nothing."""
    staging = source_guest.land(guest_output_dir, f"job-unconverted-{secrets.token_hex(4)}")
    disks = (BaseDisk.landed(landed(staging.image(1))),)
    argument = ProveInput(
        job_id=staging.job_id,
        output_dir=str(staging.folder.parents[1]),
        machine=source_guest.machine,
        disks=fresh_overlays(disks, staging, attempt()),
        mode=ProveMode.FULL,
    )
    return Prepared(staging, argument)


def test_an_unconverted_guest_is_found_out_with_the_reason(unconverted: Prepared) -> None:
    before = unconverted.state()
    with pytest.raises(HyperctlError) as failed:
        unconverted.prove()
    assert failed.value.code is ErrorCode.PROOF_FAILED
    assert "root device not found" in str(failed.value)
    kept = Path(unconverted.argument.output_dir) / ".errors" / unconverted.argument.job_id
    assert (kept / "proof.png").read_bytes().startswith(b"\x89PNG")
    assert b"does not exist" in (kept / "proof.serial.log").read_bytes()
    document = json.loads((kept / "proof.json").read_text())
    assert document["passed"] is False
    assert "root device not found" in document["diagnosis"]
    assert document["screenshot"] == str(kept / "proof.png")
    assert str(kept / "proof.png") in failed.value.failure.hint
    assert unconverted.state() == before
    unconverted.assert_nothing_is_left()


def cancel_at(prepared: Prepared, reached: Callable[[], bool]) -> None:
    """A cancel three seconds after a moment ends the proof soon, and leaves nothing."""
    running = attempt()

    def cancel() -> None:
        time.sleep(3)
        running.stop()

    before = prepared.state()
    with once(reached, cancel) as moment, pytest.raises(CancelledError):
        prepared.prove(running)
    assert moment.seconds < 3 + SOON_SECONDS
    assert prepared.state() == before
    prepared.assert_nothing_is_left()


def test_a_cancel_while_the_reporter_is_put_in_ends_it_soon(unconverted: Prepared) -> None:
    cancel_at(unconverted, lambda: is_worked_on(unconverted.staging.proof()))


@pytest.fixture
def booted_at_once(source_guest: SourceGuest, guest_output_dir: Path, libvirt_uri: str) -> Prepared:
    """The same disk by the name of a system that no reporter is put into: its proof begins with the boot."""
    prepared = prepared_guest(source_guest, guest_output_dir)
    guest = GuestSystem(
        product_name="Windows Server 2019",
        distribution="windows",
        major_version=10,
        minor_version=0,
        host_name="",
        root_device="/dev/sda2",
        filesystems=(),
        kernels=(),
        initramfs_tool="",
    )
    found = ConvertResult(disks=prepared.argument.disks, guest=guest, steps=(), duration_seconds=0)
    prepared.staging.finish(CONVERT_GUEST.name, found)
    return prepared


def test_killed_in_the_boot_it_leaves_no_domain_and_is_done_again_until_a_cancel(
    booted_at_once: Prepared, tmp_path: Path
) -> None:
    document = tmp_path / "input.json"
    document.write_text(booted_at_once.argument.model_dump_json())
    programme = (
        "import sys, logging; from pathlib import Path\n"
        "from hyperctl.activities.attempt import Attempt\n"
        "from hyperctl.activities.prove.activity import prove_and_record\n"
        "from hyperctl.workflows.contract import ProveInput; from hyperctl.workflows.status import Phase\n"
        "argument = ProveInput.model_validate_json(Path(sys.argv[1]).read_bytes())\n"
        "prove_and_record(argument, sys.argv[2], Attempt(Phase.PROVE, logging.getLogger('child')))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", programme, str(document), URI])
    until(lambda: booted_at_once.domain_is_there() or process.poll() is not None, seconds=300)
    assert process.poll() is None
    process.kill()
    process.wait()
    until(lambda: not booted_at_once.domain_is_there(), "libvirt ends a trial whose owner is gone")
    cancel_at(booted_at_once, booted_at_once.domain_is_there)
    assert all(os.access(path, os.R_OK) for path in booted_at_once.images)
