"""A machine in a vCenter as a source: what all transports that go through one share."""

from collections.abc import Iterator
from contextlib import contextmanager

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.transport import Terms
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.inventory import read_machine
from hyperctl.activities.vsphere.session import Session, open_session
from hyperctl.activities.vsphere.snapshots import as_of
from hyperctl.workflows.contract import ExportInput
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import Machine, MachineDisk, PowerState


@contextmanager
def opened_machine(
    argument: ExportInput, settings: HostSettings, attempt: Attempt
) -> Iterator[tuple[Session, SourceMachine]]:
    """Log in and look at the machine, or at its snapshot where one is to be copied.

    Raises `HyperctlError`, also where it is not as it was planned.
    """
    with open_session(argument.source_vcenter, settings, attempt) as session:
        source = read_machine(session, argument.machine.moref)
        if argument.snapshot:
            source = as_of(session, source, argument.snapshot)
        _check_unchanged(argument.machine, source)
        yield session, source


class VSphereMachine:
    """Half a `Source`: who derives from it opens it."""

    def __init__(self, session: Session, source: SourceMachine, terms: Terms) -> None:
        self.session = session
        self.source = source
        self.terms = terms

    @property
    def machine(self) -> Machine:
        return self.source.machine

    def identity(self, disk: MachineDisk) -> str:
        return disk_identity(self.session, self.source, disk)


def disk_identity(session: Session, source: SourceMachine, disk: MachineDisk) -> str:
    """Names one disk in one state of its machine, or in one snapshot of it."""
    machine = source.machine
    server = str(session.endpoint).lower()
    return "\n".join((server, machine.uuid, machine.moref, str(disk.key), disk.file_name, source.state))


def _check_unchanged(planned: Machine, source: SourceMachine) -> None:
    """The machine must be off, or a snapshot be read, and the disks be those that were planned with."""
    machine = source.machine
    if source.snapshot is None and machine.power_state is not PowerState.OFF:
        raise HyperctlError(
            ErrorCode.VM_POWERED_ON,
            f"{machine.name} has been powered on since it was planned",
            "Shut it down in the guest, then try again.",
        )
    before = [(disk.key, disk.capacity_bytes) for disk in planned.disks]
    if machine.uuid != planned.uuid or before != [(disk.key, disk.capacity_bytes) for disk in machine.disks]:
        raise HyperctlError(
            ErrorCode.VM_UNSUPPORTED,
            f"the disks of {machine.name} have changed since it was planned",
            "Start the migration again.",
        )
