"""The Python client: start migrations, find them, watch them. `Migration` is the handle on one.

client = await MigrationClient.connect()
migration = await client.start(MigrationRequest(vm_name="db-1", vcenter=VCenter(server="vc.example.com")))
async for status in migration.watch():
    print(status.status, status.phase)

`rehearse` and `rehearse_all` do the same for rehearsals; `plan` and `inventory` only look.
"""

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Self

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import Priority as TemporalPriority
from temporalio.common import TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from hyperctl.client.config import Configuration, Temporal
from hyperctl.client.connection import Connection, connect, translate
from hyperctl.client.errors import ClientError, JobConflict, JobNotFound
from hyperctl.client.job import Origin
from hyperctl.client.migration import Migration
from hyperctl.client.observe import attribute, is_open, job_status
from hyperctl.client.question import ask
from hyperctl.client.rehearsal import BATCH_PREFIX, BATCH_TYPE, Rehearsal, RehearsalBatch
from hyperctl.client.visibility import (
    JobSummary,
    find_vm,
    last_rehearsal,
    last_rehearsal_by_id,
    list_jobs,
    remembered_jobs,
)
from hyperctl.workflows import attributes
from hyperctl.workflows.identity import derive_file_rehearsal_id
from hyperctl.workflows.inventory import InventoryPage, InventoryRequest
from hyperctl.workflows.plan import Preflight
from hyperctl.workflows.queues import WORKFLOW_QUEUE
from hyperctl.workflows.rehearsal import (
    RehearsalBatchRequest,
    RehearsalBatchStatus,
    RehearsalRequest,
    RehearsalResult,
)
from hyperctl.workflows.request import MigrationRequest
from hyperctl.workflows.status import JobKind, JobStatus, MigrationResult

__all__ = ["JobSummary", "Migration", "MigrationClient", "Origin", "Rehearsal", "RehearsalBatch"]

START_ATTEMPTS = 5


