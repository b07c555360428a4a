"""The Python client: start migrations, watch them, tell them what to do."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import (
    Priority,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from hyperctl.client.errors import ClientError, JobNotFound, ServerUnreachable
from hyperctl.workflows.attributes import PRIORITY, STATUS, VCENTER, VM_NAME
from hyperctl.workflows.contract import ReadLogResult
from hyperctl.workflows.control import CancelRequest, LogsRequest
from hyperctl.workflows.queues import WORKFLOW_QUEUE
from hyperctl.workflows.request import MigrationRequest
from hyperctl.workflows.status import JobStatus, MigrationResult, MigrationStatus, Progress

QUERY_TIMEOUT = timedelta(seconds=5)
WATCH_SECONDS = 1.0
WORKFLOW_TYPE = "MigrationWorkflow"


@dataclass(frozen=True, slots=True)
class ListedMigration:
    """One line of a list; what Temporal's visibility store knows without asking a worker."""

    job_id: str
    vm_name: str
    status: str
    vcenter: str
    priority: str
    started_at: datetime


class Migration:
    """One migration, running or ended."""

    def __init__(self, client: Client, job_id: str) -> None:
        self._client = client
        self._handle: WorkflowHandle[object, MigrationResult] = client.get_workflow_handle(
            job_id, result_type=MigrationResult
        )
        self.job_id = job_id

    async def status(self) -> MigrationStatus:
        """Everything that is known, with the running activity's last words as `progress`.

        Raises `JobNotFound`, and `ClientError` where no worker is there to answer.
        """
        try:
            status: MigrationStatus = await self._handle.query(
                "status", result_type=MigrationStatus, rpc_timeout=QUERY_TIMEOUT
            )
        except RPCError as error:
            raise _translated(error, self.job_id) from error
        status.progress = None if status.status.is_final else await self._progress()
        return status

    async def watch(self) -> AsyncIterator[MigrationStatus]:
        """The status about once a second until the migration has ended; the last one is final."""
        while True:
            status = await self.status()
            yield status
            if status.status.is_final:
                return
            await asyncio.sleep(WATCH_SECONDS)

    async def result(self) -> MigrationResult:
        """Wait for the end. Raises temporalio's `WorkflowFailureError` when it failed or was cancelled."""
        return await self._handle.result()

    async def cancel(self, *, discard: bool = False, reason: str = "") -> None:
        """Stop it and take back what was done; the copied disks stay unless they are to be discarded."""
        await self._signal("cancel", CancelRequest(discard=discard, reason=reason))
        try:
            await self._handle.cancel()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:  # it has ended by the signal already
                raise _translated(error, self.job_id) from error

    async def set_priority(self, priority: str) -> None:
        await self._signal("set_priority", priority)

    async def pause(self) -> None:
        await self._signal("pause")

    async def resume(self) -> None:
        await self._signal("resume")

    async def retry_now(self) -> None:
        await self._signal("retry_now")

    async def log(self, offset: int = 0, wait_seconds: float = 0.0) -> ReadLogResult:
        """A piece of the job's log from its host; a negative offset counts lines from the end."""
        status = await self.status()
        if not status.host:
            return ReadLogResult(text="", next_offset=0)
        piece: ReadLogResult = await self._client.execute_workflow(
            "LogsWorkflow",
            LogsRequest(job_id=self.job_id, host=status.host, offset=offset, wait_seconds=wait_seconds),
            id=f"logs-{self.job_id}",
            task_queue=WORKFLOW_QUEUE,
            result_type=ReadLogResult,
            id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
            execution_timeout=timedelta(seconds=wait_seconds + 30),
        )
        return piece

    async def _signal(self, name: str, *arguments: object) -> None:
        try:
            await self._handle.signal(name, args=arguments)
        except RPCError as error:
            raise _translated(error, self.job_id) from error

    async def _progress(self) -> Progress | None:
        description = await self._handle.describe()
        for pending in description.raw_description.pending_activities:
            if pending.heartbeat_details.payloads:
                (progress,) = await self._client.data_converter.decode(
                    pending.heartbeat_details.payloads, [Progress]
                )
                return Progress.model_validate(progress)
        return None


