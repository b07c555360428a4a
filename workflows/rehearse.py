"""`RehearsalWorkflow`: one VM converted and booted over its disks where they are, and judged."""

import pydantic
from temporalio import workflow

from hyperctl.workflows import contract
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.job import DurableJob
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.plan import MigrationPlan
from hyperctl.workflows.preparation import SourcePreparation
from hyperctl.workflows.rehearsal import (
    REASON_MEMO,
    VERDICT_MEMO,
    RehearsalPlan,
    RehearsalRequest,
    RehearsalResult,
    Rehearsed,
    Verdict,
)
from hyperctl.workflows.status import JobStatus, Phase
from hyperctl.workflows.steps import StepFailed
from hyperctl.workflows.undo import UndoStack


@workflow.defn(name="RehearsalWorkflow", failure_exception_types=[pydantic.ValidationError])
class RehearsalWorkflow(DurableJob):
    """Its workflow id is the rehearsal's. It completes with a verdict on the guest, and fails without one."""

    @workflow.init
    def __init__(self, request: RehearsalRequest) -> None:
        super().__init__(request)
        self._request = request
        self._undos = UndoStack()
        self._source = SourcePreparation(
            request, self._job_id, self._steps, self._undos, self._board, contract.TAKE_SNAPSHOT
        )

    @workflow.run
    async def run(self, request: RehearsalRequest) -> RehearsalResult:
        return await self._carry_out(self._rehearse())

    async def _rehearse(self) -> RehearsalResult:
        self._refuse_unusable_id()
        try:
            plan = await self._steps.retrying(self._make_plan)
            self._enter(Phase.ADMIT, JobStatus.QUEUED)
            rehearsed = await self._tried(plan) if plan.machine and not plan.problems else _refused(plan)
        except StepFailed as failed:
            reason = failed.failures[0]
            self._tell(Rehearsed(verdict=Verdict.NOT_REHEARSED, reason=reason))
            raise
        self._tell(rehearsed)
        status = self._board.status
        return RehearsalResult(
            **dict(rehearsed),
            job_id=self._job_id,
            vm_name=status.vm_name,
            vcenter=status.vcenter,
            source_file=status.source_file,
            host=status.host,
            failures=plan.problems,
            started_at=status.created_at,
            completed_at=workflow.now(),
        )

    async def _make_plan(self) -> RehearsalPlan:
        """Read-only preflight of both sides. What stands against the guest alone is a verdict on it."""
        self._enter(Phase.PLAN, JobStatus.PENDING)
        plan = await self._steps.activity(
            contract.PLAN_REHEARSAL,
            contract.PlanRehearsalInput(job_id=self._job_id, request=self._request),
            host=self._request.host,
            summary=f"look at {self._request.name} in {self._request.origin} and at the host",
        )
        status = self._board.status
        status.host = plan.host
        if plan.machine is not None:
            status.plan = _shown(plan, plan.machine)
        if not all(_is_of_the_guest(problem) for problem in plan.problems):
            raise StepFailed(plan.problems)
        return plan

    async def _tried(self, plan: RehearsalPlan) -> Rehearsed:
        machine = plan.machine
        assert machine is not None, "a plan without problems has a machine"
        self._enter(Phase.REHEARSE, JobStatus.REHEARSING)
        shown = _shown(plan, machine)

        async def attempt() -> Rehearsed:
            prepared = await self._source.prepare(shown)
            return await self._steps.activity(
                contract.REHEARSE,
                contract.RehearseInput(
                    job_id=self._job_id,
                    request=self._request,
                    machine=machine,
                    output_dir=plan.output_dir,
                    transport=plan.transport,
                    snapshot=prepared.snapshot.moref if prepared.snapshot else "",
                ),
                host=plan.host,
                summary="convert and boot it over its disks where they are, and throw it away",
                interruptible=True,
            )

        rehearsed = await self._steps.retrying(attempt)
        await self._source.release(shown, last=True)
        estimate = rehearsed.estimate
        if estimate is not None:
            room = {"needed_bytes": plan.needed_bytes, "free_bytes": plan.free_bytes}
            estimate = estimate.model_copy(update=room)
        warnings = (*plan.warnings, *rehearsed.warnings, *self._board.status.warnings)
        return rehearsed.model_copy(update={"estimate": estimate, "warnings": warnings})

    async def _take_back(self) -> None:
        self._board.status.not_undone = await self._undos.run()

    def _tell(self, rehearsed: Rehearsed) -> None:
        """In the status, and where Temporal's lists show it."""
        status = self._board.status
        status.rehearsed = rehearsed
        status.guest, status.steps, status.proof = rehearsed.guest, rehearsed.steps, rehearsed.proof
        reason = rehearsed.reason.message[:300] if rehearsed.reason else ""
        workflow.upsert_memo({VERDICT_MEMO: str(rehearsed.verdict), REASON_MEMO: reason})


def _is_of_the_guest(problem: Failure) -> bool:
    return problem.code is ErrorCode.GUEST_UNSUPPORTED


def _refused(plan: RehearsalPlan) -> Rehearsed:
    return Rehearsed(verdict=Verdict.DOES_NOT_BOOT, reason=plan.problems[0], warnings=plan.warnings)


def _shown(plan: RehearsalPlan, machine: Machine) -> MigrationPlan:
    return MigrationPlan(
        host=plan.host,
        machine=machine,
        transport=plan.transport,
        transport_reason=plan.transport_reason,
        output_dir=plan.output_dir,
        acceleration=plan.acceleration,
        domain_name=machine.name,
        warnings=plan.warnings,
    )
