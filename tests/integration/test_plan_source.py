"""The source's preflight against the simulated vCenter."""

import dataclasses
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.plan_source import plan_source
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere import inventory
from hyperctl.workflows.errors import ErrorCode
from hyperctl.workflows.machine import Firmware, PowerState
from hyperctl.workflows.plan import SourcePlan
from hyperctl.workflows.request import MigrationRequest, VCenter
from tests.simulator import USERNAME, VCenterSimulator

from .conftest import PASSWORD


def codes(plan: SourcePlan) -> set[ErrorCode]:
    return {problem.code for problem in plan.problems}


def test_a_machine_is_read_whole(sim: VCenterSimulator, settings: HostSettings, running: Attempt) -> None:
    plan = plan_source(sim.request("web-server-01"), settings, running)

    assert plan.problems == ()
    assert plan.warnings == ()
    assert (plan.host, plan.transport) == ("kvm-test", "nfc")
    machine = plan.machine
    assert machine is not None
    assert (machine.name, machine.datacenter, machine.esxi_host) == (
        "web-server-01",
        "DC1",
        "esxi-01.example.com",
    )
    assert (machine.guest_id, machine.host_name, machine.annotation) == (
        "debian12_64Guest",
        "web-server-01",
        "the shop",
    )
    assert (machine.firmware, machine.secure_boot, machine.power_state) == (
        Firmware.BIOS,
        False,
        PowerState.OFF,
    )
    assert (machine.memory_bytes, machine.vcpus) == (1 << 30, 1)
    assert [disk.name for disk in machine.disks] == ["web-server-01.vmdk", "web-server-01_1.vmdk"]
    assert [disk.capacity_bytes for disk in machine.disks] == [
        sim.raw_disk("web-server-01", index).stat().st_size for index in (1, 2)
    ]
    assert [(disk.controller, disk.controller_bus, disk.unit) for disk in machine.disks] == [
        ("pvscsi", 0, 0),
        ("pvscsi", 0, 1),
    ]
    assert 0 < machine.disks[0].allocated_bytes < machine.disks[0].capacity_bytes
    assert machine.allocated_bytes == sum(disk.allocated_bytes for disk in machine.disks)
    (nic,) = machine.nics
    assert (nic.mac, nic.network, nic.adapter) == ("00:50:56:aa:bb:01", "VM Network", "vmxnet3")
    assert nic.addresses == ("192.0.2.10/24",), "link-local addresses are left out"


def test_reading_takes_few_round_trips(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt
) -> None:
    sim.call("DELETE", "/requests")
    plan_source(sim.request("web-server-01", datacenter="DC1"), settings, running)
    counts: dict[str, int] = sim.call("GET", "/requests")
    assert sum(counts.values()) <= 14, counts
    assert sim.call("GET", "/sessions")["count"] == 0, "it logs out"


def test_reading_follows_continuation_tokens(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "PAGE_OBJECTS", 2)
    sim.call("DELETE", "/requests")
    plan = plan_source(sim.request("web-server-01"), settings, running)
    assert plan.problems == ()
    assert sim.call("GET", "/requests").get("ContinueRetrievePropertiesEx", 0) >= 3


def test_an_unknown_machine_brings_the_nearest_names(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt
) -> None:
    (problem,) = plan_source(sim.request("Web-server-1"), settings, running).problems
    assert problem.code is ErrorCode.VM_NOT_FOUND
    assert "'Web-server-1'" in problem.message
    assert "web-server-01" in problem.hint
    assert "web-server-02" in problem.hint
    assert "db-master" not in problem.hint


def test_an_unknown_datacenter_brings_the_names_there_are(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt
) -> None:
    (problem,) = plan_source(sim.request("web-server-01", datacenter="DC2"), settings, running).problems
    assert problem.code is ErrorCode.DATACENTER_NOT_FOUND
    assert "DC1" in problem.hint


@pytest.mark.parametrize(
    ("vm_name", "expected", "words"),
    [
        ("running-01", [ErrorCode.VM_POWERED_ON], "Shut it down in the guest"),
        ("bsd-01", [ErrorCode.GUEST_UNSUPPORTED], "Debian, Ubuntu and Windows"),
        ("rdm-01", [ErrorCode.VM_UNSUPPORTED], "virtual mode"),
        ("secret-01", [ErrorCode.VM_UNSUPPORTED], "Decrypt"),
    ],
)
def test_what_stands_against_it_is_said(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    vm_name: str,
    expected: list[ErrorCode],
    words: str,
) -> None:
    plan = plan_source(sim.request(vm_name), settings, running)
    assert plan.machine is not None, "the target is checked all the same"
    assert [problem.code for problem in plan.problems] == expected
    assert words in plan.problems[0].hint


def test_every_problem_comes_at_once(sim: VCenterSimulator, settings: HostSettings, running: Attempt) -> None:
    plan = plan_source(sim.request("odd-01"), settings, running)
    assert codes(plan) == {ErrorCode.VM_POWERED_ON, ErrorCode.VM_UNSUPPORTED, ErrorCode.GUEST_UNSUPPORTED}
    assert len(plan.problems) == 4


