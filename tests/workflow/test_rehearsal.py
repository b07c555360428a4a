"""Rehearsals on a real Temporal server: verdicts, retries, cancels, batches, and what lists tell of them.

Hosts answer by heart here; the activities themselves are tested over real disks and guests.
"""

import asyncio
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError

from hyperctl.client.errors import MigrationCancelled
from hyperctl.client.sdk import MigrationClient, Origin, Rehearsal
from hyperctl.workflows import contract
from hyperctl.workflows.errors import ErrorCode, Failure, HyperctlError
from hyperctl.workflows.queues import WORKFLOW_QUEUE
from hyperctl.workflows.rehearsal import RehearsalPlan, RehearsalRequest, Rehearsed, Verdict
from hyperctl.workflows.request import FileSource, VCenter
from hyperctl.workflows.source import PreparedSource, Snapshot
from hyperctl.workflows.status import JobKind, JobStatus, Phase, PhaseState
from tests.moments import LONGEST_SECONDS
from tests.replays import assert_replays
from tests.unit.machines import GIB, guest, machine
from tests.unit.rehearsals import ESTIMATE
from tests.unit.statuses import PROOF, STEPS
from tests.workflow.answering import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = "kvm-rehearse"
BOOTS = Rehearsed(
    verdict=Verdict.BOOTS, guest=guest(), steps=STEPS, proof=PROOF, estimate=ESTIMATE, read_bytes=180 << 20
)
BROKEN = Failure(code=ErrorCode.GUEST_UNSUPPORTED, message="there is no room in /boot")


@dataclass
class Host:
    """Rehearses as it is told to, by the VM's name."""

    problems: tuple[Failure, ...] = ()
    found: Rehearsed = BOOTS
    fails: list[ErrorCode] = field(default_factory=list)
    """One for each attempt, from the first on."""
    holds: bool = False
    gathers: int = 0
    """Until so many have been at it at once nobody goes on."""
    at_once: int = 0
    most_at_once: int = 0
    attempts: int = 0
    read: list[str] = field(default_factory=list)
    """The snapshots that were rehearsed."""
    snapshots: list[str] = field(default_factory=list)
    """Those that are there."""
    stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self, _: contract.PlanRehearsalInput) -> RehearsalPlan:
        return RehearsalPlan(
            host=HOST,
            machine=machine(),
            output_dir="/out",
            needed_bytes=2 * GIB,
            free_bytes=GIB,
            problems=self.problems,
            warnings=("its migration would be refused now",),
        )

    def rehearse(self, argument: contract.RehearseInput) -> Rehearsed:
        with self._lock:
            self.attempts += 1
            self.read.append(argument.snapshot)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.fails:
                raise HyperctlError(self.fails.pop(0), "the source is gone", "look at it")
            while self.holds:
                activity.heartbeat()
                if activity.is_cancelled():
                    self.stopped.set()
                    raise CancelledError("stopped")
                time.sleep(0.05)
            deadline = time.monotonic() + LONGEST_SECONDS
            while self.most_at_once < self.gathers and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(0.2)
            if argument.request.name.startswith("bad"):
                return Rehearsed(verdict=Verdict.DOES_NOT_BOOT, reason=BROKEN)
            if argument.request.name.startswith("on"):
                raise HyperctlError(ErrorCode.VM_POWERED_ON, "it has been powered on", "shut it down")
            return self.found
        finally:
            with self._lock:
                self.at_once -= 1

    def take_snapshot(self, argument: contract.PrepareSourceInput) -> PreparedSource:
        self.snapshots = [argument.job_id]
        return PreparedSource(snapshot=Snapshot(moref="snapshot-7", name="s", taken_at=datetime.now(UTC)))

    def remove_snapshot(self, argument: contract.RemoveSnapshotInput) -> contract.PutBackResult:
        self.snapshots.remove(argument.job_id)
        return contract.PutBackResult()

    @property
    def answers(self) -> dict[contract.Activity[Any, Any], Any]:
        return {
            contract.PLAN_REHEARSAL: self.plan,
            contract.TAKE_SNAPSHOT: self.take_snapshot,
            contract.REHEARSE: self.rehearse,
            contract.REMOVE_SNAPSHOT: self.remove_snapshot,
        }


def _request(name: str, **changes: Any) -> RehearsalRequest:
    return RehearsalRequest(vm_name=name, vcenter=VCenter(server="vc.example.com"), **changes)