class MigrationClient:
    """A connection to the Temporal server that runs the migrations."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @classmethod
    async def connect(cls, address: str | None = None, namespace: str | None = None) -> "MigrationClient":
        """Connect; defaults come from `HYPERCTL_TEMPORAL_ADDRESS` and `HYPERCTL_TEMPORAL_NAMESPACE`.

        Raises `ServerUnreachable`.
        """
        address = address or os.environ.get("HYPERCTL_TEMPORAL_ADDRESS") or "127.0.0.1:7233"
        namespace = namespace or os.environ.get("HYPERCTL_TEMPORAL_NAMESPACE") or "default"
        try:
            client = await Client.connect(
                address, namespace=namespace, data_converter=pydantic_data_converter
            )
        except RuntimeError as error:
            raise ServerUnreachable(
                f"Temporal at {address} does not answer: {error}",
                "Start it, or name another with --temporal or HYPERCTL_TEMPORAL_ADDRESS.",
            ) from error
        return cls(client)

    async def start(self, request: MigrationRequest, *, again: bool = False) -> Migration:
        """Start a migration, or attach to the one of the same VM that runs or has succeeded.

        One that failed or was cancelled is started again and goes on from what is on the host's disk;
        with `again` a successful one is, too.
        """
        reuse = (
            WorkflowIDReusePolicy.ALLOW_DUPLICATE
            if again
            else WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
        )
        attributes = [
            SearchAttributePair(STATUS, str(JobStatus.PENDING)),
            SearchAttributePair(VM_NAME, request.vm_name),
            SearchAttributePair(VCENTER, request.vcenter.server),
            SearchAttributePair(PRIORITY, str(request.priority)),
        ]
        try:
            await self._client.start_workflow(
                WORKFLOW_TYPE,
                request,
                id=request.job_id,
                task_queue=WORKFLOW_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=reuse,
                static_summary=f"{request.vm_name} from {request.vcenter.server}",
                search_attributes=TypedSearchAttributes(attributes),
                priority=Priority(priority_key=request.priority.temporal_key),
            )
        except WorkflowAlreadyStartedError:
            pass  # it has succeeded before: the caller gets that one
        except RPCError as error:
            raise _translated(error, request.job_id) from error
        return Migration(self._client, request.job_id)

    async def get(self, job_id: str) -> Migration:
        """A migration by its job id. Raises `JobNotFound`."""
        migration = Migration(self._client, job_id)
        try:
            await self._client.get_workflow_handle(job_id).describe()
        except RPCError as error:
            raise _translated(error, job_id) from error
        return migration

    async def list(self, status: str | None = None, limit: int = 100) -> list[ListedMigration]:
        """The newest migrations, of one status where one is given. Raises `ValueError` for an unknown one."""
        query = f"WorkflowType = '{WORKFLOW_TYPE}'"
        if status is not None:
            # Bare, the name is a keyword of the query language.
            query += f" AND `Status` = '{JobStatus(status)}'"
        found = []
        async for execution in self._client.list_workflows(query, limit=limit):
            known = execution.typed_search_attributes
            fallback = (execution.status or WorkflowExecutionStatus.RUNNING).name.lower()
            found.append(
                ListedMigration(
                    job_id=execution.id,
                    vm_name=known.get(VM_NAME, ""),
                    status=known.get(STATUS, fallback),
                    vcenter=known.get(VCENTER, ""),
                    priority=known.get(PRIORITY, ""),
                    started_at=execution.start_time,
                )
            )
        return found


def _translated(error: RPCError, job_id: str) -> ClientError:
    if error.status is RPCStatusCode.NOT_FOUND:
        return JobNotFound(f"there is no job {job_id}", "`hyperctl list` names those there are.")
    if error.status is RPCStatusCode.UNAVAILABLE:
        return ServerUnreachable(f"Temporal does not answer: {error.message}", "Is it still running?")
    if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.FAILED_PRECONDITION):
        return ClientError(
            f"no worker answers for {job_id}", "Start one with `hyperctl worker`; the job itself is safe."
        )
    return ClientError(f"Temporal refused: {error.message}")
