"""A rehearsal of the development guest, over a simulated vCenter's datastore."""

import logging
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.dev.prepare import load_parts
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.rehearse.rehearsal import rehearse
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.inventory import find_machine
from hyperctl.activities.vsphere.session import open_session
from hyperctl.workflows.contract import RehearseInput
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.guest import Outcome
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.rehearsal import RehearsalRequest, Rehearsed, Verdict
from hyperctl.workflows.status import Phase
from tests.integration.source_guest import GUEST
from tests.simulator import USERNAME, VCenterSimulator, running_vcenter

PASSWORD = "a password for tests"
MOST_READ_BYTES = 300 << 20

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def whole_guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenterSimulator]:
    state = tmp_path_factory.mktemp("rehearsal") / "state"
    with running_vcenter(load_parts().guests, state, PASSWORD) as simulator:
        yield simulator


@pytest.fixture
def host(guest_output_dir: Path, libvirt_uri: str, monkeypatch: pytest.MonkeyPatch) -> HostSettings:
    monkeypatch.setenv("VSPHERE_USERNAME", USERNAME)
    monkeypatch.setenv("VSPHERE_PASSWORD", PASSWORD)
    return HostSettings(
        host="kvm-test",
        output_dir=str(guest_output_dir / "rehearsals"),
        libvirt_uri=libvirt_uri,
        vsphere_timeout_seconds=10.0,
    )


def machine_of(simulator: VCenterSimulator, host: HostSettings, running: Attempt) -> Machine:
    with open_session(simulator.vcenter(), host, running) as session:
        return find_machine(session, GUEST, None).machine


def rehearsed(
    simulator: VCenterSimulator, host: HostSettings, machine: Machine, running: Attempt
) -> Rehearsed:
    argument = RehearseInput(
        job_id=f"rehearsal-{secrets.token_hex(4)}",
        request=RehearsalRequest(vm_name=machine.name, vcenter=simulator.vcenter()),
        machine=machine,
        output_dir=host.output_dir,
    )
    return rehearse(argument, host, running)


def assert_nothing_is_left(simulator: VCenterSimulator, host: HostSettings) -> None:
    assert list(Path(host.output_dir).iterdir()) == []
    assert simulator.call("GET", "/sessions")["count"] == 0


def test_a_machine_is_said_to_boot_before_it_is_copied(
    whole_guest: VCenterSimulator, host: HostSettings
) -> None:
    running = Attempt(Phase.REHEARSE, logging.getLogger("test"))
    machine = machine_of(whole_guest, host, running)
    found = rehearsed(whole_guest, host, machine, running)
    assert found.verdict is Verdict.BOOTS, found.reason
    assert found.proof is not None
    assert found.proof.passed
    assert {step.outcome for step in found.steps} <= {Outcome.DONE, Outcome.NOT_NEEDED}
    assert 0 < found.read_bytes < MOST_READ_BYTES
    assert_nothing_is_left(whole_guest, host)


def test_a_source_that_breaks_off_is_never_a_guest_that_does_not_boot(
    whole_guest: VCenterSimulator, host: HostSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperctl.activities.nbd.fetched.TRIES", 2)
    running = Attempt(Phase.REHEARSE, logging.getLogger("test"))
    machine = machine_of(whole_guest, host, running)
    whole_guest.fault("drop_connection", transport="folder", after_bytes=8 << 10, times=1000)
    with pytest.raises(HyperctlError) as caught:
        rehearsed(whole_guest, host, machine, running)
    whole_guest.call("DELETE", "/faults")
    assert caught.value.code is ErrorCode.TRANSFER_INTERRUPTED
    assert_nothing_is_left(whole_guest, host)
