"""`hyperctl plan` and `hyperctl inventory`: what is true of both sides, nothing moved and nothing left."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.e2e.conftest import Running
from tests.replays import assert_replays

VM = "web-server-01"

pytestmark = pytest.mark.timeout(600)


def test_a_machine_is_planned_and_listed_and_nothing_is_moved(stack: Running, tmp_path: Path) -> None:
    sessions = stack.sessions()
    of_it = ("--vm", VM, "--vcenter", stack.vcenter_server)
    document = _document(stack, 0, "plan", *of_it)
    assert (document["possible"], document["problems"]) == (True, [])
    assert document["source"]["machine"]["nics"][0]["network"] in document["target"]["networks"]
    assert 0 < document["target"]["needed_bytes"] < document["target"]["most_bytes"]
    told = stack.hyperctl("plan", *of_it, "--format", "qcow2")
    assert told.returncode == 0, told.stderr
    assert f"{VM} can be migrated" in told.stdout
    assert f"hyperctl convert --vm {VM} --vcenter {stack.vcenter_server} --format qcow2" in told.stdout
    mistyped = stack.hyperctl("plan", "--vm", "web-server-1", "--vcenter", stack.vcenter_server)
    assert mistyped.returncode == 1
    assert f"Did you mean {VM}?" in mistyped.stdout
    names = stack.hyperctl("inventory", "--vcenter", stack.vcenter_server, "--ready", "--names", "--name", VM)
    assert names.stdout.splitlines() == [VM], names.stderr
    stack.power(VM, "poweredOn")
    try:
        _one_that_runs(stack, of_it, names.stdout, tmp_path / "tonight.txt")
    finally:
        stack.power(VM, "poweredOff")
    assert list(stack.output_dir.iterdir()) == []
    assert stack.sessions() <= sessions, "a killed worker's own ends by itself, for it is idle"
    asyncio.run(_replay(stack))


def _one_that_runs(stack: Running, of_it: tuple[str, ...], names: str, batch: Path) -> None:
    """It is refused as it is, possible with an option, and remembered as not rehearsed."""
    document = _document(stack, 1, "plan", *of_it)
    assert [problem["code"] for problem in document["problems"]] == ["vm_powered_on"]
    batch.write_text(names)
    stack.hyperctl("rehearse", "--batch", str(batch), "--vcenter", stack.vcenter_server)
    (row,) = _document(stack, 0, "inventory", "--vcenter", stack.vcenter_server, "--name", VM)
    assert (row["ready"], row["needs"]) == ("if_asked", ["shutdown", "snapshot"])
    assert row["last_rehearsal"]["verdict"] == "not_rehearsed"
    table = stack.hyperctl("inventory", "--vcenter", stack.vcenter_server).stdout
    assert "with --shutdown or --snapshot" in table
    assert "not rehearsed, " in table
    told = stack.hyperctl("plan", *of_it, "--shutdown")
    assert told.returncode == 0, told.stdout
    for words in ("it stays off when the migration succeeds", "not rehearsed, ", f"ago: {VM} is powered on"):
        assert words in told.stdout


def _document(stack: Running, code: int, *arguments: str) -> Any:
    done = stack.hyperctl(*arguments, "--json")
    assert done.returncode == code, done.stderr + done.stdout
    assert stack.password not in done.stdout
    return json.loads(done.stdout)


async def _replay(stack: Running) -> None:
    """With their whole histories, in which no password is."""
    client = await Client.connect(stack.temporal_address, data_converter=pydantic_data_converter)
    for workflow in ("PlanWorkflow", "InventoryWorkflow"):
        async for found in client.list_workflows(f'WorkflowType = "{workflow}"', limit=1):
            await assert_replays(client.get_workflow_handle(found.id), stack.password)
