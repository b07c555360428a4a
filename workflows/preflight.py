"""The read-only look at both sides that a migration begins with, and `PlanWorkflow`, which only looks."""

import pydantic
from temporalio import workflow

from hyperctl.workflows import contract
from hyperctl.workflows.contract import Activity, PlanSourceInput
from hyperctl.workflows.errors import Failure
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.plan import Preflight, SourcePlan, TargetPlan
from hyperctl.workflows.request import MigrationRequest, Priority
from hyperctl.workflows.steps import StepFailed, StepRunner, tried_once


async def look_at_both(
    steps: StepRunner,
    job_id: str,
    request: MigrationRequest,
    look_at_source: Activity[PlanSourceInput, SourcePlan],
) -> tuple[SourcePlan, TargetPlan]:
    """What the source is, and what the host that looked at it makes of it as a target."""
    source = await steps.activity(
        look_at_source,
        PlanSourceInput(job_id=job_id, request=request),
        host=request.host,
        summary=f"look at {request.name} in {request.origin}",
    )
    target = await steps.activity(
        contract.PLAN_TARGET,
        contract.PlanTargetInput(job_id=job_id, request=request, machine=source.machine),
        host=source.host,
        summary=f"look at the target host {source.host}",
    )
    return source, target


async def refuse_rivals(
    steps: StepRunner, job_id: str, request: MigrationRequest, machine: Machine, host: str
) -> None:
    """Raise `StepFailed` where another job migrates the same machine."""
    await steps.activity(
        contract.FIND_RIVAL,
        contract.FindRivalInput(job_id=job_id, server=request.origin, machine=machine),
        host=host,
        summary="see that no other job migrates this machine",
    )


@workflow.defn(name="PlanWorkflow", failure_exception_types=[pydantic.ValidationError])
class PlanWorkflow:
    """Takes what `MigrationWorkflow` takes, and changes nothing. Problems are its result, not its failure."""

    @workflow.run
    async def run(self, request: MigrationRequest) -> Preflight:
        job_id = request.job_id
        with tried_once(Priority.HIGH) as steps:
            source, target = await look_at_both(steps, job_id, request, contract.PREVIEW_SOURCE)
            problems = source.problems + target.problems
            if source.machine is not None:
                problems += await _rivals(steps, job_id, request, source.machine, source.host)
        return Preflight(
            job_id=job_id,
            vm_name=source.machine.name if source.machine else request.name,
            source=source,
            target=target,
            problems=problems,
        )


async def _rivals(
    steps: StepRunner, job_id: str, request: MigrationRequest, machine: Machine, host: str
) -> tuple[Failure, ...]:
    try:
        await refuse_rivals(steps, job_id, request, machine, host)
    except StepFailed as failed:
        return failed.failures
    return ()
