"""Running one step of a workflow: its activity, its business retries, its pauses."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import BaseModel
from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from hyperctl.workflows.contract import Activity
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.request import Priority
from hyperctl.workflows.retry import RetryPolicy, next_delay
from hyperctl.workflows.status import RetryWait, SpaceWait

SPACE_PAUSE = timedelta(minutes=5)
SPACE_PAUSE_LATER = timedelta(minutes=30)
SPACE_PAUSES_SHORT = 12
"""Where there is no room for an hour, it is looked for less often: a job may wait so for weeks."""
PATCH_SPACE = "no-space-pauses"

T = TypeVar("T")
InputT = TypeVar("InputT", bound=BaseModel)
ResultT = TypeVar("ResultT", bound=BaseModel)


class StepFailed(Exception):
    """A step ended badly for reasons of its own."""

    def __init__(self, failures: tuple[Failure, ...]) -> None:
        super().__init__("; ".join(failure.message for failure in failures))
        self.failures = failures

    def as_error(self) -> ApplicationError:
        """What a workflow fails with; clients read the failures from it."""
        return ApplicationError(str(self), *self.failures, type=self.failures[0].code, non_retryable=True)


def failures_of(error: ActivityError) -> tuple[Failure, ...]:
    """The failures that an activity's implementation put into its error."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.details:
        return tuple(Failure.model_validate(detail) for detail in cause.details)
    return (Failure(code=ErrorCode.INTERNAL_ERROR, message=str(cause or error)),)


class StepRunner:
    """Runs steps one after the other and obeys pause, resume, retry_now and priority meanwhile."""

    def __init__(self, policy: RetryPolicy, priority: Priority, on_change: Callable[[], None]) -> None:
        self.priority = priority
        self.paused = False
        self.waiting: RetryWait | None = None
        self.space: SpaceWait | None = None
        self.retries = 0
        """Business retries of the whole workflow so far."""
        self._policy = policy
        self._on_change = on_change
        self._retry_now = False

    def pause(self, paused: bool) -> None:
        """Hold before the next step, or go on; going on also ends a wait for room."""
        self.paused = paused
        if not paused:
            self._retry_now = self._retry_now or self.space is not None
        self._on_change()

    def retry_now(self) -> None:
        """End the wait before the next try; without one under way it does nothing."""
        self._retry_now = self.waiting is not None or self.space is not None

    async def activity(
        self,
        stub: Activity[InputT, ResultT],
        argument: InputT | Callable[[], InputT],
        *,
        host: str | None,
        summary: str,
        interruptible: bool = False,
        decides: bool = False,
    ) -> ResultT:
        """Run an activity to its end and return its result.

        Holds before it while the migration is paused; one that is `interruptible` is also stopped by a
        pause and started again on resume, which its record on disk makes cheap. A cancel is passed on
        and its end awaited; where it ends well all the same and `decides`, the cancel came too late and its
        result counts. An argument that may change in between is given as a function. Raises `StepFailed`.
        """
        while True:
            await workflow.wait_condition(lambda: not self.paused)
            asked = argument if isinstance(argument, BaseModel) else argument()
            handle = stub.start(asked, host=host, summary=summary, priority=self.priority)
            try:
                await self._watch(handle, interruptible)
            except asyncio.CancelledError:
                if not (decides and _has_result(handle)):
                    raise
            try:
                return handle.result()
            except asyncio.CancelledError:
                continue  # only a pause brings us here: a cancel has left by the wait above
            except ActivityError as error:
                if is_cancelled_exception(error):
                    continue
                raise StepFailed(failures_of(error)) from error

    async def _watch(self, handle: workflow.ActivityHandle[ResultT], interruptible: bool) -> None:
        """Wait until it is over; on a cancel, or on a pause where that may interrupt it, end it first."""
        try:
            await workflow.wait_condition(lambda: handle.done() or (interruptible and self.paused))
        except asyncio.CancelledError:
            await _end(handle)
            raise
        await _end(handle)

    async def retrying(self, step: Callable[[], Awaitable[T]], *, waits_for_space: bool = True) -> T:
        """Run a step and, by the request's policy, run it again when it has failed for a passing reason.

        A host without room pauses it, unless told not to, and does not count: somebody will make some.
        """
        retries = spaces = 0
        since = workflow.now()
        while True:
            try:
                return await step()
            except StepFailed as failed:
                full = next((failure for failure in failed.failures if failure.code.needs_space), None)
                others = [failure.code for failure in failed.failures if not failure.code.needs_space]
                if (
                    full is not None
                    and waits_for_space
                    and all(code.is_transient for code in others)
                    and workflow.patched(PATCH_SPACE)
                ):
                    since = since if spaces else workflow.now()
                    await self._wait_for_space(full, since, spaces)
                    spaces += 1
                    continue
                delay = next_delay(self._policy, [failure.code for failure in failed.failures], retries)
                if delay is None:
                    raise
                retries += 1
                self.retries += 1
                await self._wait(delay, retries, failed.failures[0])

    async def _wait_for_space(self, failure: Failure, since: datetime, tries: int) -> None:
        delay = SPACE_PAUSE if tries < SPACE_PAUSES_SHORT else SPACE_PAUSE_LATER
        self.space = SpaceWait(
            failure=failure, since=since, tries=tries, next_attempt_at=workflow.now() + delay
        )
        try:
            await self._sleep(delay, f"waiting for room: {failure.code}")
        finally:
            self.space = None
            self._on_change()

    async def _wait(self, delay: timedelta, retry: int, failure: Failure) -> None:
        self.waiting = RetryWait(
            retry=retry,
            max_retries=self._policy.max_retries,
            next_attempt_at=workflow.now() + delay,
            failure=failure,
        )
        try:
            await self._sleep(delay, f"retry {retry}: {failure.code}")
        finally:
            self.waiting = None
            self._on_change()

    async def _sleep(self, delay: timedelta, summary: str) -> None:
        """So long, or until somebody will not wait."""
        self._retry_now = False
        self._on_change()
        with suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._retry_now, timeout=delay, timeout_summary=summary)


@contextmanager
def tried_once(priority: Priority) -> Iterator[StepRunner]:
    """Steps of a workflow that is no job: none is tried again, and the workflow fails with one that fails."""
    try:
        yield StepRunner(RetryPolicy(max_retries=0), priority, lambda: None)
    except StepFailed as failed:
        raise failed.as_error() from failed


def _has_result(handle: workflow.ActivityHandle[ResultT]) -> bool:
    return handle.done() and not handle.cancelled() and handle.exception() is None


async def _end(handle: workflow.ActivityHandle[ResultT]) -> None:
    """Cancel it where it still runs, and wait until it has put its things away."""
    if not handle.done():
        handle.cancel()
        await workflow.wait_condition(handle.done)
        if not handle.cancelled():
            handle.exception()  # looked at, so that asyncio does not report it as overlooked
