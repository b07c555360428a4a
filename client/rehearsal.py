"""Handles on one rehearsal, and on a batch of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from temporalio.client import WorkflowExecutionDescription, WorkflowFailureError, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from hyperctl.client.connection import Connection, translate
from hyperctl.client.errors import JobConflict, JobNotFound, MigrationCancelled, NoWorker, UnreachableError
from hyperctl.client.job import Job, Origin, failures_of
from hyperctl.client.observe import is_open, rehearsal_without_worker
from hyperctl.workflows.queues import WORKFLOW_QUEUE
from hyperctl.workflows.rehearsal import (
    RehearsalBatchStatus,
    RehearsalRequest,
    RehearsalResult,
    Verdict,
)
from hyperctl.workflows.request import VCenter
from hyperctl.workflows.status import JobKind, JobStatus, MigrationStatus

BATCH_PREFIX = "rehearsals-"
BATCH_TYPE = "RehearsalBatchWorkflow"
FETCHES_AT_ONCE = 8


class Rehearsal(Job[RehearsalRequest, RehearsalResult]):
    """One rehearsal, which need not be under way. Made by `MigrationClient`, not by hand."""

    kind = JobKind.REHEARSAL
    _request_type = RehearsalRequest
    _result_type = RehearsalResult

    async def result(self) -> RehearsalResult:
        """Wait for the end. One that has failed is a result, too: not rehearsed, with all reasons.

        Raises `MigrationCancelled`.
        """
        try:
            with self._connection.errors():
                result: RehearsalResult = await self._handle.result()
                return result
        except WorkflowFailureError as error:
            status = await self.status()
            failures = status.failures or failures_of(error)
            if status.status is JobStatus.CANCELLED:
                raise MigrationCancelled(status, failures) from error
            return RehearsalResult(
                verdict=Verdict.NOT_REHEARSED,
                reason=failures[0] if failures else None,
                failures=failures,
                job_id=self.job_id,
                vm_name=status.vm_name,
                vcenter=status.vcenter,
                source_file=status.source_file,
                host=status.host,
                warnings=status.plan.warnings if status.plan else (),
                started_at=status.created_at,
                completed_at=status.completed_at or status.updated_at,
            )

    def _placeholder(self) -> RehearsalRequest:
        return RehearsalRequest(vm_name="(unreadable)", vcenter=VCenter(server="(unreadable)"))

    def _without_worker(
        self,
        description: WorkflowExecutionDescription,
        request: RehearsalRequest,
        result: RehearsalResult | None,
    ) -> MigrationStatus:
        return rehearsal_without_worker(description, request, result)


class RehearsalBatch:
    """Many rehearsals that were started together. Made by `MigrationClient`."""

    def __init__(self, connection: Connection, batch_id: str, origin: Origin | None = None) -> None:
        self.batch_id = batch_id
        self.origin = origin
        self._connection = connection
        self._handle: Any = connection.client.get_workflow_handle(batch_id, result_type=RehearsalBatchStatus)

    async def status(self) -> RehearsalBatchStatus:
        """How far it is. Raises `JobNotFound`, `ServerUnreachable`, or `NoWorker` where nobody answers."""
        description = await self._describe()
        try:
            answer: RehearsalBatchStatus = await self._handle.query(
                "status", result_type=RehearsalBatchStatus, rpc_timeout=self._connection.timeout
            )
        except (RPCError, WorkflowQueryFailedError) as error:
            raise NoWorker(
                f"no worker answers for {self.batch_id} on queue {WORKFLOW_QUEUE}",
                "Start one with: hyperctl worker",
            ) from error
        if not is_open(description) and answer.completed_at is None:  # it was terminated
            return answer.model_copy(update={"completed_at": description.close_time, "cancelled": True})
        return answer

    async def watch(
        self, interval_seconds: float = 1.0, on_wait: Callable[[str], None] = lambda _: None
    ) -> AsyncIterator[RehearsalBatchStatus]:
        """Every status that differs from the one before, until the batch has ended.

        A worker that is away is waited for; `on_wait` is told.
        """
        last: RehearsalBatchStatus | None = None
        while True:
            try:
                status = await self._with_notes(await self.status())
            except UnreachableError as error:
                if last is None and not isinstance(error, NoWorker):
                    raise
                on_wait(f"{error.message}; trying again")
            else:
                if status != last:
                    yield status
                if status.completed_at is not None:
                    return
                last = status
            await asyncio.sleep(interval_seconds)

    async def _with_notes(self, status: RehearsalBatchStatus) -> RehearsalBatchStatus:
        item = next((item for item in status.items if item.is_under_way), None)
        if item is None:
            return status
        rehearsal = Rehearsal(self._connection, item.job_id, run_id=item.run_id)
        return status.model_copy(update={"notes": (await rehearsal.status()).notes})

    async def results(self, status: RehearsalBatchStatus | None = None) -> tuple[RehearsalResult, ...]:
        """Of all that have ended by a status, or by now, in the order of the request."""
        status = status or await self.status()
        slots = asyncio.Semaphore(FETCHES_AT_ONCE)

        async def fetch(job_id: str, run_id: str) -> RehearsalResult | None:
            async with slots:
                try:
                    return await Rehearsal(self._connection, job_id, run_id=run_id).result()
                except MigrationCancelled:
                    return None

        found: list[RehearsalResult] = []
        started = [item for item in status.items if item.verdict is not None and item.run_id]
        fetched = await asyncio.gather(*(fetch(item.job_id, item.run_id) for item in started))
        by_job = {result.job_id: result for result in fetched if result is not None}
        for item in status.items:
            if item.verdict is None:
                continue
            known = by_job.get(item.job_id)
            found.append(
                known
                or RehearsalResult(
                    verdict=item.verdict,
                    reason=item.reason,
                    job_id=item.job_id,
                    vm_name=item.vm_name,
                    vcenter=item.vcenter,
                    started_at=status.created_at,
                    completed_at=status.completed_at or status.created_at,
                )
            )
        return tuple(found)

    async def cancel(self) -> None:
        """Stop those under way and start no more. Raises `JobNotFound` or `JobConflict`."""
        await self._describe()
        try:
            await self._handle.cancel(rpc_timeout=self._connection.timeout)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise translate(error, self._connection.settings) from error
            raise JobConflict(f"{self.batch_id} has already ended") from error

    async def _describe(self) -> WorkflowExecutionDescription:
        try:
            description: WorkflowExecutionDescription = await self._handle.describe(
                rpc_timeout=self._connection.timeout
            )
        except RPCError as error:
            if error.status not in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
                raise translate(error, self._connection.settings) from error
        else:
            if description.workflow_type == BATCH_TYPE:
                return description
        raise JobNotFound(
            f"there is no batch {self.batch_id} in namespace {self._connection.client.namespace}",
            "`hyperctl list --kind rehearsal` shows the rehearsals that are known.",
        )