async def test_a_verdict_is_the_result_and_is_remembered(server: Client) -> None:
    client, host = MigrationClient(server), Host()
    assert await client.last_rehearsal("web-1", "vc.example.com") is None
    async with serving(server, HOST, host.answers):
        rehearsal = await client.rehearse(_request("web-1"))
        result = await rehearsal.result()
        status = await rehearsal.status()
    assert (result.verdict, result.host, result.reasons) == (Verdict.BOOTS, HOST, ())
    assert result.estimate is not None
    assert (result.estimate.needed_bytes, result.estimate.free_bytes) == (2 * GIB, GIB)
    assert "its migration would be refused now" in result.warnings
    assert (status.kind, status.status) == (JobKind.REHEARSAL, JobStatus.COMPLETED)
    assert {record.phase: record.state for record in status.phases} == dict.fromkeys(
        (Phase.PLAN, Phase.ADMIT, Phase.REHEARSE), PhaseState.DONE
    )
    await assert_replays(server.get_workflow_handle(rehearsal.job_id))
    async with asyncio.timeout(LONGEST_SECONDS):
        while (last := await client.last_rehearsal("web-1", "https://VC.example.com:443/sdk")) is None:
            await asyncio.sleep(0.2)
    assert (last.verdict, last.job_id, last.kind) == (Verdict.BOOTS, rehearsal.job_id, JobKind.REHEARSAL)
    assert rehearsal.job_id in {job.job_id for job in await client.list(kind="rehearsal")}
    assert rehearsal.job_id not in {job.job_id for job in await client.list(kind="migration")}
    nobody = await rehearsal.status()  # of which Temporal's own record tells
    assert nobody.rehearsed == status.rehearsed


async def test_a_guest_that_cannot_be_converted_is_a_verdict_and_a_machine_that_is_on_is_none(
    server: Client,
) -> None:
    client = MigrationClient(server)
    async with serving(server, HOST, Host(problems=(BROKEN,)).answers):
        unsupported = await (await client.rehearse(_request("unsupported"))).result()
    assert (unsupported.verdict, unsupported.reason) == (Verdict.DOES_NOT_BOOT, BROKEN)
    on = Failure(code=ErrorCode.VM_POWERED_ON, message="it is powered on", hint="shut it down")
    host = Host(problems=(on, BROKEN))
    async with serving(server, HOST, host.answers):
        rehearsal = await client.rehearse(_request("running"))
        refused = await rehearsal.result()
        with pytest.raises(WorkflowFailureError) as failed:
            await server.get_workflow_handle(rehearsal.job_id).result()
    assert (refused.verdict, refused.reasons) == (Verdict.NOT_REHEARSED, (on, BROKEN))
    assert host.attempts == 0
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == ErrorCode.VM_POWERED_ON
    async with asyncio.timeout(LONGEST_SECONDS):
        while (last := await client.last_rehearsal("running", "vc.example.com")) is None:
            await asyncio.sleep(0.2)
    assert (last.verdict, last.reason) == (Verdict.NOT_REHEARSED, "it is powered on")


async def test_what_may_pass_is_tried_again_visibly_and_at_once_on_request(server: Client) -> None:
    client, host = MigrationClient(server), Host(fails=[ErrorCode.TRANSFER_INTERRUPTED])
    async with serving(server, HOST, host.answers):
        rehearsal = await client.rehearse(_request("flaky"))
        async with asyncio.timeout(LONGEST_SECONDS):
            while (status := await rehearsal.status()).retry is None:
                await asyncio.sleep(0.1)
        assert status.retry.failure.message == "the source is gone"
        assert (await client.rehearse(_request("flaky"))).origin is Origin.ATTACHED
        await rehearsal.retry_now()
        result = await rehearsal.result()
    assert (result.verdict, host.attempts) == (Verdict.BOOTS, 2)


@pytest.mark.parametrize("name", ["running", "bad", "on", "cancelled"])
async def test_a_snapshot_is_removed_however_its_rehearsal_ends(server: Client, name: str) -> None:
    client, host = MigrationClient(server), Host(holds=name == "cancelled")
    async with serving(server, HOST, host.answers):
        rehearsal = await client.rehearse(_request(f"{name}-snapshot", running={"action": "snapshot"}))
        if name == "cancelled":
            async with asyncio.timeout(LONGEST_SECONDS):
                while not host.attempts:
                    await asyncio.sleep(0.1)
            assert host.snapshots == [rehearsal.job_id]
            await rehearsal.cancel()
            with pytest.raises(MigrationCancelled):
                await rehearsal.result()
        else:
            await rehearsal.result()
        await assert_replays(server.get_workflow_handle(rehearsal.job_id))
    assert host.read == ["snapshot-7"]
    assert host.snapshots == []


