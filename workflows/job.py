"""What the workflow of every job does alike: it ends in order whatever happens, and does what it is told."""

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from hyperctl.workflows.board import ProgressBoard
from hyperctl.workflows.control import CancelRequest
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.rehearsal import RehearsalRequest
from hyperctl.workflows.request import MigrationRequest, Priority
from hyperctl.workflows.status import JobStatus, MigrationStatus, Phase
from hyperctl.workflows.steps import StepFailed, StepRunner

JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

ResultT = TypeVar("ResultT")


class DurableJob:
    """Base of the workflows of jobs; whose own part is a body, and what takes it back."""

    def __init__(self, request: MigrationRequest | RehearsalRequest) -> None:
        self._job_id = workflow.info().workflow_id
        self._board = ProgressBoard(request, self._job_id)
        self._steps = StepRunner(request.retry_policy, request.priority, self._publish)
        self._cancel = CancelRequest()
        self._cancel_requested = False
        self._body: asyncio.Task[Any] | None = None

    async def _carry_out(self, body: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run the body to its end and take back what a cancel or a failure leaves."""
        self._publish()
        running = asyncio.create_task(body)
        self._body = running
        if self._cancel_requested:
            running.cancel()
        await self._settle(running)
        try:
            result = running.result()
        except asyncio.CancelledError:
            await self._end(JobStatus.CANCELLED)
            if workflow.cancellation_reason() is not None:
                raise
            reason = self._cancel.reason or "on request"
            raise ApplicationError(
                f"cancelled: {reason}", type=ErrorCode.CANCELLED, non_retryable=True
            ) from None
        except StepFailed as failed:
            self._board.status.failures = failed.failures
            await self._end(JobStatus.FAILED)
            raise failed.as_error() from failed
        await self._end(JobStatus.COMPLETED)
        return result

    async def _take_back(self) -> None:
        """Put away what must not stay of a job that was cancelled or has failed."""

    def _refuse_unusable_id(self) -> None:
        if not JOB_ID.fullmatch(self._job_id):
            raise StepFailed((_unusable_job_id(self._job_id),))

    async def _settle(self, task: "asyncio.Task[Any]") -> None:
        """Wait for a task through a cancel of the workflow, which is passed on to the body once."""
        while not task.done():
            try:
                await workflow.wait_condition(task.done)
            except asyncio.CancelledError:
                self._request_cancel()

    async def _end(self, status: JobStatus) -> None:
        """Put away what must not stay, say how it ended, let every client's last call through."""
        if status is not JobStatus.COMPLETED:
            self._publish()
            taking_back = asyncio.create_task(self._take_back())
            await self._settle(taking_back)
            taking_back.result()  # what is wrong beyond a failed activity must not pass unseen
        self._board.finish(status)
        self._publish()
        await workflow.wait_condition(workflow.all_handlers_finished)

    def _request_cancel(self) -> None:
        if self._cancel_requested:
            return
        self._cancel_requested = True
        if self._body is not None:
            self._body.cancel()

    # --- what clients tell and ask ----------------------------------------------------------------

    @workflow.signal(name="cancel", description="Stop and take back what was done; keep the copy.")
    def cancel(self, request: object = None) -> None:
        self._cancel = CancelRequest.read(request)
        self._request_cancel()

    @workflow.signal(name="set_priority", description="low, normal or high.")
    def set_priority(self, priority: str) -> None:
        if priority not in set(Priority):
            workflow.logger.warning("ignored: set_priority to %r", priority)
            return
        self._steps.priority = Priority(priority)
        self._publish()

    @workflow.signal(name="pause", description="Hold before the next step; one that goes on stops at once.")
    def pause(self) -> None:
        self._steps.pause(True)

    @workflow.signal(name="resume", description="Go on after a pause; look again whether there is room.")
    def resume(self) -> None:
        self._steps.pause(False)

    @workflow.signal(name="retry_now", description="Do not wait for the next try.")
    def retry_now(self) -> None:
        self._steps.retry_now()

    @workflow.query(name="status", description="Everything that is known of the job.")
    def status(self) -> MigrationStatus:
        return self._board.status

    def _enter(self, phase: Phase, status: JobStatus) -> None:
        self._board.enter(phase, status)
        self._publish()

    def _publish(self) -> None:
        self._board.publish(self._steps)


def _unusable_job_id(job_id: str) -> Failure:
    return Failure(
        code=ErrorCode.INVALID_REQUEST,
        message=f"the workflow id {job_id!r} cannot name a job",
        hint="Start it again under an id of letters, digits, '.', '_' and '-', 128 characters at most.",
    )