def test_warnings_do_not_stand_against_it(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt
) -> None:
    plan = plan_source(sim.request("appliance-01"), settings, running)
    assert plan.problems == ()
    assert any("other5xLinux64Guest" in warning for warning in plan.warnings)
    assert any("snapshots" in warning for warning in plan.warnings)


def test_a_wrong_password(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSPHERE_PASSWORD", "wrong")
    (problem,) = plan_source(sim.request("web-server-01"), settings, running).problems
    assert problem.code is ErrorCode.AUTHENTICATION_FAILED
    assert USERNAME in problem.message
    assert sim.server in problem.message
    assert "wrong" not in problem.message + problem.hint


def test_no_credentials(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VSPHERE_PASSWORD")
    (problem,) = plan_source(sim.request("web-server-01"), settings, running).problems
    assert problem.code is ErrorCode.CREDENTIALS_MISSING
    assert "VSPHERE_PASSWORD" in problem.hint


def test_credentials_from_a_file(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("VSPHERE_PASSWORD")
    file = tmp_path / "credentials.yaml"
    file.write_text(f"servers:\n  '{sim.server}':\n    username: {USERNAME}\n    password: {PASSWORD}\n")
    file.chmod(0o600)
    settings = settings.model_copy(update={"vsphere_credentials_file": file})
    assert plan_source(sim.request("web-server-01"), settings, running).problems == ()


def test_an_untrusted_certificate_is_shown_with_its_fingerprint(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt
) -> None:
    (problem,) = plan_source(
        sim.request("web-server-01", certificate_sha256=None), settings, running
    ).problems
    assert problem.code is ErrorCode.VCENTER_CERTIFICATE_UNTRUSTED
    assert sim.certificate_sha256 in problem.message
    assert f"--certificate-sha256 {sim.certificate_sha256}" in problem.hint
    assert "HYPERCTL_VSPHERE_CA_FILE" in problem.hint


def test_another_certificate_than_the_pinned_one_gets_nothing_sent(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt
) -> None:
    sim.call("DELETE", "/requests")
    settings = settings.model_copy(update={"vsphere_ca_file": sim.ca_file})
    request = sim.request("web-server-01", certificate_sha256="00:" * 31 + "00")
    (problem,) = plan_source(request, settings, running).problems
    assert problem.code is ErrorCode.VCENTER_CERTIFICATE_UNTRUSTED
    assert sim.certificate_sha256 in problem.message
    assert sim.call("GET", "/requests") == {}


@pytest.mark.parametrize("way", ["ca_file", "worker_pin"])
def test_the_worker_can_trust_a_certificate(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, way: str
) -> None:
    trust = (
        {"vsphere_ca_file": sim.ca_file}
        if way == "ca_file"
        else {"vsphere_certificate_sha256": sim.certificate_sha256}
    )
    request = sim.request("web-server-01", certificate_sha256=None)
    assert plan_source(request, settings.model_copy(update=trust), running).problems == ()


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_server_times_out(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, silent_server: str
) -> None:
    settings = settings.model_copy(update={"vsphere_timeout_seconds": 1.0})
    request = MigrationRequest(vm_name="x", vcenter=VCenter(server=silent_server))
    (problem,) = plan_source(request, settings, running).problems
    assert problem.code is ErrorCode.VCENTER_UNREACHABLE
    assert "time" in problem.message


def test_nobody_listens(sim: VCenterSimulator, settings: HostSettings, running: Attempt) -> None:
    with socket.socket() as taken:  # so that nobody begins to
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (problem,) = plan_source(
            MigrationRequest(vm_name="x", vcenter=VCenter(server=address)), settings, running
        ).problems
    assert problem.code is ErrorCode.VCENTER_UNREACHABLE
    assert address in problem.message


@pytest.mark.parametrize(
    ("method", "fault", "expected"),
    [
        ("RetrievePropertiesEx", "NoPermission", ErrorCode.PERMISSION_DENIED),
        ("RetrievePropertiesEx", "HostCommunication", ErrorCode.VCENTER_FAULT),
        ("RetrievePropertiesEx", "NotAuthenticated", ErrorCode.VCENTER_FAULT),
        ("Login", "NoPermission", ErrorCode.PERMISSION_DENIED),
    ],
)
def test_faults_get_their_codes(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    method: str,
    fault: str,
    expected: ErrorCode,
) -> None:
    sim.fault("fail_method", method=method, fault=fault)
    (problem,) = plan_source(sim.request("web-server-01"), settings, running).problems
    assert problem.code is expected
    assert sim.call("GET", "/sessions")["count"] == 0


def test_the_password_is_not_in_a_representation(sim: VCenterSimulator, settings: HostSettings) -> None:
    from hyperctl.activities.vsphere.credentials import resolve

    credentials = resolve(sim.vcenter(), settings)
    assert PASSWORD not in repr(credentials)
    assert dataclasses.asdict(credentials)["password"] == PASSWORD
