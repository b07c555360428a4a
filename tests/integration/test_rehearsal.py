"""A rehearsal of the development guest, over a simulated vCenter's datastore."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.dev.prepare import load_parts
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.rehearse.preflight import plan_rehearsal
from hyperctl.activities.settings import HostSettings
from hyperctl.client.render.report import report_page
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.guest import Outcome
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.rehearsal import RehearsalRequest, Verdict
from hyperctl.workflows.request import Fixers
from hyperctl.workflows.status import Phase
from tests.found_out import AGAIN
from tests.integration.rehearsing import assert_nothing_is_left, machine_of, rehearsed
from tests.integration.source_guest import GUEST
from tests.simulator import USERNAME, VCenterSimulator, running_vcenter
from tests.unit.rehearsals import booting

PASSWORD = "a password for tests"
MOST_READ_BYTES = 300 << 20

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def whole_guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenterSimulator]:
    state = tmp_path_factory.mktemp("rehearsal") / "state"
    with running_vcenter(load_parts().guests, state, PASSWORD) as simulator:
        yield simulator


@pytest.fixture
def host(
    guest_output_dir: Path, own_tmp: Path, libvirt_uri: str, monkeypatch: pytest.MonkeyPatch
) -> HostSettings:
    monkeypatch.setenv("VSPHERE_USERNAME", USERNAME)
    monkeypatch.setenv("VSPHERE_PASSWORD", PASSWORD)
    return HostSettings(
        host="kvm-test",
        output_dir=str(guest_output_dir / "rehearsals"),
        libvirt_uri=libvirt_uri,
        vsphere_timeout_seconds=10.0,
    )


@pytest.fixture
def running() -> Attempt:
    return Attempt(Phase.REHEARSE, logging.getLogger("test"))


@pytest.fixture
def machine(whole_guest: VCenterSimulator, host: HostSettings, running: Attempt) -> Machine:
    return machine_of(whole_guest, GUEST, host, running)


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not AGAIN, reason="a whole rehearsal, as tests/e2e has one: make test-guests")
def test_a_machine_is_said_to_boot_before_it_is_copied_though_its_session_ends(
    whole_guest: VCenterSimulator, host: HostSettings, running: Attempt, machine: Machine
) -> None:
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


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not AGAIN, reason="a boot of minutes: make test-guests")
def test_a_guest_without_drivers_does_not_boot_and_its_screen_is_in_the_report(
    whole_guest: VCenterSimulator, host: HostSettings, running: Attempt, machine: Machine
) -> None:
    found = rehearsed(whole_guest, host, machine, running, fix=Fixers(virtio=False))
    assert found.verdict is Verdict.DOES_NOT_BOOT
    assert found.reason is not None
    assert found.reason.code is ErrorCode.PROOF_FAILED
    assert "root device not found" in found.reason.message
    assert "--skip-virtio" in found.reason.hint
    assert found.proof is not None
    assert found.proof.root_missing
    page = report_page([booting(GUEST, **dict(found))])
    assert f"{GUEST}: " in page
    assert found.reason.message in page
    assert f'src="data:image/png;base64,{found.screen}"' in page
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
    running: Attempt,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    fields: dict[str, int],
) -> None:
    monkeypatch.setattr("hyperctl.activities.rehearse.estimate.TRIES", 2)
    whole_guest.fault(fault, transport="folder", **fields)
    try:
        with pytest.raises(HyperctlError) as caught:
            rehearsed(whole_guest, host, machine, running)
    finally:
        whole_guest.call("DELETE", "/faults")
    assert caught.value.code is ErrorCode.TRANSFER_INTERRUPTED
    assert ("KiB/s" in str(caught.value)) is (fault == "slow")
    assert_nothing_is_left(whole_guest, host)


@pytest.mark.parametrize(
    ("fault", "fields"),
    [
        ("drop_connection", {"times": 10_000}),
        pytest.param(
            "truncate",
            {"times": 10_000},
            marks=pytest.mark.skipif(not AGAIN, reason="as a drop, with an appliance more: make test-guests"),
        ),
        ("slow", {"bytes_per_second": 10_000}),
    ],
)
def test_a_source_that_fails_while_the_guest_is_converted_is_none_either(
    whole_guest: VCenterSimulator,
    host: HostSettings,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    fields: dict[str, int],
) -> None:
    monkeypatch.setattr("hyperctl.activities.nbd.fetched.TRIES", 2)
    monkeypatch.setattr("hyperctl.activities.nbd.fetched.SLOW_SECONDS", 3.0)
    begun = Reading() if fault == "drop_connection" else is_converted
    error = failed_by(
        lambda: whole_guest.fault(fault, transport="folder", **fields), whole_guest, host, begun
    )
    assert error.code is ErrorCode.TRANSFER_INTERRUPTED
    assert ("KiB/s" in str(error)) is (fault == "slow")


@pytest.mark.parametrize("when", ["measured", "converted"])
def test_a_machine_that_is_powered_on_meanwhile_is_not_rehearsed(
    whole_guest: VCenterSimulator, host: HostSettings, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr("hyperctl.activities.rehearse.estimate.TRIES", 2)
    monkeypatch.setattr("hyperctl.activities.nbd.fetched.TRIES", 2)
    if when == "measured":
        whole_guest.fault("slow", transport="folder", bytes_per_second=1 << 20)

    def power_on() -> None:
        whole_guest.call("POST", f"/vms/{GUEST}/power", {"state": "poweredOn"})

    error = failed_by(power_on, whole_guest, host, is_converted if when == "converted" else is_measured)
    assert error.code is ErrorCode.VM_POWERED_ON


Begun = Callable[[Attempt, int], bool]
"""Whether that to which something is to happen is under way, by the bytes that have been read since."""


def is_measured(running: Attempt, sent_bytes: int) -> bool:
    return sent_bytes > 512 << 10


def is_converted(running: Attempt, sent_bytes: int) -> bool:
    """From the appliance's start on."""
    return running.progress.message == "opening the guest's disks"