class MigrationClient:
    """Connected to one Temporal namespace. Safe to use from many tasks at a time."""

    def __init__(self, client: Client, settings: Temporal | None = None) -> None:
        """For a Temporal client of one's own, which must have temporalio's pydantic data converter."""
        self.connection = Connection(client, settings or Temporal())

    @classmethod
    async def connect(
        cls,
        address: str | None = None,
        namespace: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Self:
        """Connect; what is not given comes from the environment and the user's configuration.

        Raises `ServerUnreachable`, naming the address, `ConfigurationError` or `ClientError`.
        """
        given = {"address": address, "namespace": namespace, "timeout": timeout_seconds}
        known = {key: value for key, value in given.items() if value is not None}
        settings = Temporal() if len(known) == len(given) else Configuration.load().daemons.temporal
        connection = await connect(settings.model_copy(update=known))
        return cls(connection.client, connection.settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Nothing is held that has to be given back: Temporal's client closes with the process."""

    async def start(
        self, request: MigrationRequest, *, job_id: str | None = None, again: bool = False
    ) -> Migration:
        """Start a migration, or attach to it; `Migration.origin` says which.

        The job id follows from what is migrated, so that the same request twice is one migration. One that
        is under way is attached to; one that has failed or was cancelled goes on from what is on disk; one
        that is completed is not done again unless `again` is set.
        """
        job_id = job_id or request.job_id
        for _ in range(START_ATTEMPTS):
            migration = await self._start_once(request, job_id, again)
            if migration is not None:
                return migration
        raise JobConflict(f"{job_id} is started and ended again and again by somebody else")

    async def rehearse(self, request: RehearsalRequest) -> Rehearsal:
        """Rehearse a VM, or attach to its rehearsal that is under way; `Rehearsal.origin` says which."""
        for _ in range(START_ATTEMPTS):
            existing = Rehearsal(self.connection, request.job_id, Origin.ATTACHED)
            try:
                if is_open(await existing.describe()):
                    return existing
            except JobNotFound:
                pass
            try:
                await self._start_workflow(request, request.job_id, attributes.at_start(request), again=True)
            except WorkflowAlreadyStartedError:
                continue
            return Rehearsal(self.connection, request.job_id, Origin.STARTED)
        raise JobConflict(f"{request.job_id} is started and ended again and again by somebody else")

    async def rehearse_all(
        self, requests: Sequence[RehearsalRequest], *, parallel: int = 2
    ) -> RehearsalBatch:
        """Rehearse many VMs, so many at a time. Raises pydantic's `ValidationError` for none or too many."""
        request = RehearsalBatchRequest(rehearsals=tuple(requests), parallel=parallel)
        batch_id = f"{BATCH_PREFIX}{uuid.uuid4().hex[:10]}"
        with self.connection.errors():
            await self.connection.client.start_workflow(
                BATCH_TYPE,
                request,
                id=batch_id,
                task_queue=WORKFLOW_QUEUE,
                result_type=RehearsalBatchStatus,
                static_summary=f"{len(requests)} rehearsals, {parallel} at a time",
                rpc_timeout=self.connection.timeout,
            )
        return RehearsalBatch(self.connection, batch_id, Origin.STARTED)

    def rehearsal_batch(self, batch_id: str) -> RehearsalBatch:
        """The batch of that id, to watch it, cancel it or take its results; whether it is there, they say."""
        return RehearsalBatch(self.connection, batch_id)

    async def last_rehearsal(self, vm_name: str, vcenter: str) -> JobSummary | None:
        """What came of a VM's last rehearsal, and when; None where that is not known at once."""
        return await last_rehearsal(self.connection, vm_name, vcenter)

    async def last_rehearsal_of(self, request: MigrationRequest) -> JobSummary | None:
        """The same of what a migration is asked for, which may be a file."""
        if request.vcenter is not None:
            return await self.last_rehearsal(request.name, request.vcenter.server)
        assert request.file is not None, "a request has a file or a vCenter"
        job_id = derive_file_rehearsal_id(request.host, request.file.path, request.vm_name)
        return await last_rehearsal_by_id(self.connection, job_id)

    async def plan(
        self, request: MigrationRequest, *, on_wait: Callable[[str], None] = lambda _: None
    ) -> Preflight:
        """What the migration would begin with: both sides looked at by a worker, and nothing changed.

        `on_wait` is told what it waits for. Raises `NoWorker`, or `QuestionFailed` where there is no answer;
        what stands against the migration is in the answer.
        """
        return await ask(
            self.connection,
            "PlanWorkflow",
            request,
            Preflight,
            workflow_id=f"plan-{request.job_id}-{uuid.uuid4().hex[:10]}",
            summary=f"plan {request.name} from {request.origin}",
            host=request.host,
            on_wait=on_wait,
        )

    async def last_migration(self, request: MigrationRequest) -> JobSummary | None:
        """The migration that a request of this kind would attach to, go on with or find done."""
        try:
            return await JobSummary.of(await Migration(self.connection, request.job_id).describe())
        except JobNotFound:
            return None

    async def inventory(
        self, request: InventoryRequest, *, on_wait: Callable[[str], None] = lambda _: None
    ) -> AsyncIterator[InventoryPage]:
        """What a vCenter holds, page by page, by name. Raises as `plan` does."""
        while True:
            page = await ask(
                self.connection,
                "InventoryWorkflow",
                request,
                InventoryPage,
                workflow_id=f"inventory-{uuid.uuid4().hex[:10]}",
                summary=f"inventory of {request.vcenter.server}",
                host=request.host,
                on_wait=on_wait,
            )
            yield page
            if not page.next:
                return
            request = request.model_copy(update={"start": page.next})

    async def remembered_jobs(self, vcenter: str) -> Sequence[JobSummary]:
        """The last migration and rehearsal of every machine of a vCenter that has any, the newest first."""
        return await remembered_jobs(self.connection, vcenter)

    async def job(self, job_id: str) -> Migration | Rehearsal:
        """The migration or rehearsal of that id. Raises `JobNotFound`."""
        rehearsal = Rehearsal(self.connection, job_id)
        try:
            await rehearsal.describe()
        except JobNotFound:
            return await self.get(job_id)
        return rehearsal

    async def retry(self, job_id: str) -> Migration:
        """Start a failed or cancelled migration again, as it was asked for the last time.

        Raises `JobNotFound`, or `JobConflict` when there is nothing to retry.
        """
        migration = await self.get(job_id)
        description = await migration.describe()
        if is_open(description):
            raise JobConflict(
                f"{job_id} is under way: it is {job_status(description)}",
                f"A wait before the next try ends with: hyperctl retry-now --job {job_id}",
            )
        if description.status is WorkflowExecutionStatus.COMPLETED:
            raise JobConflict(
                f"{job_id} is completed; there is nothing to retry",
                "`hyperctl convert --again` does a whole migration again.",
            )
        return await self.start(await migration.request(), job_id=job_id)

    async def get(self, job_id: str) -> Migration:
        """The migration of that id. Raises `JobNotFound`."""
        migration = Migration(self.connection, job_id)
        await migration.describe()
        return migration

    async def find_by_vm(self, vm_name: str, vcenter: str | None = None) -> Migration:
        """The migration of a VM. Raises `JobNotFound` with the nearest names, or `JobAmbiguous`."""
        return await self.get(await find_vm(self.connection, vm_name, vcenter))

    async def list(
        self,
        status: JobStatus | str | None = None,
        *,
        vcenter: str | None = None,
        since: datetime | None = None,
        limit: int = 50,
        kind: JobKind | str | None = None,
    ) -> Sequence[JobSummary]:
        """Migrations and rehearsals, the newest first. Temporal's lists lag a second or two behind."""
        wanted = JobStatus(status) if status else None
        return await list_jobs(
            self.connection,
            status=wanted,
            vcenter=vcenter,
            vm_name=None,
            since=since,
            limit=limit,
            kind=JobKind(kind) if kind else None,
        )

    async def _start_once(self, request: MigrationRequest, job_id: str, again: bool) -> Migration | None:
        """None where somebody else was quicker and it has to be looked at anew."""
        origin = Origin.STARTED
        existing = Migration(self.connection, job_id)
        try:
            description = await existing.describe()
        except JobNotFound:
            pass
        else:
            if is_open(description):
                return Migration(self.connection, job_id, Origin.ATTACHED)
            if description.status is not WorkflowExecutionStatus.COMPLETED:
                origin = Origin.RETRIED
                # Its copy, if there is one, is on that host: elsewhere it would begin anew beside it.
                before = attribute(description.typed_search_attributes, attributes.TARGET_HOST)
                if before and request.host is None:
                    request = request.model_copy(update={"host": before})
            elif not again:
                return Migration(self.connection, job_id, Origin.FINISHED)
        try:
            await self._start_workflow(request, job_id, attributes.at_start(request), again=again)
        except WorkflowAlreadyStartedError:
            return None
        return Migration(self.connection, job_id, origin)

    async def _start_workflow(
        self,
        request: MigrationRequest | RehearsalRequest,
        job_id: str,
        known: TypedSearchAttributes | None,
        *,
        again: bool,
    ) -> None:
        kind = JobKind.REHEARSAL if isinstance(request, RehearsalRequest) else JobKind.MIGRATION
        reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
        try:
            await self.connection.client.start_workflow(
                kind.workflow_type,
                request,
                id=job_id,
                task_queue=WORKFLOW_QUEUE,
                result_type=MigrationResult if kind is JobKind.MIGRATION else RehearsalResult,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE if again else reuse,
                search_attributes=known,
                static_summary=f"{request.name} from {request.origin}"[:200],
                priority=TemporalPriority(priority_key=request.priority.temporal_key),
                rpc_timeout=self.connection.timeout,
            )
        except RPCError as error:
            if error.status is RPCStatusCode.INVALID_ARGUMENT and known is not None:
                # A namespace without our search attributes; the first worker registers them, and the
                # workflow sets them for itself.
                await self._start_workflow(request, job_id, None, again=again)
                return
            if error.status is RPCStatusCode.INVALID_ARGUMENT:
                raise ClientError(f"Temporal takes no such job: {error.message}") from error
            raise translate(error, self.connection.settings) from error