async def test_a_file_is_rehearsed_as_a_job_of_its_own(server: Client) -> None:
    client, host = MigrationClient(server), Host()
    request = RehearsalRequest(file=FileSource(path="/srv/in/db.ova"))
    assert request.job_id.startswith("rehearsal-")
    assert request.migration().job_id != request.job_id
    async with serving(server, HOST, host.answers):
        result = await (await client.rehearse(request)).result()
        batch = await client.rehearse_all([request])
        last = [status async for status in batch.watch(0.1)][-1]
    assert (result.vm_name, result.origin, result.vcenter) == ("db", "/srv/in/db.ova", "")
    assert [(item.vm_name, item.verdict) for item in last.items] == [("db", Verdict.BOOTS)]
    async with asyncio.timeout(LONGEST_SECONDS):
        while (known := await client.last_rehearsal_of(request.migration())) is None:
            await asyncio.sleep(0.2)
    assert (known.job_id, known.verdict) == (request.job_id, Verdict.BOOTS)


async def test_one_that_is_cancelled_stops_its_work_and_has_no_verdict(server: Client) -> None:
    client, host = MigrationClient(server), Host(holds=True)
    async with serving(server, HOST, host.answers):
        rehearsal = await client.rehearse(_request("held", priority="high"))
        async with asyncio.timeout(LONGEST_SECONDS):
            while not host.attempts:
                await asyncio.sleep(0.1)
        await rehearsal.pause()  # what is thrown away anyhow is stopped by it, and begun anew
        assert await asyncio.to_thread(host.stopped.wait, LONGEST_SECONDS)
        assert (await rehearsal.status()).status is JobStatus.PAUSED
        host.stopped.clear()
        await rehearsal.resume()
        async with asyncio.timeout(LONGEST_SECONDS):
            while host.attempts < 2:
                await asyncio.sleep(0.1)
        await rehearsal.cancel(reason="not tonight")
        assert await asyncio.to_thread(host.stopped.wait, LONGEST_SECONDS)
        with pytest.raises(MigrationCancelled):
            await rehearsal.result()
        assert (await rehearsal.status()).status is JobStatus.CANCELLED
    found = await client.job(rehearsal.job_id)
    assert isinstance(found, Rehearsal)


async def test_a_batch_keeps_to_its_limit_and_ends_with_every_verdict(server: Client) -> None:
    client, host = MigrationClient(server), Host(gathers=3)
    names = ["a", "bad", "on", "b", "c", "d"]
    async with serving(server, HOST, host.answers):
        batch = await client.rehearse_all([_request(name) for name in names], parallel=3)
        statuses = [status async for status in batch.watch(0.1)]
        results = await batch.results()
        await assert_replays(server.get_workflow_handle(batch.batch_id))
    assert host.most_at_once == 3
    assert max(sum(item.is_under_way for item in status.items) for status in statuses) <= 3
    assert [item.vm_name for item in statuses[-1].items] == names
    assert [result.verdict for result in results] == [
        Verdict.BOOTS,
        Verdict.DOES_NOT_BOOT,
        Verdict.NOT_REHEARSED,
        *[Verdict.BOOTS] * 3,
    ]
    assert results[1].reason == BROKEN
    assert results[2].reasons[0].message == "it has been powered on"
    async with asyncio.timeout(LONGEST_SECONDS):
        while len([job for job in await client.list() if job.batch_id == batch.batch_id]) < len(names):
            await asyncio.sleep(0.2)


async def test_a_cancelled_batch_takes_those_under_way_with_it(server: Client) -> None:
    client, host = MigrationClient(server), Host(holds=True)
    async with serving(server, HOST, host.answers):
        batch = await client.rehearse_all([_request(f"many-{n}") for n in range(5)], parallel=2)
        async with asyncio.timeout(LONGEST_SECONDS):
            while host.attempts < 2:
                await asyncio.sleep(0.1)
        await batch.cancel()
        last = [status async for status in batch.watch(0.1)][-1]
        results = await batch.results(last)
    assert last.cancelled
    assert host.attempts == 2
    assert host.at_once == 0
    assert results == ()


async def test_what_is_wrong_with_a_request_is_told_by_field(server: Client) -> None:
    document = {"vm_name": "a", "vcenter": {"server": "vc", "password": "hunter2"}, "prove": "none"}
    async with serving(server, HOST, Host().answers):
        handle = await server.start_workflow(
            "RehearsalWorkflow", document, id="rehearsal-wrong", task_queue=WORKFLOW_QUEUE
        )
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
    assert "hunter2" not in str(failed.value.cause)
    assert "prove" in str(failed.value.cause)