class Reading:
    """Until the appliance has been reading for a while."""

    def __init__(self) -> None:
        self._sent_before: int | None = None

    def __call__(self, running: Attempt, sent_bytes: int) -> bool:
        if self._sent_before is None and is_converted(running, sent_bytes):
            self._sent_before = sent_bytes
        return self._sent_before is not None and sent_bytes - self._sent_before > 2 << 20


def failed_by(
    event: Callable[[], Any], simulator: VCenterSimulator, host: HostSettings, has_begun: Begun
) -> HyperctlError:
    """What a rehearsal fails with to which this happens in its middle. Nothing of it is left."""
    running = Attempt(Phase.REHEARSE, logging.getLogger("test"))
    machine = machine_of(simulator, GUEST, host, running)
    failed: list[HyperctlError] = []

    def work() -> None:
        try:
            rehearsed(simulator, host, machine, running)
        except HyperctlError as error:
            failed.append(error)

    def sent_bytes() -> int:
        sent: int = simulator.call("GET", "/traffic").get("folder", 0)
        return sent

    before = sent_bytes()
    rehearsing = threading.Thread(target=work)
    rehearsing.start()
    deadline = time.monotonic() + 600
    try:
        while not has_begun(running, sent_bytes() - before):
            assert rehearsing.is_alive(), failed
            assert time.monotonic() < deadline
            time.sleep(0.05)
        event()
        rehearsing.join(180)
    finally:
        running.stop()
        simulator.call("DELETE", "/faults")
        simulator.call("POST", f"/vms/{GUEST}/power", {"state": "poweredOff"})
        rehearsing.join(60)
    assert not rehearsing.is_alive()
    (error,) = failed
    assert_nothing_is_left(simulator, host)
    return error


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
