"""Steps on a real Temporal server: retries that wait visibly, pauses, cancels that are awaited."""

import asyncio
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import Worker

from hyperctl.worker.failures import FailureInterceptor
from tests.moments import LONGEST_SECONDS

with workflow.unsafe.imports_passed_through():
    from hyperctl.workflows.contract import Activity
    from hyperctl.workflows.errors import ErrorCode, HyperctlError
    from hyperctl.workflows.queues import Role, task_queue
    from hyperctl.workflows.request import Priority
    from hyperctl.workflows.retry import RetryPolicy
    from hyperctl.workflows.status import RetryWait, SpaceWait
    from hyperctl.workflows.steps import SPACE_PAUSE, StepFailed, StepRunner

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = "test-host"


class Ask(BaseModel):
    code: ErrorCode | None = None
    """Fail with it the first time; None works until it is told to stop."""
    fail_times: int = 1


class Answer(BaseModel):
    attempts: int


WORK = Activity("test_work", Role.EXPORT, Ask, Answer)
STUBBORN = Activity("test_stubborn", Role.EXPORT, Ask, Answer)


class Machinery:
    """Counts what really ran."""

    def __init__(self) -> None:
        self.attempts = 0
        self.stopped = threading.Event()
        self.release = threading.Event()
        self.may_fail = threading.Event()
        self.may_fail.set()
        self.stubborn_begun = threading.Event()

    @activity.defn(name=WORK.name, no_thread_cancel_exception=True)
    def work(self, argument: Ask) -> Answer:
        self.attempts += 1
        if argument.code and self.attempts <= argument.fail_times:
            self.may_fail.wait(LONGEST_SECONDS)
            raise HyperctlError(argument.code, "the way is blocked", "clear it")
        while argument.code is None and not self.release.is_set():
            activity.heartbeat()
            if activity.is_cancelled():
                time.sleep(0.5)  # what a real step needs to put its things away
                self.stopped.set()
                raise CancelledError("stopped")
            time.sleep(0.05)
        return Answer(attempts=self.attempts)

    @activity.defn(name=STUBBORN.name, no_thread_cancel_exception=True)
    def stubborn(self, argument: Ask) -> Answer:
        """Cannot be interrupted: ends well even when it was cancelled."""
        self.stubborn_begun.set()
        while not activity.is_cancelled():
            activity.heartbeat()
            time.sleep(0.1)
        self.attempts += 1
        return Answer(attempts=self.attempts)


@workflow.defn
class OneStep:
    """A workflow that is nothing but one step."""

    def __init__(self) -> None:
        policy = RetryPolicy(max_retries=2, retry_delay_seconds=600)
        self._runner = StepRunner(policy, Priority.NORMAL, lambda: None)

    @workflow.run
    async def run(self, name: str, ask: Ask) -> Answer:
        stub = {WORK.name: WORK, STUBBORN.name: STUBBORN}[name]
        try:
            return await self._runner.retrying(
                lambda: self._runner.activity(stub, ask, host=HOST, summary="work", interruptible=True)
            )
        except StepFailed as failed:
            raise ApplicationError(str(failed), type=failed.failures[0].code) from failed

    @workflow.signal
    def pause(self) -> None:
        self._runner.pause(True)

    @workflow.signal
    def resume(self) -> None:
        self._runner.pause(False)

    @workflow.signal
    def retry_now(self) -> None:
        self._runner.retry_now()

    @workflow.query
    def waiting(self) -> RetryWait | None:
        return self._runner.waiting

    @workflow.query
    def space(self) -> SpaceWait | None:
        return self._runner.space


