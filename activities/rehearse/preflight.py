"""The preflight of a rehearsal: the migration's own, with what stands against either told apart."""

from collections.abc import Iterable

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.datastore import probe_datastore
from hyperctl.activities.export.vddk import probe_vddk
from hyperctl.activities.plan_file import plan_file
from hyperctl.activities.plan_source import problems_of, warnings_of
from hyperctl.activities.plan_target import TargetPreflight
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.inventory import find_machine
from hyperctl.activities.vsphere.session import open_session
from hyperctl.workflows.contract import PlanTargetInput
from hyperctl.workflows.errors import ErrorCode, Failure, HyperctlError
from hyperctl.workflows.machine import PowerState
from hyperctl.workflows.plan import SourcePlan
from hyperctl.workflows.rehearsal import RehearsalPlan, RehearsalRequest
from hyperctl.workflows.request import RunningSource, TransportChoice, WhenRunning

ROOM_BYTES = 1 << 30
"""For what is fetched and for the overlays; some 300 MiB for a guest of a few GiB."""
_OF_THE_MIGRATION = (ErrorCode.NO_SPACE, ErrorCode.OUTPUT_EXISTS)
"""What the target's preflight finds against images, of which a rehearsal leaves none."""
_WHEN_OFF = "Rehearse it when it has been shut down in its guest. It is never switched off for that."
_BY_HTTPS = "from the datastore over HTTPS"
_BY_LIBRARY = "by VMware's own library"


def plan_rehearsal(request: RehearsalRequest, settings: HostSettings, running: Attempt) -> RehearsalPlan:
    """Read the machine, judge it, and look at this host."""
    if request.file is not None:
        source = plan_file(request.file, request.vm_name, settings, running)
    else:
        source = _plan_vsphere(request, settings, running)
    machine = source.machine
    if machine is None:
        return RehearsalPlan(host=settings.host, problems=source.problems)
    problems = list(source.problems)
    migration = request.migration()
    looking = PlanTargetInput(job_id=migration.job_id, request=migration, machine=machine)
    target = TargetPreflight(looking, settings, running).plan()
    problems += [problem for problem in target.problems if problem.code not in _OF_THE_MIGRATION]
    warnings = [
        f"its migration would be refused now: {problem.message}"
        for problem in target.problems
        if problem.code in _OF_THE_MIGRATION
    ]
    if target.free_bytes < ROOM_BYTES and not problems:
        problems.append(
            Failure(
                code=ErrorCode.NO_SPACE,
                message=f"{target.output_dir} has {target.free_bytes >> 20} MiB free, "
                f"a rehearsal needs {ROOM_BYTES >> 20} MiB",
                hint="Make room there, or give another --output-dir.",
            )
        )
    for problem in problems:
        running.log.error("%s: %s", problem.code, problem.message)
    return RehearsalPlan(
        host=settings.host,
        machine=machine,
        transport=TransportChoice(source.transport),
        transport_reason=source.transport_reason,
        output_dir=target.output_dir,
        acceleration=target.acceleration,
        needed_bytes=target.needed_bytes,
        free_bytes=target.free_bytes,
        problems=tuple(problems),
        warnings=(*source.warnings, *warnings, *target.warnings),
    )


def _plan_vsphere(request: RehearsalRequest, settings: HostSettings, running: Attempt) -> SourcePlan:
    vcenter = request.vcenter
    assert vcenter is not None, "a request has a file or a vCenter"
    try:
        with open_session(vcenter, settings, running) as session:
            source = find_machine(session, request.name, vcenter.datacenter)
            library = _library_problem(settings, running)
            problems = list(_problems(source, request.running, library))
            if library and source.machine.power_state is PowerState.OFF:
                try:
                    probe_datastore(session, source, WhenRunning.REFUSE, running)
                except HyperctlError as error:
                    problems.append(_unreadable(source, error.failure))
    except HyperctlError as error:
        running.log.error("%s", error)
        return SourcePlan(host=settings.host, problems=error.failures)
    from_snapshot = source.machine.power_state is PowerState.ON
    return SourcePlan(
        host=settings.host,
        machine=source.machine,
        transport=TransportChoice.DATASTORE if library else TransportChoice.VDDK,
        transport_reason=f"what a rehearsal needs is read {_BY_HTTPS if library else _BY_LIBRARY}",
        problems=tuple(problems),
        warnings=warnings_of(source) + ((_of_snapshot(source),) if from_snapshot else ()),
    )


def _library_problem(settings: HostSettings, running: Attempt) -> str:
    """Why VMware's library cannot be used here; empty where it can."""
    try:
        probe_vddk(settings, running)
    except HyperctlError as error:
        return error.failure.message
    return ""


def _problems(source: SourceMachine, asked: RunningSource, library: str) -> Iterable[Failure]:
    """The migration's, but for a machine that is not off: what helps a copy of one does not help here."""
    name, state = source.machine.name, source.machine.power_state
    for problem in problems_of(source, asked):
        if problem.code is not ErrorCode.VM_POWERED_ON:
            yield problem
        elif state is PowerState.ON and not library:
            yield problem.model_copy(update={"hint": f"Rehearse a snapshot of it: --snapshot. {_WHEN_OFF}"})
        else:
            yield _only_while_off(problem.message, library)
    if library and state is PowerState.ON and asked.action is WhenRunning.SNAPSHOT:
        yield _only_while_off(f"{name} is powered on", library)


def _only_while_off(message: str, library: str) -> Failure:
    why = f", and a snapshot of it cannot be read: {library}" if library else ""
    return Failure(
        code=ErrorCode.VM_POWERED_ON,
        message=f"{message}: over HTTPS the disks of a machine can be read only while it is off{why}",
        hint=_WHEN_OFF,
    )


def _of_snapshot(source: SourceMachine) -> str:
    name = source.machine.name
    return f"{name} is rehearsed from a snapshot, which is removed after it; the machine goes on"


def _unreadable(source: SourceMachine, failure: Failure) -> Failure:
    return Failure(
        code=failure.code,
        message=f"the disks of {source.machine.name} cannot be read where they are: {failure.message}",
        hint="A rehearsal reads them from their datastore over HTTPS, or by VMware's library. Its migration "
        "may take another way: the plan that `hyperctl convert` begins with says which.",
    )
