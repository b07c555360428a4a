"""The preflight of a rehearsal: the migration's own, with what stands against either told apart."""

from collections.abc import Iterable

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.datastore import probe_datastore
from hyperctl.activities.plan_source import problems_of, warnings_of
from hyperctl.activities.plan_target import TargetPreflight
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.inventory import find_machine
from hyperctl.activities.vsphere.session import open_session
from hyperctl.workflows.contract import PlanTargetInput
from hyperctl.workflows.errors import ErrorCode, Failure, HyperctlError
from hyperctl.workflows.machine import PowerState
from hyperctl.workflows.rehearsal import RehearsalPlan, RehearsalRequest
from hyperctl.workflows.request import WhenRunning

ROOM_BYTES = 1 << 30
"""For what is fetched and for the overlays; some 300 MiB for a guest of a few GiB."""
_OF_THE_MIGRATION = (ErrorCode.NO_SPACE, ErrorCode.OUTPUT_EXISTS)
"""What the target's preflight finds against images, of which a rehearsal leaves none."""


def plan_rehearsal(request: RehearsalRequest, settings: HostSettings, running: Attempt) -> RehearsalPlan:
    """Read the machine, judge it, and look at this host."""
    vcenter = request.vcenter
    try:
        with open_session(vcenter, settings, running) as session:
            source = find_machine(session, request.vm_name, vcenter.datacenter)
            problems = list(_problems(source))
            if source.machine.power_state is PowerState.OFF:
                try:
                    probe_datastore(session, source, WhenRunning.REFUSE, running)
                except HyperctlError as error:
                    problems.append(_unreadable(source, error.failure))
    except HyperctlError as error:
        running.log.error("%s", error)
        return RehearsalPlan(host=settings.host, problems=error.failures)
    migration = request.migration()
    looking = PlanTargetInput(job_id=migration.job_id, request=migration, machine=source.machine)
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
        machine=source.machine,
        output_dir=target.output_dir,
        acceleration=target.acceleration,
        needed_bytes=target.needed_bytes,
        free_bytes=target.free_bytes,
        problems=tuple(problems),
        warnings=(*warnings_of(source), *warnings, *target.warnings),
    )


def _problems(source: SourceMachine) -> Iterable[Failure]:
    """The migration's, but for a machine that is not off: what helps a copy of one does not help here."""
    for problem in problems_of(source):
        if problem.code is not ErrorCode.VM_POWERED_ON:
            yield problem
            continue
        yield Failure(
            code=problem.code,
            message=f"{problem.message}: over HTTPS the disks of a machine can be read only while it is off",
            hint="Rehearse it when it has been shut down in its guest. It is never switched off for that.",
        )


def _unreadable(source: SourceMachine, failure: Failure) -> Failure:
    return Failure(
        code=failure.code,
        message=f"the disks of {source.machine.name} cannot be read where they are: {failure.message}",
        hint="A rehearsal reads them from their datastore over HTTPS. Its migration may take another way: "
        "the plan that `hyperctl convert` begins with says which.",
    )