class Running:
    """One such workflow with workers of its own."""

    def __init__(
        self, client: Client, ask: Ask, name: str = WORK.name, *, fails_at_once: bool = True
    ) -> None:
        """What does not fail at once fails when `may_fail` is set."""
        self._client = client
        self._ask = ask
        self._name = name
        self.machinery = Machinery()
        if not fails_at_once:
            self.machinery.may_fail.clear()

    async def __aenter__(self) -> "Running":
        queue = f"flow-{uuid.uuid4()}"
        self._threads = ThreadPoolExecutor(4)
        self._workers = [
            Worker(self._client, task_queue=queue, workflows=[OneStep]),
            Worker(
                self._client,
                task_queue=task_queue(Role.EXPORT, HOST),
                activities=[self.machinery.work, self.machinery.stubborn],
                activity_executor=self._threads,
                interceptors=[FailureInterceptor()],
                max_heartbeat_throttle_interval=timedelta(milliseconds=200),
                default_heartbeat_throttle_interval=timedelta(milliseconds=200),
            ),
        ]
        for worker in self._workers:
            await worker.__aenter__()
        self.handle = await self._client.start_workflow(
            OneStep.run, args=[self._name, self._ask], id=queue, task_queue=queue
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.machinery.release.set()
        self.machinery.may_fail.set()
        for worker in self._workers:
            await worker.__aexit__(None, None, None)
        self._threads.shutdown()

    async def until_attempt(self, number: int) -> None:
        async with asyncio.timeout(LONGEST_SECONDS):
            while self.machinery.attempts < number:
                await asyncio.sleep(0.05)

    async def wait_for_retry(self) -> RetryWait:
        async with asyncio.timeout(LONGEST_SECONDS):
            while True:
                waiting = await self.handle.query(OneStep.waiting)
                if waiting:
                    return waiting
                await asyncio.sleep(0.05)


async def test_a_passing_error_waits_with_its_end_visible_and_retry_now_ends_the_wait(client: Client) -> None:
    async with Running(client, Ask(code=ErrorCode.VCENTER_FAULT)) as running:
        waiting = await running.wait_for_retry()
        assert (waiting.retry, waiting.max_retries) == (1, 2)
        assert waiting.failure.message == "the way is blocked"
        await running.handle.signal(OneStep.retry_now)
        assert (await running.handle.result()).attempts == 2


async def test_an_early_retry_now_does_not_shorten_a_later_wait(client: Client) -> None:
    async with Running(client, Ask(code=ErrorCode.VCENTER_FAULT), fails_at_once=False) as running:
        await running.handle.signal(OneStep.retry_now)
        running.machinery.may_fail.set()
        await running.wait_for_retry()
        await asyncio.sleep(1)
        assert running.machinery.attempts == 1
        await running.handle.terminate()


async def test_a_permanent_error_fails_at_once_with_its_code(client: Client) -> None:
    async with Running(client, Ask(code=ErrorCode.VM_NOT_FOUND)) as running:
        with pytest.raises(WorkflowFailureError) as caught:
            await running.handle.result()
        cause = caught.value.cause
        assert isinstance(cause, ApplicationError)
        assert cause.type == ErrorCode.VM_NOT_FOUND
        assert running.machinery.attempts == 1


async def test_a_pause_stops_an_interruptible_step_and_resume_starts_it_again(client: Client) -> None:
    async with Running(client, Ask()) as running:
        await running.until_attempt(1)
        await running.handle.signal(OneStep.pause)
        assert await asyncio.to_thread(running.machinery.stopped.wait, LONGEST_SECONDS)
        await asyncio.sleep(1)
        assert running.machinery.attempts == 1
        running.machinery.release.set()
        await running.handle.signal(OneStep.resume)
        assert (await running.handle.result()).attempts == 2


async def test_a_cancel_is_over_only_when_the_step_has_put_its_things_away(client: Client) -> None:
    async with Running(client, Ask()) as running:
        await running.until_attempt(1)
        await running.handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await running.handle.result()
        assert running.machinery.stopped.is_set()
        assert (await running.handle.describe()).status.name == "CANCELED"  # type: ignore[union-attr]


async def test_a_cancel_is_not_lost_when_the_step_ends_well_all_the_same(client: Client) -> None:
    async with Running(client, Ask(), STUBBORN.name) as running:
        assert await asyncio.to_thread(running.machinery.stubborn_begun.wait, LONGEST_SECONDS)
        await running.handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await running.handle.result()
        assert running.machinery.attempts == 1
        assert (await running.handle.describe()).status.name == "CANCELED"  # type: ignore[union-attr]


async def test_a_full_disk_is_waited_out_without_counting_as_a_retry(client: Client) -> None:
    async with Running(client, Ask(code=ErrorCode.NO_SPACE, fail_times=4)) as running:
        for tries in range(4):
            async with asyncio.timeout(LONGEST_SECONDS):
                while (wait := await running.handle.query(OneStep.space)) is None or wait.tries < tries:
                    await asyncio.sleep(0.05)
            assert running.machinery.attempts == tries + 1
            assert wait.failure.message == "the way is blocked"
            assert await running.handle.query(OneStep.waiting) is None
            await running.handle.signal(OneStep.resume if tries % 2 else OneStep.retry_now)
        assert (await running.handle.result()).attempts == 5


async def test_a_pause_that_begins_while_room_is_waited_for_holds(client: Client) -> None:
    async with Running(client, Ask(code=ErrorCode.NO_SPACE)) as running:
        async with asyncio.timeout(LONGEST_SECONDS):
            while await running.handle.query(OneStep.space) is None:
                await asyncio.sleep(0.05)
        await running.handle.signal(OneStep.pause)
        await running.handle.signal(OneStep.retry_now)
        await asyncio.sleep(1)
        assert running.machinery.attempts == 1
        await running.handle.signal(OneStep.resume)
        assert (await running.handle.result()).attempts == 2


async def test_an_early_resume_does_not_shorten_a_later_wait_for_room(client: Client) -> None:
    async with Running(client, Ask(code=ErrorCode.NO_SPACE), fails_at_once=False) as running:
        await running.handle.signal(OneStep.resume)
        running.machinery.may_fail.set()
        async with asyncio.timeout(LONGEST_SECONDS):
            while await running.handle.query(OneStep.space) is None:
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        assert running.machinery.attempts == 1
        assert await running.handle.query(OneStep.space) is not None
        await running.handle.terminate()


async def test_room_is_looked_for_by_itself_on_a_durable_timer(client: Client) -> None:
    async with Running(client, Ask(code=ErrorCode.NO_SPACE)) as running:
        async with asyncio.timeout(LONGEST_SECONDS):
            while (wait := await running.handle.query(OneStep.space)) is None:
                await asyncio.sleep(0.05)
        history = await running.handle.fetch_history()
        (timer,) = [
            event.timer_started_event_attributes
            for event in history.events
            if event.HasField("timer_started_event_attributes")
        ]
        assert timer.start_to_fire_timeout.ToTimedelta() == SPACE_PAUSE
        assert wait.next_attempt_at - wait.since == SPACE_PAUSE
        await running.handle.terminate()
