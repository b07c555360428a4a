"""What a source that is powered on means for a migration: what stands against it, what must be known."""

from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.machine import PowerState
from hyperctl.workflows.request import MigrationRequest, RunningSource, WhenRunning


def running_problems(source: SourceMachine, asked: RunningSource) -> tuple[Failure, ...]:
    """Everything that the machine's power state has against the migration, all at once."""
    machine = source.machine
    name = machine.name
    found: list[Failure] = []

    def problem(code: ErrorCode, message: str, hint: str) -> None:
        found.append(Failure(code=code, message=message, hint=hint))

    if machine.power_state is PowerState.SUSPENDED:
        problem(
            ErrorCode.VM_POWERED_ON,
            f"{name} is suspended",
            "Resume it, and shut it down in the guest or use --shutdown: what its memory holds is not on its "
            "disks, in no snapshot either.",
        )
    elif machine.power_state is PowerState.ON:
        if asked.action is WhenRunning.REFUSE:
            problem(
                ErrorCode.VM_POWERED_ON,
                f"{name} is powered on",
                "Shut it down in the guest, have that done (--shutdown), or copy a snapshot while it goes on "
                "(--snapshot): the copy is consistent only of disks that nobody writes to.",
            )
        if asked.action is WhenRunning.SHUTDOWN and not source.tools_running and not asked.force_off:
            problem(
                ErrorCode.TOOLS_NOT_RUNNING,
                f"{name} cannot be asked to shut down: no tools run in its guest",
                "Start open-vm-tools in the guest, shut it down by hand, or give --force-off, which is like "
                "pulling its plug.",
            )
        if asked.quiesce and not source.tools_running:
            problem(
                ErrorCode.TOOLS_NOT_RUNNING,
                f"{name} cannot be quiesced: no tools run in its guest",
                "Start open-vm-tools in the guest, or leave --quiesce out for a crash-consistent snapshot.",
            )
        if asked.action is WhenRunning.SNAPSHOT and source.independent_disks:
            problem(
                ErrorCode.VM_UNSUPPORTED,
                f"a snapshot of {name} leaves out independent disks: {', '.join(source.independent_disks)}",
                "Make them dependent in the VM's settings while it is off, and start again.",
            )
    return tuple(found)


def why_not_flat(source: SourceMachine, action: WhenRunning) -> str:
    """Why the `-flat.vmdk` files are not what the machine will have on its disks; empty where they are.

    A machine with a snapshot writes to a delta beside them: they can be read, and are of the past.
    """
    if source.has_snapshots:
        return "it has snapshots, so that its flat files are older than the machine"
    if source.delta_disks:
        return f"the files of {', '.join(source.delta_disks)} hold only what differs from another disk"
    if source.machine.power_state is PowerState.ON and action is WhenRunning.SNAPSHOT:
        return "it reads the files of a machine that is off, not a snapshot"
    return ""


def running_warnings(source: SourceMachine, request: MigrationRequest) -> tuple[str, ...]:
    """What will be done to a machine that is on, and what that means."""
    asked, machine = request.running, source.machine
    if machine.power_state is not PowerState.ON or asked.action is WhenRunning.REFUSE:
        return ()
    if asked.action is WhenRunning.SHUTDOWN:
        return _shutdown(source, asked)
    return _snapshot(source, request)


def _shutdown(source: SourceMachine, asked: RunningSource) -> tuple[str, ...]:
    name = source.machine.name
    if not source.tools_running:
        how = "powered off like pulling its plug, since no tools run in its guest"
    else:
        how = f"asked through its tools to shut down and has {asked.shutdown_timeout_seconds:.0f} s for it"
        if asked.force_off:
            how += "; after that it is powered off like pulling its plug"
        else:
            how += "; if it is still on then, the migration fails"
    return (
        f"{name} is {how}",
        f"{name} is down from then on: it stays off when the migration succeeds, and is powered on again "
        "when it fails or is cancelled",
    )


def _snapshot(source: SourceMachine, request: MigrationRequest) -> tuple[str, ...]:
    name = source.machine.name
    if request.running.quiesce:
        how = "quiesced: its guest's tools write out what its filesystems hold back"
    else:
        how = "crash-consistent, as after a power cut"
    both = f"{name} goes on running on VMware: do not start both on one network"
    if request.start:
        both += " (--start does start the copy)"
    return (
        f"{name} is copied from a snapshot, {how}; what it writes after that moment is not moved",
        both,
    )
