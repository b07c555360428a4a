"""The disks of a rehearsal, where they are: what qemu reads of them, and what is gone afterwards."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.nbd.server import FOLDER_PREFIX
from hyperctl.activities.plan_file import plan_file
from hyperctl.activities.prepare_source import remove_job_snapshot, take_snapshot
from hyperctl.activities.rehearse import source as source_module
from hyperctl.activities.rehearse.preflight import plan_rehearsal
from hyperctl.activities.rehearse.source import ShownSource, shown_disks
from hyperctl.activities.settings import HostSettings
from hyperctl.workflows.contract import PrepareSourceInput, RehearseInput, RemoveSnapshotInput
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.rehearsal import RehearsalRequest
from hyperctl.workflows.request import FileSource, RunningSource, TransportChoice, WhenRunning
from tests.integration.rehearsing import assert_nothing_is_left
from tests.integration.test_vddk import transport_of
from tests.moments import SOON_SECONDS, until
from tests.processes import is_worked_on, working_on
from tests.simulator import VCenterSimulator

VM = "web-server-01"
FROM_SNAPSHOT = RunningSource(action=WhenRunning.SNAPSHOT)


@pytest.fixture
def host(settings: HostSettings, libvirt_uri: str, own_tmp: Path) -> HostSettings:
    output = own_tmp / "out"
    output.mkdir()
    return settings.model_copy(update={"libvirt_uri": libvirt_uri, "output_dir": str(output)})


def rehearse_input(machine: Machine, request: RehearsalRequest, **more: Any) -> RehearseInput:
    return RehearseInput(job_id=request.job_id, request=request, machine=machine, output_dir="", **more)


def assert_shown(shown: ShownSource, *disks: Path) -> None:
    assert len(shown.bases) == len(disks)
    for base, raw in zip(shown.bases, disks, strict=True):
        compare = ["qemu-img", "compare", "-q", "-f", base.format, "-F", "raw", base.address, str(raw)]
        assert subprocess.run(compare, check=False, timeout=60).returncode == 0, base
    shown.confirm()
    shown.check()
    assert shown.read_bytes > 0


@pytest.mark.parametrize("kind", ["stream", "raw", "qcow2"])
def test_a_file_is_read_where_it_lies(
    sim: VCenterSimulator, host: HostSettings, running: Attempt, tmp_path: Path, kind: str
) -> None:
    raw = sim.raw_disk(VM, 1)
    path = {"stream": raw.with_suffix(".vmdk"), "raw": raw, "qcow2": tmp_path / "disk.qcow2"}[kind]
    if kind == "qcow2":
        convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(path)]
        subprocess.run(convert, check=True, timeout=60)
    file = FileSource(path=str(path), source_format="raw" if kind == "raw" else None)
    request = RehearsalRequest(file=file, vm_name="as-i-call-it")
    plan = plan_file(file, request.vm_name, host, running)
    assert plan.machine is not None, plan.problems
    argument = rehearse_input(plan.machine, request, transport=TransportChoice.FILE)
    with shown_disks(argument, Path(host.output_dir), host, running) as shown:
        assert shown.machine.name == "as-i-call-it"
        assert_shown(shown, raw)
    until(lambda: not is_worked_on(path), seconds=SOON_SECONDS)
    assert_nothing_is_left(sim, host)


def test_a_machine_that_runs_is_read_from_its_snapshot_though_its_servers_are_killed(
    sim: VCenterSimulator,
    host: HostSettings,
    running: Attempt,
    own_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another plugin of nbdkit in the place of VMware's library."""
    request = RehearsalRequest(vm_name=VM, vcenter=sim.vcenter(), running=FROM_SNAPSHOT)
    sim.call("POST", f"/vms/{VM}/power", {"state": "poweredOn"})
    try:
        machine = plan_rehearsal(request, host, running).machine
        assert machine is not None
        asked = PrepareSourceInput(
            job_id=request.job_id,
            vcenter=sim.vcenter(),
            machine=machine,
            output_dir=host.output_dir,
            running=request.running,
        )
        snapshot = take_snapshot(asked, host, running).snapshot
        assert snapshot is not None
        again = take_snapshot(asked, host, running).snapshot
        assert again == snapshot, "one that an attempt that was killed has made is found again"
        sim.call("POST", f"/vms/{VM}/write", {"disk": 0, "offset": 4096, "length": 512, "seed": 7})
        (vm,) = [vm for vm in sim.call("GET", "/vms") if vm["name"] == VM]
        (made,) = vm["snapshots"]
        monkeypatch.setitem(source_module.TRANSPORTS, "vddk", transport_of(made["disks"], []))
        argument = rehearse_input(machine, request, transport=TransportChoice.VDDK, snapshot=snapshot.moref)
        remove = RemoveSnapshotInput(job_id=request.job_id, vcenter=sim.vcenter(), machine=machine)
        with shown_disks(argument, Path(host.output_dir), host, running) as shown:
            servers = [*working_on(own_tmp / FOLDER_PREFIX)]
            assert len(servers) >= len(machine.disks)
            for server in servers:
                os.kill(server, signal.SIGKILL)
            assert_shown(shown, *map(Path, made["disks"]))
            remove_job_snapshot(remove, host, running)
            with pytest.raises(HyperctlError) as lost:
                shown.diagnose(running)
        assert lost.value.code is ErrorCode.SNAPSHOT_LOST
    finally:
        sim.call("POST", f"/vms/{VM}/power", {"state": "poweredOff"})
    assert_nothing_is_left(sim, host)


def test_a_snapshot_that_nothing_here_can_read_is_refused_with_both_reasons(
    sim: VCenterSimulator, host: HostSettings, running: Attempt
) -> None:
    request = RehearsalRequest(vm_name="running-01", vcenter=sim.vcenter(), running=FROM_SNAPSHOT)
    (problem,) = plan_rehearsal(request, host, running).problems
    assert problem.code is ErrorCode.VM_POWERED_ON
    assert "over HTTPS the disks of a machine can be read only while it is off" in problem.message
    assert "VMware's library (VDDK) is not configured" in problem.message


def test_a_path_that_is_too_long_for_a_socket_is_told(
    sim: VCenterSimulator, host: HostSettings, running: Attempt
) -> None:
    request = RehearsalRequest(vm_name=VM, vcenter=sim.vcenter())
    machine = plan_rehearsal(request, host, running).machine
    assert machine is not None
    folder = Path(host.output_dir) / ("x" * 100)
    folder.mkdir()
    with (
        pytest.raises(HyperctlError, match=r"too long for a socket.*107 bytes") as told,
        shown_disks(rehearse_input(machine, request), folder, host, running),
    ):
        pass
    assert "--output-dir" in told.value.failure.hint
