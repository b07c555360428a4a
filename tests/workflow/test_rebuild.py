"""An appended initramfs whose boot finds no root device: once more converted, with a rebuilt one.

The workflow on a real Temporal server. Hosts answer by heart here, since a guest of which only the appended
initramfs does not boot cannot be made to order; the activities themselves are tested on real guests.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel
from temporalio.client import Client, WorkflowFailureError

from hyperctl.workflows import contract
from hyperctl.workflows.disk import ConvertedDisk, OutputDisk
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.guest import Outcome, Step, StepOutcome
from hyperctl.workflows.hardware import DiskBus
from hyperctl.workflows.plan import SourcePlan, TargetPlan
from hyperctl.workflows.queues import WORKFLOW_QUEUE
from hyperctl.workflows.request import InitramfsWay
from hyperctl.workflows.status import MigrationStatus, Phase
from tests.replays import assert_replays
from tests.unit.machines import guest, machine
from tests.unit.statuses import LANDED, PROOF
from tests.workflow.answering import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = "kvm-rebuild"
NO_ROOT = PROOF.model_copy(
    update={"passed": False, "root_missing": True, "problems": ("the boot stopped: root device not found",)}
)
DISK = ConvertedDisk(index=1, base="/b", base_format="raw", overlay="/o", capacity_bytes=1)


@dataclass
class Host:
    """Its boots find a root device with one way of having made the initramfs only, or with none."""

    boots_with: InitramfsWay | None
    steps: tuple[StepOutcome, ...] = ()
    converted: list[contract.ConvertInput] = field(default_factory=list)
    proved: list[contract.ProveInput] = field(default_factory=list)

    def convert(self, argument: contract.ConvertInput) -> contract.ConvertResult:
        self.converted.append(argument)
        return contract.ConvertResult(
            disks=(DISK,), guest=guest(), steps=self.steps, duration_seconds=0, initramfs=argument.initramfs
        )

    def prove(self, argument: contract.ProveInput) -> contract.ProveResult:
        self.proved.append(argument)
        if self.boots_with is self.converted[-1].initramfs:
            return contract.ProveResult(proof=PROOF, duration_seconds=0)
        if argument.may_rebuild:
            return contract.ProveResult(proof=NO_ROOT, duration_seconds=0)
        raise HyperctlError(ErrorCode.PROOF_FAILED, "root device not found")

    @property
    def answers(self) -> dict[contract.Activity[Any, Any], Callable[[Any], BaseModel]]:
        output = OutputDisk(index=1, path="/out/disk1.raw", format="raw", capacity_bytes=1)
        nothing = contract.Nothing()
        return {
            contract.PLAN_SOURCE: lambda _: SourcePlan(host=HOST, machine=machine(), transport="nfc"),
            contract.PLAN_TARGET: lambda _: TargetPlan(output_dir="/out"),
            contract.FIND_RIVAL: lambda _: nothing,
            contract.EXPORT_DISKS: lambda _: contract.ExportResult(disks=LANDED[:1], duration_seconds=0),
            contract.CONVERT_GUEST: self.convert,
            contract.PROVE_BOOT: self.prove,
            contract.COMMIT_CONVERSION: lambda _: contract.CommitResult(folder="/out/vm", disks=(output,)),
            contract.CLEAN_UP: lambda _: nothing,
            contract.DISCARD_CONVERSION: lambda _: nothing,
            contract.TAKE_STOCK: lambda _: contract.DiscardResult(),
            contract.RECORD_FAILURE: lambda _: contract.RecordFailureResult(error_file=""),
        }


async def migrate(server: Client, host: Host, **request: Any) -> tuple[MigrationStatus, bool]:
    """One migration: its last word, and whether it has failed. Its history replays."""
    document = {
        "vm_name": "web-server-01",
        "vcenter": {"server": "vc.example.com"},
        "verify": "none",
        **request,
    }
    async with serving(server, HOST, host.answers):
        handle = await server.start_workflow(
            "MigrationWorkflow", document, id=f"job-{uuid.uuid4()}", task_queue=WORKFLOW_QUEUE
        )
        failed = False
        try:
            await handle.result()
        except WorkflowFailureError:
            failed = True
        status: MigrationStatus = await handle.query("status", result_type=MigrationStatus)
        await assert_replays(handle)
    return status, failed


async def test_it_is_converted_once_more_and_the_status_says_why(server: Client) -> None:
    host = Host(boots_with=InitramfsWay.REBUILD)
    status, failed = await migrate(server, host, hardware={"disk_bus": "scsi"}, serial_console=True)
    assert not failed
    assert [one.initramfs for one in host.converted] == [InitramfsWay.AUTO, InitramfsWay.REBUILD]
    assert [one.may_rebuild for one in host.proved] == [True, False]
    for asked in (host.converted, host.proved):
        assert {one.hardware.disk_bus for one in asked} == {DiskBus.SCSI}
    assert all(one.serial_console for one in host.converted)
    assert status.proof == PROOF
    (warning,) = status.warnings
    assert "root device not found" in warning


@pytest.mark.parametrize(
    ("asked", "boots_with", "ways"),
    [
        ("auto", None, [InitramfsWay.AUTO, InitramfsWay.REBUILD]),
        ("append", InitramfsWay.REBUILD, [InitramfsWay.APPEND]),
        ("rebuild", InitramfsWay.APPEND, [InitramfsWay.REBUILD]),
    ],
)
async def test_no_more_than_once_and_only_where_the_way_was_left_open(
    server: Client, asked: str, boots_with: InitramfsWay | None, ways: list[InitramfsWay]
) -> None:
    host = Host(boots_with)
    status, failed = await migrate(server, host, initramfs=asked)
    assert failed
    assert status.failures[0].code is ErrorCode.PROOF_FAILED
    assert status.phase is Phase.PROVE
    assert [one.initramfs for one in host.converted] == ways


async def test_drivers_that_were_left_out_as_asked_are_not_put_in_by_a_rebuild(server: Client) -> None:
    left_out = StepOutcome(step=Step.REBUILD, outcome=Outcome.SKIPPED, detail="left out, as asked")
    host = Host(InitramfsWay.REBUILD, steps=(left_out,))
    _, failed = await migrate(server, host, fix={"virtio": False})
    assert failed
    assert [one.initramfs for one in host.converted] == [InitramfsWay.AUTO]
