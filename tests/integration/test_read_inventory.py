"""What a vCenter holds, read from the simulated one: judged as a migration would, page by page."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hyperctl.activities import read_inventory
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.plan_source import plan_source
from hyperctl.activities.read_inventory import read_page
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.inventory import find_machine
from hyperctl.activities.vsphere.session import open_session
from hyperctl.activities.vsphere.task import wait_for_task
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.inventory import InventoryMachine, InventoryRequest, Readiness, ToolsState
from hyperctl.workflows.machine import Firmware, PowerState
from hyperctl.workflows.request import RunningSource, WhenRunning
from tests.simulator import VCenterSimulator


def _all(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, **asked: Any
) -> list[InventoryMachine]:
    """Every page; each must be short of the next."""
    found: list[InventoryMachine] = []
    start = ""
    vcenter = sim.vcenter(datacenter=asked.pop("datacenter", None))
    while True:
        request = InventoryRequest(vcenter=vcenter, start=start, **asked)
        page = read_page(request, settings, running)
        found += page.machines
        if not page.next:
            assert page.fitting == len(found)
            return found
        start = page.next


def test_every_machine_is_judged_as_its_migration_would_be(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt
) -> None:
    machines = {machine.name: machine for machine in _all(sim, settings, running)}
    assert {vm["name"] for vm in sim.call("GET", "/vms")} == set(machines)
    for name, machine in machines.items():
        request = sim.request(name)
        if machine.needs:
            assert machine.power_state is PowerState.ON
            request = request.model_copy(update={"running": RunningSource(action=machine.needs[0])})
        plan = plan_source(request, settings, running)
        assert {problem.message for problem in machine.problems} <= {one.message for one in plan.problems}
        assert (machine.ready is Readiness.NO) == bool(plan.problems), name
    assert machines["running-01"].needs == (WhenRunning.SHUTDOWN, WhenRunning.SNAPSHOT)
    assert machines["secret-01"].problems[0].message == "secret-01 is encrypted"
    assert ErrorCode.VM_POWERED_ON not in {problem.code for problem in machines["odd-01"].problems}


def test_what_is_told_of_one(sim: VCenterSimulator, settings: HostSettings, running: Attempt) -> None:
    (machine,) = _all(sim, settings, running, name="WEB-server-01")
    assert (machine.name, machine.datacenter, machine.folder) == ("web-server-01", "DC1", "")
    assert (machine.esxi_host, machine.guest_id) == ("esxi-01.example.com", "debian12_64Guest")
    assert (machine.firmware, machine.vcpus, machine.memory_bytes) == (Firmware.BIOS, 1, 1 << 30)
    assert (machine.disks, machine.networks) == (2, ("VM Network",))
    assert machine.capacity_bytes == sum(
        sim.raw_disk("web-server-01", index).stat().st_size for index in (1, 2)
    )
    assert 0 < machine.used_bytes < machine.capacity_bytes
    assert (machine.tools, machine.ready) == (ToolsState.NOT_RUNNING, Readiness.YES)
    (appliance,) = _all(sim, settings, running, name="appliance-*")
    assert appliance.snapshots == 1


@pytest.mark.parametrize(("what", "most"), [("PAGE_MACHINES", 2), ("PAGE_BYTES", 1000)])
def test_pages_hold_every_machine_once_and_in_order(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    most: int,
) -> None:
    whole = _all(sim, settings, running)
    monkeypatch.setattr(read_inventory, what, most)
    sim.call("DELETE", "/requests")
    paged = _all(sim, settings, running)
    assert paged == whole == sorted(whole, key=lambda machine: machine.name.casefold())
    assert sim.call("GET", "/requests")["Login"] >= len(whole) / 2
    assert sim.call("GET", "/sessions")["count"] == 0


def test_a_page_takes_few_round_trips(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt
) -> None:
    sim.call("DELETE", "/requests")
    assert len(_all(sim, settings, running)) > 5
    counts: dict[str, int] = sim.call("GET", "/requests")
    assert sum(counts.values()) <= 14, counts


@contextmanager
def _in_folder(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, name: str, *path: str
) -> Iterator[None]:
    """A machine in folders of its own for a while."""
    with open_session(sim.vcenter(), settings, running) as session:
        machine = find_machine(session, name, None).reference
        top = folder = machine.parent
        for part in path:
            folder = folder.CreateFolder(part)
        wait_for_task(session, folder.MoveIntoFolder_Task([machine]), running, "move it")
        try:
            yield
        finally:
            wait_for_task(session, top.MoveIntoFolder_Task([machine]), running, "move it back")


def test_folders_and_names_choose(sim: VCenterSimulator, settings: HostSettings, running: Attempt) -> None:
    with _in_folder(sim, settings, running, "db-master", "Production", "web/shop"):
        whole = {machine.name: machine.folder for machine in _all(sim, settings, running, datacenter="DC1")}
        assert (whole["db-master"], whole["rdm-01"]) == ("Production/web/shop", "")
        for pattern in ("production", "Production/web/shop", "/Prod*/", "Production/*"):
            assert [one.name for one in _all(sim, settings, running, folder=pattern)] == ["db-master"]
        both = _all(sim, settings, running, folder="Production", name="web-*")
        assert both == []
        with pytest.raises(HyperctlError) as refused:
            _all(sim, settings, running, folder="Prodution")
    assert refused.value.code is ErrorCode.SOURCE_NOT_FOUND
    assert "Did you mean Production" in refused.value.failure.hint
    assert len(_all(sim, settings, running, name="*-0?")) > 3


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        ({"name": "web-serverr-01"}, ErrorCode.VM_NOT_FOUND, "web-server-01"),
        ({"folder": "Production"}, ErrorCode.SOURCE_NOT_FOUND, "None is in a folder"),
        ({"datacenter": "DC9"}, ErrorCode.DATACENTER_NOT_FOUND, "DC1"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    asked: dict[str, str],
    code: ErrorCode,
    words: str,
) -> None:
    with pytest.raises(HyperctlError) as refused:
        _all(sim, settings, running, **asked)
    assert refused.value.code is code
    assert words in refused.value.failure.hint
    assert sim.call("GET", "/sessions")["count"] == 0


def test_a_name_pattern_that_fits_nothing_is_an_empty_list(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt
) -> None:
    page = read_page(InventoryRequest(vcenter=sim.vcenter(), name="nobody*"), settings, running)
    assert (page.machines, page.fitting, page.next) == ((), 0, "")
    assert page.visible > 5
