"""A rehearsal outside of Temporal, and what must not be left of it."""

import secrets
import tempfile
from pathlib import Path

import libvirt

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.rehearse.rehearsal import rehearse
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.target.libvirt_host import disk_files
from hyperctl.activities.vsphere.inventory import find_machine
from hyperctl.activities.vsphere.session import open_session
from hyperctl.workflows.contract import RehearseInput
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.rehearsal import RehearsalRequest, Rehearsed
from hyperctl.workflows.request import Fixers
from tests.moments import SOON_SECONDS, until
from tests.processes import is_worked_on
from tests.simulator import VCenterSimulator


def machine_of(simulator: VCenterSimulator, name: str, host: HostSettings, running: Attempt) -> Machine:
    with open_session(simulator.vcenter(), host, running) as session:
        return find_machine(session, name, None).machine


def rehearsed(
    simulator: VCenterSimulator,
    host: HostSettings,
    machine: Machine,
    running: Attempt,
    fix: Fixers | None = None,
) -> Rehearsed:
    argument = RehearseInput(
        job_id=f"rehearsal-{secrets.token_hex(4)}",
        request=RehearsalRequest(vm_name=machine.name, vcenter=simulator.vcenter(), fix=fix or Fixers()),
        machine=machine,
        output_dir=host.output_dir,
    )
    return rehearse(argument, host, running)


def assert_nothing_is_left(simulator: VCenterSimulator, host: HostSettings) -> None:
    """Folders, sockets and overlays; processes that had them open; trial domains; sessions; snapshots."""
    output = Path(host.output_dir)
    assert list(output.glob("*")) == []
    temporary = Path(tempfile.gettempdir())
    assert list(temporary.glob("hyperctl-*")) == [], "NBD servers, appliances"
    # What was killed has memory to give back.
    until(lambda: not is_worked_on(output) and not is_worked_on(temporary), seconds=SOON_SECONDS)
    connection = libvirt.open(host.libvirt_uri)
    try:
        files = [file for domain in connection.listAllDomains() for file in disk_files(domain)]
    finally:
        connection.close()
    assert not any(file.startswith(str(output)) for file in files)
    until(lambda: not simulator.sessions(), "a session is left", SOON_SECONDS)
    snapshots = [snapshot for vm in simulator.call("GET", "/vms") for snapshot in vm["snapshots"] or ()]
    assert not any(snapshot["name"].startswith("hyperctl-") for snapshot in snapshots)
