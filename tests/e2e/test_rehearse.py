"""`hyperctl rehearse` on a real guest: a verdict though the worker is killed, and nothing left behind."""

import asyncio
import json
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from hyperctl.activities.rehearse.rehearsal import FOLDER_PREFIX
from hyperctl.workflows.rehearsal import RehearsalRequest
from hyperctl.workflows.request import VCenter
from tests.e2e.conftest import Running
from tests.moments import SOON_SECONDS
from tests.processes import is_worked_on

VM = "web-server-01"

pytestmark = pytest.mark.timeout(1800)


def test_a_machine_is_rehearsed_though_its_worker_is_killed(stack: Running, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    sessions = stack.sessions()
    job_id = RehearsalRequest(vm_name=VM, vcenter=VCenter(server=stack.vcenter_server)).job_id
    command = stack.begin("rehearse", "--vm", VM, "--vcenter", stack.vcenter_server, "--html", str(report))
    try:
        asyncio.run(_kill_the_worker(stack, job_id))
        said, _ = command.communicate(timeout=1200)
    finally:
        command.kill()
        command.wait()
    assert command.returncode == 0, said
    for told in ("Injecting VirtIO drivers", "Boot proof passed", f"{VM} boots", "Copy, estimated"):
        assert told in said
    assert "<img" not in report.read_text()
    assert f"{VM}: " in report.read_text()
    assert list(stack.output_dir.glob(f"{FOLDER_PREFIX}*")) == []
    assert stack.sessions() <= sessions + 1, "the killed worker's own ends by itself, for it is idle"
    assert stack.password not in stack.hyperctl("logs", "--job", job_id).stdout
    listed = json.loads(stack.hyperctl("list", "--kind", "rehearsal", "--json").stdout)
    assert (job_id, "boots") in [(job["job_id"], job["verdict"]) for job in listed]
    asyncio.run(stack.assert_replays(job_id))
    _others_are_told_why_not(stack, tmp_path, job_id)


async def _kill_the_worker(stack: Running, job_id: str) -> None:
    client = await Client.connect(stack.temporal_address, data_converter=pydantic_data_converter)
    await stack.until_activity(client.get_workflow_handle(job_id), "rehearse")
    async with asyncio.timeout(300):
        while not (held := list(stack.output_dir.glob(f"{FOLDER_PREFIX}*"))) or not is_worked_on(held[0]):
            await asyncio.sleep(0.1)
    stack.kill_worker()
    async with asyncio.timeout(SOON_SECONDS):
        while is_worked_on(held[0]):
            await asyncio.sleep(0.1)
    stack.start_worker()


def _others_are_told_why_not(stack: Running, folder: Path, job_id: str) -> None:
    """A batch without a boot: a machine that is on, and one that is not there."""
    file = folder / "tonight.yaml"
    file.write_text(f"- {VM}\n- nowhere\n")
    report = folder / "batch.html"
    stack.power(VM, "poweredOn")
    try:
        asked = ("--vcenter", stack.vcenter_server, "--parallel", "2", "--html", str(report))
        batch = stack.hyperctl("rehearse", "--batch", str(file), *asked, "--json")
        convert = stack.hyperctl("convert", "--vm", VM, "--vcenter", stack.vcenter_server, "--again")
    finally:
        stack.power(VM, "poweredOff")
    assert batch.returncode == 1, batch.stderr
    found = {one["vm_name"]: one for one in json.loads(batch.stdout)["rehearsals"]}
    assert {one["verdict"] for one in found.values()} == {"not_rehearsed"}
    assert found[VM]["job_id"] == job_id
    assert found[VM]["reason"]["code"] == "vm_powered_on"
    assert found["nowhere"]["reason"]["code"] == "vm_not_found"
    assert "is powered on: over HTTPS" in report.read_text()
    assert "ago: not rehearsed: web-server-01 is powered on" in convert.stdout, convert.stderr
