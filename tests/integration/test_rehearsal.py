"""A rehearsal of the development guest, over a simulated vCenter's datastore."""

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.dev.prepare import load_parts
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.rehearse.preflight import plan_rehearsal
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
    assert list(Path(host.output_dir).glob("*")) == []
    assert simulator.call("GET", "/sessions")["count"] == 0


def test_a_machine_is_said_to_boot_before_it_is_copied_though_its_session_ends(
    whole_guest: VCenterSimulator, host: HostSettings
) -> None:
    running = Attempt(Phase.REHEARSE, logging.getLogger("test"))
    machine = machine_of(whole_guest, host, running)
    whole_guest.fault("expire_sessions", transport="folder", after_bytes=1 << 20)
    found = rehearsed(whole_guest, host, machine, running)
    assert found.verdict is Verdict.BOOTS, found.reason
    assert found.proof is not None
    assert found.proof.passed
    assert {step.outcome for step in found.steps} <= {Outcome.DONE, Outcome.NOT_NEEDED}
    assert 0 < found.read_bytes < MOST_READ_BYTES
    assert found.estimate is not None
    assert 0 < found.estimate.land_bytes_low < found.estimate.land_bytes_high <= machine.allocated_bytes
    assert found.estimate.transfer_bytes == machine.capacity_bytes
    assert_nothing_is_left(whole_guest, host)


@pytest.mark.parametrize(
    ("fault", "fields"),
    [
        ("drop_connection", {"after_bytes": 8 << 10, "times": 1000}),
        ("truncate", {"after_bytes": 8 << 10, "times": 1000}),
        ("slow", {"bytes_per_second": 25_000}),  # of each connection
    ],
)
def test_a_source_that_fails_is_never_a_guest_that_does_not_boot(
    whole_guest: VCenterSimulator,
    host: HostSettings,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    fields: dict[str, int],
) -> None:
    monkeypatch.setattr("hyperctl.activities.rehearse.estimate.TRIES", 2)
    running = Attempt(Phase.REHEARSE, logging.getLogger("test"))
    machine = machine_of(whole_guest, host, running)
    whole_guest.fault(fault, transport="folder", **fields)
    try:
        with pytest.raises(HyperctlError) as caught:
            rehearsed(whole_guest, host, machine, running)
    finally:
        whole_guest.call("DELETE", "/faults")
    assert caught.value.code is ErrorCode.TRANSFER_INTERRUPTED
    assert ("KiB/s" in str(caught.value)) is (fault == "slow")
    assert_nothing_is_left(whole_guest, host)


@pytest.mark.parametrize("when", ["measured", "converted"])
def test_a_machine_that_is_powered_on_meanwhile_is_not_rehearsed(
    whole_guest: VCenterSimulator, host: HostSettings, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr("hyperctl.activities.rehearse.estimate.TRIES", 2)
    monkeypatch.setattr("hyperctl.activities.nbd.fetched.TRIES", 2)
    running = Attempt(Phase.REHEARSE, logging.getLogger("test"))
    machine = machine_of(whole_guest, host, running)
    failed: list[HyperctlError] = []

    def work() -> None:
        try:
            rehearsed(whole_guest, host, machine, running)
        except HyperctlError as error:
            failed.append(error)

    if when == "measured":
        whole_guest.fault("slow", transport="folder", bytes_per_second=1 << 20)
    before = whole_guest.call("GET", "/traffic")["folder"]
    rehearsing = threading.Thread(target=work)
    rehearsing.start()
    deadline = time.monotonic() + 120
    while not _has_begun(whole_guest, before, running, when):
        assert rehearsing.is_alive(), failed
        assert time.monotonic() < deadline
        time.sleep(0.05)
    try:
        whole_guest.call("POST", f"/vms/{GUEST}/power", {"state": "poweredOn"})
        rehearsing.join(180)
    finally:
        whole_guest.call("DELETE", "/faults")
        whole_guest.call("POST", f"/vms/{GUEST}/power", {"state": "poweredOff"})
    assert not rehearsing.is_alive()
    (error,) = failed
    assert error.code is ErrorCode.VM_POWERED_ON
    assert_nothing_is_left(whole_guest, host)


def _has_begun(simulator: VCenterSimulator, sent_before: int, running: Attempt, when: str) -> bool:
    if when == "converted":
        return running.progress.message == "opening the guest's disks"
    sent: int = simulator.call("GET", "/traffic")["folder"]
    return sent - sent_before > 512 << 10


def test_a_machine_that_is_on_is_refused_with_what_helps(
    whole_guest: VCenterSimulator, host: HostSettings
) -> None:
    running = Attempt(Phase.PLAN, logging.getLogger("test"))
    request = RehearsalRequest(vm_name=GUEST, vcenter=whole_guest.vcenter())
    plan = plan_rehearsal(request, host, running)
    assert (plan.problems, plan.needed_bytes > 0) == ((), True)
    whole_guest.call("POST", f"/vms/{GUEST}/power", {"state": "poweredOn"})
    try:
        (problem,) = plan_rehearsal(request, host, running).problems
    finally:
        whole_guest.call("POST", f"/vms/{GUEST}/power", {"state": "poweredOff"})
    assert problem.code is ErrorCode.VM_POWERED_ON
    assert "HTTPS" in problem.message
    assert "--s" not in problem.hint, "what helps a copy does not help here"
    assert_nothing_is_left(whole_guest, host)
