"""`RehearsalBatchWorkflow`: many VMs rehearsed, so many at a time, each by a workflow of its own."""

import asyncio

import pydantic
from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import (
    ApplicationError,
    ChildWorkflowError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

from hyperctl.workflows import attributes
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.rehearsal import (
    BatchItem,
    RehearsalBatchRequest,
    RehearsalBatchStatus,
    RehearsalRequest,
    RehearsalResult,
    Verdict,
)
from hyperctl.workflows.rehearse import RehearsalWorkflow


@workflow.defn(name="RehearsalBatchWorkflow", failure_exception_types=[pydantic.ValidationError])
class RehearsalBatchWorkflow:
    """It completes when every rehearsal has ended, however. A cancel is passed on to those under way."""

    @workflow.init
    def __init__(self, request: RehearsalBatchRequest) -> None:
        self._request = request
        self._batch_id = workflow.info().workflow_id
        self._items = [
            BatchItem(job_id=one.job_id, vm_name=one.name, vcenter=one.origin) for one in request.rehearsals
        ]
        self._status = RehearsalBatchStatus(
            batch_id=self._batch_id, parallel=request.parallel, created_at=workflow.info().start_time
        )

    @workflow.run
    async def run(self, request: RehearsalBatchRequest) -> RehearsalBatchStatus:
        slots = asyncio.Semaphore(request.parallel)

        async def within_limit(number: int, one: RehearsalRequest) -> None:
            async with slots:
                await self._rehearse(self._items[number], one)

        try:
            await asyncio.gather(
                *(within_limit(number, one) for number, one in enumerate(request.rehearsals))
            )
        finally:
            self._status.completed_at = workflow.now()
            self._status.cancelled = workflow.cancellation_reason() is not None
        return self.status()

    async def _rehearse(self, item: BatchItem, request: RehearsalRequest) -> None:
        try:
            child = await workflow.start_child_workflow(
                RehearsalWorkflow.run,
                request,
                id=item.job_id,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                search_attributes=attributes.at_start(request, self._batch_id),
                static_summary=f"rehearsal of {request.name} from {request.origin}"[:200],
            )
            item.run_id = child.first_execution_run_id or ""
            result = await child
        except WorkflowAlreadyStartedError:
            item.verdict = Verdict.NOT_REHEARSED
            item.reason = Failure(
                code=ErrorCode.JOB_RUNNING,
                message=f"{item.vm_name} is being rehearsed already, by {item.job_id}",
                hint=f"Follow that one: hyperctl status --follow --job {item.job_id}.",
            )
        except ChildWorkflowError as error:
            if is_cancelled_exception(error) and workflow.cancellation_reason() is not None:
                raise asyncio.CancelledError from error
            item.verdict = Verdict.NOT_REHEARSED
            item.reason = _reason(error)
        else:
            _take(item, result)

    @workflow.query(name="status", description="How far the batch is.")
    def status(self) -> RehearsalBatchStatus:
        return self._status.model_copy(update={"items": tuple(self._items)})


def _take(item: BatchItem, result: RehearsalResult) -> None:
    item.verdict, item.reason = result.verdict, result.reason
    item.read_bytes, item.duration_seconds = result.read_bytes, result.duration_seconds


def _reason(error: ChildWorkflowError) -> Failure:
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.details:
        return Failure.model_validate(cause.details[0])
    code = ErrorCode.CANCELLED if is_cancelled_exception(error) else ErrorCode.INTERNAL_ERROR
    if isinstance(cause, ApplicationError) and cause.type == ErrorCode.CANCELLED:
        code = ErrorCode.CANCELLED
    return Failure(code=code, message=str(cause or error))
