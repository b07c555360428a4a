"""A handle on one migration: watch it, tell it something, take its result."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from enum import StrEnum

from pydantic import ValidationError
from temporalio.client import (
    WorkflowExecutionDescription,
    WorkflowFailureError,
    WorkflowQueryFailedError,
)
from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    TerminatedError,
    WorkflowAlreadyStartedError,
)
from temporalio.service import RPCError, RPCStatusCode

from hyperctl.client.connection import Connection, translate
from hyperctl.client.errors import (
    ClientError,
    JobConflict,
    JobNotFound,
    MigrationCancelled,
    MigrationFailed,
    NoWorker,
    ServerUnreachable,
)
from hyperctl.client.joblog import follow_log, require_host
from hyperctl.client.observe import (
    attribute,
    end_by_force,
    end_with,
    is_open,
    job_status,
    read_notes,
    read_progress,
    status_without_worker,
)
from hyperctl.client.visibility import WORKFLOW_TYPE, hosts_of
from hyperctl.workflows import attributes
from hyperctl.workflows.bandwidth import LOWEST_BYTES_PER_SECOND
from hyperctl.workflows.contract import ImportResult
from hyperctl.workflows.control import CancelRequest, DiscardRequest, ImportRequest, domain_name_problem
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.leftover import HostLeftovers
from hyperctl.workflows.queues import WORKFLOW_QUEUE
from hyperctl.workflows.request import MigrationRequest, Priority, VCenter
from hyperctl.workflows.status import JobStatus, MigrationResult, MigrationStatus

QUERY_TIMEOUT = timedelta(seconds=2)


class Origin(StrEnum):
    """What `MigrationClient.start` found, and did."""

    STARTED = "started"
    RETRIED = "retried"
    """An earlier run had failed or was cancelled; this one goes on from what it left on disk."""
    ATTACHED = "attached"
    """It was under way already."""
    FINISHED = "finished"
    """It had been done before and was not done again."""


class Migration:
    """One migration, which need not be under way. Made by `MigrationClient`, not by hand."""

    def __init__(self, connection: Connection, job_id: str, origin: Origin | None = None) -> None:
        self.job_id = job_id
        self.origin = origin
        self._connection = connection
        self._handle = connection.client.get_workflow_handle(job_id, result_type=MigrationResult)

    async def status(self) -> MigrationStatus:
        """All that is known now, with live progress from the running activity's heartbeat.

        Where no worker answers within two seconds, what Temporal itself has on record; `notes` says so.
        Raises `JobNotFound` or `ServerUnreachable`.
        """
        description = await self.describe()
        answer = await self._query()
        client = self._connection.client
        if answer is None:
            result, failures = await self._outcome(description)
            request = await self._request_or_placeholder()
            status = end_with(status_without_worker(description, request, result), failures)
        else:
            status = end_by_force(description, answer)
            if not is_open(description) and status.status is JobStatus.FAILED and not status.failures:
                status = end_with(status, (await self._outcome(description))[1])
        if status.status.is_final:
            return status
        with self._connection.errors():
            progress = await read_progress(client, description)
            notes = await read_notes(client, description, answered=answer is not None)
        return status.model_copy(update={"progress": progress, "notes": notes})

    async def watch(self, interval_seconds: float = 1.0) -> AsyncIterator[MigrationStatus]:
        """Every status that differs from the one before, until the migration has ended.

        A server that goes away meanwhile is waited for; `notes` says so.
        """
        last: MigrationStatus | None = None
        while True:
            try:
                status = await self.status()
            except ServerUnreachable as error:
                if last is None:
                    raise
                status = last.model_copy(update={"notes": (f"{error.message}; trying again",)})
            if status != last:
                yield status
            if status.status.is_final:
                return
            last = status
            await asyncio.sleep(interval_seconds)

    async def result(self) -> MigrationResult:
        """Wait for the end. Raises `MigrationFailed`, or `MigrationCancelled`, which is one of these."""
        try:
            with self._connection.errors():
                result: MigrationResult = await self._handle.result()
                return result
        except WorkflowFailureError as error:
            status = await self.status()
            failures = status.failures or failures_of(error)
            kind = MigrationCancelled if status.status is JobStatus.CANCELLED else MigrationFailed
            raise kind(status, failures) from error

    async def request(self) -> MigrationRequest:
        """What was asked for when it was started, the last time if it was started again."""
        with self._connection.errors():
            events = self._handle.fetch_history_events(page_size=1, rpc_timeout=self._connection.timeout)
            async for event in events:
                payloads = event.workflow_execution_started_event_attributes.input.payloads
                decoded = await self._connection.client.data_converter.decode(payloads, [MigrationRequest])
                if decoded and isinstance(decoded[0], MigrationRequest):
                    return decoded[0]
                break
        raise ClientError(f"{self.job_id} was started without a request")

    async def cancel(self, *, discard: bool = False, reason: str = "") -> None:
        """Stop it and take back what it did; the copied disks stay unless they are to be discarded.

        Returns when the request is recorded; `watch` shows the end, with what is left where. Raises
        `JobConflict` if it has ended; `discard` is for that.
        """
        hosts = await hosts_of(self._connection, self.job_id) if discard else ()
        await self._signal("cancel", CancelRequest(discard=discard, reason=reason, hosts=hosts))
        try:
            await self._handle.cancel(rpc_timeout=self._connection.timeout)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise translate(error, self._connection.settings) from error
            # The signal alone has ended it in between.

    async def discard(self, *, images: bool = False, look_only: bool = False) -> tuple[HostLeftovers, ...]:
        """Delete what this migration, which has ended, has left on its hosts; what each of them says of it.

        With `images` the finished images of a completed one, too; with `look_only` nothing is deleted. Raises
        `JobConflict` while it is under way, `NoWorker`, or `MigrationFailed` with what a host could not do.
        """
        description = await self.describe()
        if is_open(description) and not look_only:
            raise JobConflict(
                f"{self.job_id} is under way: it is {job_status(description)}",
                f"Stop it and delete its copy: hyperctl cancel --discard --job {self.job_id}",
            )
        status = await self.status()
        asked = await self._request_or_placeholder()
        latest = attribute(description.typed_search_attributes, attributes.TARGET_HOST)
        known = (latest, asked.host or "", *await hosts_of(self._connection, self.job_id))
        found = []
        for host in dict.fromkeys(name for name in known if name):
            with self._connection.errors():
                await require_host(
                    self._connection.client,
                    host,
                    f"no worker is on {host} to look for what {self.job_id} left",
                )
            request = DiscardRequest(
                job_id=self.job_id,
                host=host,
                output_dir=status.plan.output_dir if status.plan else asked.output_dir or "",
                images_dir=status.output_dir if images and status.status is JobStatus.COMPLETED else "",
                look_only=look_only,
            )
            found.append(await self._discard_on(request, status))
        return tuple(found)

    async def _discard_on(self, request: DiscardRequest, status: MigrationStatus) -> HostLeftovers:
        prefix = "look" if request.look_only else "discard"
        try:
            with self._connection.errors():
                answer: HostLeftovers = await self._connection.client.execute_workflow(
                    "DiscardWorkflow",
                    request,
                    id=f"{prefix}-{self.job_id}",
                    task_queue=WORKFLOW_QUEUE,
                    result_type=HostLeftovers,
                    static_summary=f"{prefix} what {self.job_id} has left on {request.host}",
                )
        except WorkflowAlreadyStartedError as error:
            raise JobConflict(f"somebody else is at it already: {prefix}-{self.job_id}") from error
        except WorkflowFailureError as error:
            raise MigrationFailed(status, failures_of(error)) from error
        return answer

    async def set_priority(self, priority: Priority | str) -> None:
        await self._signal("set_priority", str(Priority(priority)))

    async def set_bandwidth(self, bytes_per_second: int | None) -> None:
        """Cap what the whole copy takes from the network, also while it runs; None lifts the cap."""
        if bytes_per_second is not None and bytes_per_second < LOWEST_BYTES_PER_SECOND:
            raise ValueError(f"a bandwidth is at least {LOWEST_BYTES_PER_SECOND} bytes a second")
        await self._signal("set_bandwidth", bytes_per_second)

    async def pause(self) -> None:
        """A copy or verification stops; any other step ends first, and the next one waits."""
        await self._signal("pause")

    async def resume(self) -> None:
        await self._signal("resume")

    async def retry_now(self) -> None:
        """End the wait before the next try; without one nothing happens."""
        await self._signal("retry_now")

    async def logs(
        self,
        *,
        tail: int | None = None,
        follow: bool = False,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> AsyncIterator[str]:
        """The log of the host that does the work, in pieces of whole lines, from its beginning.

        With `tail` from its last lines on; with `follow` until the migration has ended, through restarts of
        the worker, of which `on_wait` is told. Raises `NoWorker`.
        """
        description = await self.describe()
        with self._connection.errors():
            async for piece in follow_log(
                self._connection.client, description, tail=tail, follow=follow, on_wait=on_wait
            ):
                yield piece

    async def import_domain(
        self,
        *,
        start: bool = False,
        network_map: dict[str, str] | None = None,
        domain_name: str | None = None,
    ) -> ImportResult:
        """Define the libvirt domain of a completed migration that was not asked to. Needs a worker.

        Raises `ValueError` for a name that libvirt does not take.
        """
        problem = domain_name_problem(domain_name) if domain_name is not None else ""
        if problem:
            raise ValueError(problem)
        status = await self.status()
        if status.status is not JobStatus.COMPLETED:
            raise JobConflict(
                f"{self.job_id} is {status.status}: only a completed migration has disks to import",
                f"See hyperctl status --job {self.job_id}.",
            )
        if status.plan is None:
            raise NoWorker(
                f"no worker answers on queue {WORKFLOW_QUEUE}",
                "The import is a worker's work; start one with: hyperctl worker",
            )
        asked = await self.request()
        argument = ImportRequest(
            job_id=self.job_id,
            host=status.host,
            machine=status.plan.machine,
            domain_name=domain_name,
            disks=status.outputs,
            guest=status.guest,
            network_map=asked.network_map if network_map is None else network_map,
            start=start,
            hardware=asked.hardware,
        )
        try:
            with self._connection.errors():
                imported: ImportResult = await self._connection.client.execute_workflow(
                    "ImportWorkflow",
                    argument,
                    id=f"import-{self.job_id}",
                    task_queue=WORKFLOW_QUEUE,
                    result_type=ImportResult,
                    static_summary=f"define a domain of {argument.machine.name} on {argument.host}",
                )
        except WorkflowAlreadyStartedError as error:
            raise JobConflict(f"{self.job_id} is being imported already") from error
        except WorkflowFailureError as error:
            raise MigrationFailed(status, failures_of(error)) from error
        return imported

    async def describe(self) -> WorkflowExecutionDescription:
        """Temporal's own record of it. Raises `JobNotFound`."""
        try:
            description = await self._handle.describe(rpc_timeout=self._connection.timeout)
        except RPCError as error:
            if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
                raise self._not_found() from error
            raise translate(error, self._connection.settings) from error
        if description.workflow_type != WORKFLOW_TYPE:
            raise self._not_found()
        return description

    def _not_found(self) -> JobNotFound:
        return JobNotFound(
            f"there is no job {self.job_id} in namespace {self._connection.client.namespace}",
            "`hyperctl list` shows those that are known.",
        )

    async def _query(self) -> MigrationStatus | None:
        """The workflow's own answer; None where nobody gives it in time."""
        try:
            answer: MigrationStatus = await self._handle.query(
                "status", result_type=MigrationStatus, rpc_timeout=QUERY_TIMEOUT
            )
        except (RPCError, WorkflowQueryFailedError, ValidationError):
            return None  # what Temporal itself says is next, and fails for itself if Temporal is gone
        return answer

    async def _outcome(
        self, description: WorkflowExecutionDescription
    ) -> tuple[MigrationResult | None, tuple[Failure, ...]]:
        """How a closed run ended, as Temporal recorded it."""
        if is_open(description):
            return None, ()
        try:
            with self._connection.errors():
                return await self._handle.result(), ()
        except WorkflowFailureError as error:
            return None, failures_of(error)

    async def _request_or_placeholder(self) -> MigrationRequest:
        """A request that cannot be read is the reason why its workflow failed, not a reason to fail here."""
        try:
            return await self.request()
        except ValidationError:
            return MigrationRequest(vm_name="(unreadable)", vcenter=VCenter(server="(unreadable)"))

    async def _signal(self, name: str, *arguments: object) -> None:
        try:
            await self._handle.signal(name, args=arguments, rpc_timeout=self._connection.timeout)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise translate(error, self._connection.settings) from error
            state = job_status(await self.describe())
            raise JobConflict(f"{self.job_id} has already ended: it is {state}") from error


def failures_of(error: WorkflowFailureError) -> tuple[Failure, ...]:
    """Why a workflow failed; empty for one that was cancelled."""
    cause = error.cause
    if isinstance(cause, CancelledError):
        return ()
    if isinstance(cause, TerminatedError):
        return (
            Failure(
                code=ErrorCode.CANCELLED,
                message=f"its workflow was terminated in Temporal: {cause.message or 'no reason was given'}",
                hint="Nothing was taken back. `hyperctl retry` goes on from what is on disk.",
            ),
        )
    if isinstance(cause, ApplicationError):
        if cause.type == ErrorCode.CANCELLED:
            return ()
        if cause.details:
            return tuple(Failure.model_validate(detail) for detail in cause.details)
        if cause.type == ValidationError.__name__:
            return (Failure(code=ErrorCode.INVALID_REQUEST, message=cause.message),)
    return (Failure(code=ErrorCode.INTERNAL_ERROR, message=str(cause or error)),)
