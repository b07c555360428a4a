"""Plans and inventories on a real Temporal server: answers, problems, and nobody there to answer.

Hosts answer by heart here; what they answer is tested on a real (simulated) vCenter.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import CancelledError

from hyperctl.client.errors import NoWorker, QuestionFailed
from hyperctl.client.sdk import MigrationClient
from hyperctl.workflows import contract
from hyperctl.workflows.errors import ErrorCode, Failure, HyperctlError
from hyperctl.workflows.inventory import InventoryPage, InventoryRequest
from hyperctl.workflows.plan import SourcePlan, TargetPlan
from hyperctl.workflows.queues import WORKFLOW_QUEUE
from hyperctl.workflows.request import MigrationRequest, VCenter
from tests.moments import LONGEST_SECONDS
from tests.replays import assert_replays
from tests.unit.inventories import listed
from tests.unit.machines import machine
from tests.workflow.answering import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = "kvm-asked"
VCENTER = VCenter(server="vc.example.com")
REQUEST = MigrationRequest(vm_name="web-server-01", vcenter=VCENTER)
ON = Failure(code=ErrorCode.VM_POWERED_ON, message="it is powered on", hint="shut it down")
FULL = Failure(code=ErrorCode.NO_SPACE, message="there is no room", hint="make some")


@dataclass
class Host:
    """Sees three machines, one a page, and what it is told to of each side."""

    source: tuple[Failure, ...] = ()
    target: tuple[Failure, ...] = ()
    rival: bool = False
    holds: bool = False
    asked: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)

    def look(self, argument: contract.PlanSourceInput) -> SourcePlan:
        assert argument.job_id == REQUEST.job_id
        while self.holds:
            self.asked.set()
            activity.heartbeat()
            if activity.is_cancelled():
                self.stopped.set()
                raise CancelledError("stopped")
            time.sleep(0.05)
        return SourcePlan(host=HOST, machine=machine(), problems=self.source)

    def look_here(self, _: contract.PlanTargetInput) -> TargetPlan:
        return TargetPlan(output_dir="/out", problems=self.target)

    def find_rival(self, argument: contract.FindRivalInput) -> contract.Nothing:
        if self.rival:
            raise HyperctlError(ErrorCode.VM_MIGRATING, f"{argument.machine.name} is being migrated", "wait")
        return contract.Nothing()

    def page(self, argument: contract.ReadInventoryInput) -> InventoryPage:
        if argument.request.name:
            raise HyperctlError(ErrorCode.VM_NOT_FOUND, "there is none", "Did you mean web?")
        number = int(argument.request.start or 1)
        following = str(number + 1) if number < 3 else ""
        return InventoryPage(machines=(listed(f"vm-{number}"),), next=following, visible=3, fitting=3)

    @property
    def answers(self) -> dict[contract.Activity[Any, Any], Any]:
        return {
            contract.PREVIEW_SOURCE: self.look,
            contract.PLAN_TARGET: self.look_here,
            contract.FIND_RIVAL: self.find_rival,
            contract.READ_INVENTORY: self.page,
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(server: Client) -> AsyncIterator[Host]:
    """One for all tests but the first, which each tell it what it sees."""
    host = Host()
    async with serving(server, HOST, host.answers):
        yield host


async def _replays_one(server: Client, prefix: str) -> None:
    """Every one is of the same shape."""
    ended = f'WorkflowId STARTS_WITH "{prefix}" AND ExecutionStatus = "Completed"'
    async with asyncio.timeout(LONGEST_SECONDS):
        while not (found := [one async for one in server.list_workflows(ended, limit=1)]):
            await asyncio.sleep(0.2)
    await assert_replays(server.get_workflow_handle(found[0].id))


async def test_without_a_worker_nobody_waits_long(server: Client) -> None:
    client = MigrationClient(server)
    with pytest.raises(NoWorker, match="nobody serves the queue hyperctl") as refused:
        await client.plan(REQUEST)
    assert refused.value.hint == "Start one: hyperctl worker"
    async with asyncio.timeout(LONGEST_SECONDS):  # what nobody waits for does not stay
        while [one async for one in server.list_workflows('ExecutionStatus = "Running"')]:
            await asyncio.sleep(0.2)


async def test_problems_of_both_sides_and_of_other_jobs_come_together(server: Client, host: Host) -> None:
    client = MigrationClient(server)
    found = await client.plan(REQUEST)
    assert (found.possible, found.problems, found.vm_name) == (True, (), "web-server-01")
    assert found.job_id == REQUEST.job_id
    host.source, host.target, host.rival = (ON,), (FULL,), True
    found = await client.plan(REQUEST)
    assert not found.possible
    assert [problem.code for problem in found.problems] == [
        ErrorCode.VM_POWERED_ON,
        ErrorCode.NO_SPACE,
        ErrorCode.VM_MIGRATING,
    ]
    assert await client.last_migration(REQUEST) is None, "a plan begins nothing"
    await _replays_one(server, "plan-")


async def test_an_inventory_is_read_page_by_page(server: Client, host: Host) -> None:
    client = MigrationClient(server)
    pages = [page async for page in client.inventory(InventoryRequest(vcenter=VCENTER))]
    assert [page.machines[0].name for page in pages] == ["vm-1", "vm-2", "vm-3"]
    with pytest.raises(QuestionFailed, match="there is none") as refused:
        await anext(client.inventory(InventoryRequest(vcenter=VCENTER, name="wbe")))
    assert refused.value.hint == "Did you mean web?"
    assert refused.value.failures[0].code is ErrorCode.VM_NOT_FOUND
    await _replays_one(server, "inventory-")


async def test_a_wrong_request_fails_at_once_and_repeats_no_secret(server: Client, host: Host) -> None:
    wrong = {"vcenter": {"server": "x", "password": "hunter2"}}
    for workflow in ("PlanWorkflow", "InventoryWorkflow"):
        with pytest.raises(WorkflowFailureError) as refused:
            await server.execute_workflow(workflow, wrong, id=f"wrong-{workflow}", task_queue=WORKFLOW_QUEUE)
        assert "vcenter.password" in str(refused.value.cause)
        assert "hunter2" not in str(refused.value.cause)


async def test_who_no_longer_waits_takes_the_question_back(server: Client, host: Host) -> None:
    host.holds = True
    asking = asyncio.create_task(MigrationClient(server).plan(REQUEST))
    assert await asyncio.to_thread(host.asked.wait, LONGEST_SECONDS)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await asyncio.to_thread(host.stopped.wait, LONGEST_SECONDS)
