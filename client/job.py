"""A handle on one job, a migration or a rehearsal: watch it, tell it something, take its result."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from temporalio.client import (
    WorkflowExecutionDescription,
    WorkflowFailureError,
    WorkflowQueryFailedError,
)
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError
from temporalio.service import RPCError, RPCStatusCode

from hyperctl.client.connection import Connection, translate
from hyperctl.client.errors import ClientError, JobConflict, JobNotFound, ServerUnreachable
from hyperctl.client.joblog import follow_log
from hyperctl.client.observe import (
    end_by_force,
    end_with,
    is_open,
    job_status,
    read_notes,
    read_progress,
)
from hyperctl.client.pollers import PollerKind, live_pollers
from hyperctl.workflows.control import CancelRequest
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.queues import WORKFLOW_QUEUE
from hyperctl.workflows.request import Priority
from hyperctl.workflows.status import JobKind, JobStatus, MigrationStatus

QUERY_TIMEOUT = timedelta(seconds=2)
LAST_WORD_TIMEOUT = timedelta(seconds=10)

RequestT = TypeVar("RequestT", bound=BaseModel)
ResultT = TypeVar("ResultT", bound=BaseModel)


class Origin(StrEnum):
    """What `MigrationClient.start` found, and did."""

    STARTED = "started"
    RETRIED = "retried"
    """An earlier run had failed or was cancelled; this one goes on from what it left on disk."""
    ATTACHED = "attached"
    """It was under way already."""
    FINISHED = "finished"
    """It had been done before and was not done again."""


class Job(ABC, Generic[RequestT, ResultT]):
    """One job, which need not be under way. Made by `MigrationClient`, not by hand."""

    kind: ClassVar[JobKind]
    _request_type: type[RequestT]
    _result_type: type[ResultT]

    def __init__(
        self, connection: Connection, job_id: str, origin: Origin | None = None, run_id: str | None = None
    ) -> None:
        """The newest run of that id, or a certain one."""
        self.job_id = job_id
        self.origin = origin
        self._connection = connection
        self._handle = connection.client.get_workflow_handle(
            job_id, run_id=run_id or None, result_type=self._result_type
        )

    async def status(self) -> MigrationStatus:
        """All that is known now, with live progress from the running activity's heartbeat.

        Where no worker answers within two seconds, what Temporal itself has on record; `notes` says so.
        A busy worker is given longer for the last word of a job that has ended.
        Raises `JobNotFound` or `ServerUnreachable`.
        """
        description = await self.describe()
        answer = await self._query(QUERY_TIMEOUT)
        client = self._connection.client
        if answer is None and not is_open(description):
            with self._connection.errors():
                serving = await live_pollers(client, WORKFLOW_QUEUE, PollerKind.WORKFLOW)
            if serving:
                answer = await self._query(LAST_WORD_TIMEOUT)
        if answer is None:
            result, failures = await self._outcome(description)
            request = await self._request_or_placeholder()
            status = end_with(self._without_worker(description, request, result), failures)
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

    @abstractmethod
    async def result(self) -> ResultT:
        """Wait for the end."""

    async def request(self) -> RequestT:
        """What was asked for when it was started, the last time if it was started again."""
        with self._connection.errors():
            events = self._handle.fetch_history_events(page_size=1, rpc_timeout=self._connection.timeout)
            async for event in events:
                payloads = event.workflow_execution_started_event_attributes.input.payloads
                decoded = await self._connection.client.data_converter.decode(payloads, [self._request_type])
                if decoded and isinstance(decoded[0], self._request_type):
                    return decoded[0]
                break
        raise ClientError(f"{self.job_id} was started without a request")

    async def cancel(self, *, reason: str = "") -> None:
        """Stop it and take back what it did.

        Returns when the request is recorded; `watch` shows the end. Raises `JobConflict` if it has ended.
        """
        await self._cancel(CancelRequest(reason=reason))

    async def _cancel(self, request: CancelRequest) -> None:
        await self._signal("cancel", request)
        try:
            await self._handle.cancel(rpc_timeout=self._connection.timeout)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise translate(error, self._connection.settings) from error
            # The signal alone has ended it in between.

    async def set_priority(self, priority: Priority | str) -> None:
        await self._signal("set_priority", str(Priority(priority)))

    async def pause(self) -> None:
        """What can go on later stops; any other step ends first, and the next one waits."""
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

        With `tail` from its last lines on; with `follow` until the job has ended, through restarts of
        the worker, of which `on_wait` is told. Raises `NoWorker`.
        """
        description = await self.describe()
        with self._connection.errors():
            async for piece in follow_log(
                self._connection.client, description, tail=tail, follow=follow, on_wait=on_wait
            ):
                yield piece

    async def describe(self) -> WorkflowExecutionDescription:
        """Temporal's own record of it. Raises `JobNotFound`."""
        try:
            description = await self._handle.describe(rpc_timeout=self._connection.timeout)
        except RPCError as error:
            if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
                raise self._not_found() from error
            raise translate(error, self._connection.settings) from error
        if description.workflow_type != self.kind.workflow_type:
            raise self._not_found()
        return description

    def _not_found(self) -> JobNotFound:
        return JobNotFound(
            f"there is no job {self.job_id} in namespace {self._connection.client.namespace}",
            "`hyperctl list` shows those that are known.",
        )

    async def _query(self, patience: timedelta) -> MigrationStatus | None:
        """The workflow's own answer; None where nobody gives it in time."""
        try:
            answer: MigrationStatus = await self._handle.query(
                "status", result_type=MigrationStatus, rpc_timeout=patience
            )
        except (RPCError, WorkflowQueryFailedError, ValidationError):
            return None  # what Temporal itself says is next, and fails for itself if Temporal is gone
        return answer

    async def _outcome(
        self, description: WorkflowExecutionDescription
    ) -> tuple[ResultT | None, tuple[Failure, ...]]:
        """How a closed run ended, as Temporal recorded it."""
        if is_open(description):
            return None, ()
        try:
            with self._connection.errors():
                return await self._handle.result(), ()
        except WorkflowFailureError as error:
            return None, failures_of(error)

    @abstractmethod
    def _placeholder(self) -> RequestT:
        """In place of a request that cannot be read."""

    @abstractmethod
    def _without_worker(
        self, description: WorkflowExecutionDescription, request: RequestT, result: ResultT | None
    ) -> MigrationStatus:
        """What can be known when nobody answers the query."""

    async def _request_or_placeholder(self) -> RequestT:
        """A request that cannot be read is the reason why its workflow failed, not a reason to fail here."""
        try:
            return await self.request()
        except ValidationError:
            return self._placeholder()

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
