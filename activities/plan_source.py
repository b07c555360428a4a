"""The source side of the preflight: what the VM is, and everything that stands against moving it."""

import re

from temporalio import activity

from hyperctl.activities.attempt import Attempt, attempt
from hyperctl.activities.export.offers import choose_transport
from hyperctl.activities.plan_file import SUPPORTED_GUESTS, plan_file
from hyperctl.activities.plan_running import running_problems, running_warnings
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.inventory import find_machine
from hyperctl.activities.vsphere.session import open_session
from hyperctl.workflows.contract import PLAN_SOURCE, PREVIEW_SOURCE, PlanSourceInput
from hyperctl.workflows.errors import ErrorCode, Failure, HyperctlError
from hyperctl.workflows.machine import Machine, PowerState
from hyperctl.workflows.plan import SourcePlan
from hyperctl.workflows.request import MigrationRequest, RunningSource, WhenRunning
from hyperctl.workflows.status import Phase

SRIOV = "sriov"
AS_IT_IS = RunningSource()
_SUPPORTED_GUEST = re.compile(r"(debian|ubuntu)\w*", re.IGNORECASE)
_OTHER_LINUX = re.compile(r"other\w*linux\w*", re.IGNORECASE)


class PlanSourceActivities:
    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    @activity.defn(name=PREVIEW_SOURCE.name, no_thread_cancel_exception=True)
    def preview_source(self, argument: PlanSourceInput) -> SourcePlan:
        """The same on a queue that no copy holds up."""
        return self.plan_source(argument)

    @activity.defn(name=PLAN_SOURCE.name, no_thread_cancel_exception=True)
    def plan_source(self, argument: PlanSourceInput) -> SourcePlan:
        """Look at the VM and change nothing. Problems come back together, they are not raised."""
        with attempt(Phase.PLAN, argument.job_id, self._settings.log_dir) as running:
            return plan_source(argument.request, self._settings, running)


def plan_source(request: MigrationRequest, settings: HostSettings, running: Attempt) -> SourcePlan:
    """Read the machine and judge it."""
    if request.file is not None:
        return plan_file(request.file, request.vm_name, settings, running)
    vcenter = request.vcenter
    assert vcenter is not None, "a request has a file or a vCenter"
    try:
        with open_session(vcenter, settings, running) as session:
            source = find_machine(session, request.name, vcenter.datacenter)
            choice = choose_transport(session, source, request, settings, running)
    except HyperctlError as error:
        running.log.error("%s", error)
        return SourcePlan(host=settings.host, problems=error.failures)
    running.log.info("transport %s: %s", choice.transport, choice.reason)
    problems = problems_of(source, request.running) + ((choice.problem,) if choice.problem else ())
    for problem in problems:
        running.log.error("%s", problem.message)
    return SourcePlan(
        host=settings.host,
        machine=source.machine,
        transport=choice.transport,
        transport_reason=choice.reason,
        problems=problems,
        warnings=running_warnings(source, request) + warnings_of(source),
    )


def problems_of(
    source: SourceMachine,
    asked: RunningSource = AS_IT_IS,
) -> tuple[Failure, ...]:
    """Everything that stands against exporting this machine, all at once."""
    machine = source.machine
    name = machine.name
    found: list[Failure] = []

    def problem(code: ErrorCode, message: str, hint: str) -> None:
        found.append(Failure(code=code, message=message, hint=hint))

    if source.connection_state != "connected":
        problem(
            ErrorCode.VCENTER_FAULT,
            f"{name} is {source.connection_state}: "
            f"its ESXi host {machine.esxi_host} does not give access to it",
            "Bring the host or its storage back.",
        )
    if source.is_template:
        problem(ErrorCode.VM_UNSUPPORTED, f"{name} is a template", "Convert it to a virtual machine first.")
    found += running_problems(source, asked)
    if not machine.disks:
        problem(ErrorCode.VM_UNSUPPORTED, f"{name} has no disk", "There is nothing to move.")
    if source.is_encrypted:
        problem(
            ErrorCode.VM_UNSUPPORTED,
            f"{name} is encrypted",
            "Decrypt it in vSphere first (VM policies, storage policy without encryption).",
        )
    if source.fault_tolerant:
        problem(
            ErrorCode.VM_UNSUPPORTED,
            f"{name} is protected by Fault Tolerance",
            "Turn Fault Tolerance off for it in vSphere first.",
        )
    if source.needs_consolidation:
        problem(
            ErrorCode.VM_UNSUPPORTED,
            f"the disks of {name} need consolidation",
            "Consolidate them in vSphere first (Snapshots, Consolidate).",
        )
    snapshot = machine.power_state is PowerState.ON and asked.action is WhenRunning.SNAPSHOT
    if source.independent_disks and not snapshot:
        problem(
            ErrorCode.VM_UNSUPPORTED,
            f"{name} has independent disks: {', '.join(source.independent_disks)}",
            "Make them dependent in the VM's settings (disk mode) while it is off.",
        )
    if source.physical_rdms:
        problem(
            ErrorCode.VM_UNSUPPORTED,
            f"{name} has raw device mappings in physical mode: {', '.join(source.physical_rdms)}",
            "Switch them to virtual mode, or detach them and attach the LUN to the new machine.",
        )
    if source.shared_disks:
        problem(
            ErrorCode.VM_UNSUPPORTED,
            f"{name} shares disks with other machines: {', '.join(source.shared_disks)}",
            "Shared (multi-writer) disks cannot be exported; detach them first.",
        )
    known = any(one.fullmatch(machine.guest_id) for one in (_SUPPORTED_GUEST, _OTHER_LINUX))
    if not known and not machine.runs_windows:
        problem(
            ErrorCode.GUEST_UNSUPPORTED,
            f"{name} runs {_guest(machine)}, which cannot be converted yet",
            f"Supported now: {SUPPORTED_GUESTS}.",
        )
    return tuple(found)


def warnings_of(source: SourceMachine) -> tuple[str, ...]:
    """What a person should know and what does not stand against it."""
    machine = source.machine
    found: list[str] = []
    if _OTHER_LINUX.fullmatch(machine.guest_id):
        found.append(f"vSphere knows the guest only as {_guest(machine)}; supported are {SUPPORTED_GUESTS}")
    if source.has_snapshots:
        found.append("the machine has snapshots: its current state is moved, the snapshots are not")
    if machine.tpm:
        found.append("the state of the virtual TPM cannot be moved: have recovery keys at hand")
    if source.passthrough:
        found.append(f"stays behind, as it is the ESXi host's: {', '.join(source.passthrough)}")
    found += [
        f"{nic.label} is a function of a physical adapter (SR-IOV): the new machine has an ordinary one with "
        "its MAC, and what was set up for the adapter's driver does not hold"
        for nic in machine.nics
        if nic.adapter == SRIOV
    ]
    silent = [nic.label for nic in machine.nics if nic.connected and not nic.addresses]
    if silent:
        found.append(
            f"vSphere knows no address of {', '.join(silent)}: the boot proof cannot compare addresses there"
        )
    return tuple(found)


def _guest(machine: Machine) -> str:
    return f"{machine.guest_full_name} ({machine.guest_id})" if machine.guest_full_name else machine.guest_id
