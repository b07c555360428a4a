"""The whole way: `hyperctl convert` on a real guest, and what is true afterwards."""

import asyncio
import json
import os
import re
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from deploy.dev.prepare import load_parts
from hyperctl.workflows.guest import Outcome, Step
from hyperctl.workflows.request import MigrationRequest, VCenter
from hyperctl.workflows.status import MigrationResult
from tests.e2e.conftest import Running
from tests.moments import SOON_SECONDS
from tests.processes import is_worked_on

VM = f"e2e-{uuid.uuid4().hex[:8]}"
"""The demo's guest under a name that no domain of this host has."""

pytestmark = pytest.mark.timeout(1800)
"""Guests in software emulation on a busy machine take ten times what they take on their own."""


def _result(stack: Running, output: str) -> MigrationResult:
    found = re.search(rf"{re.escape(str(stack.output_dir))}/\d{{4}}-\d\d-\d\d/{VM}", output)
    assert found, output
    return MigrationResult.model_validate_json((Path(found[0]) / "migration.json").read_text())


def _virsh(*arguments: str) -> str:
    command = ["virsh", "-c", "qemu:///system", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def _add_guest(stack: Running, folder: Path) -> None:
    folder.mkdir()
    demo = load_parts().guests / "web-server-01"
    facts = json.loads((demo / "guest.json").read_text())
    for disk in facts["disks"]:
        disk |= {kind: os.path.relpath(demo / name, folder) for kind, name in disk.items()}
    (folder / "guest.json").write_text(json.dumps(facts | {"name": VM}))
    stack.add_guest(folder)


def test_one_command_migrates_and_proves_it_though_its_worker_is_killed_twice(
    stack: Running, tmp_path: Path
) -> None:
    """kill -9 in the copy and in the conversion, restart, and all is as if nothing had happened."""
    _add_guest(stack, tmp_path / VM)
    job_id = MigrationRequest(vm_name=VM, vcenter=VCenter(server=stack.vcenter_server)).job_id
    stack.fault(kind="slow", bytes_per_second=8_000_000)
    command = stack.begin("convert", "--vm", VM, "--vcenter", stack.vcenter_server, "--to-libvirt")
    try:
        asyncio.run(_kill_the_worker_twice(stack, job_id))
        said, _ = command.communicate(timeout=1200)
    finally:
        command.kill()
        command.wait()
    assert command.returncode == 0, said
    for phase in range(1, 6):
        assert f"Phase {phase}" in said

    result = _result(stack, said)
    assert result.job_id == job_id
    proof = result.proof
    assert proof is not None
    assert proof.passed, proof.problems
    assert proof.multi_user
    assert proof.failed_units == ()
    assert proof.mounts
    assert all(mount.active for mount in proof.mounts)
    (nic,) = proof.nics
    assert nic.name == "ens192"
    assert "192.0.2.10/24" in nic.addresses
    outcomes = {step.step: step.outcome for step in result.steps}
    for step in (Step.VIRTIO, Step.BOOTLOADER, Step.NETWORK, Step.FSTAB, Step.TOOLS):
        assert outcomes[step] is Outcome.DONE

    (disk,) = result.disks
    assert Path(disk.path).stat().st_size == disk.capacity_bytes
    assert Path(disk.path).stat().st_blocks * 512 < disk.capacity_bytes, "the image must stay sparse"
    assert not (stack.output_dir / ".jobs" / result.job_id).exists()
    assert stack.active_leases() == []
    evidence = Path(result.output_dir) / "evidence"
    assert (evidence / "proof.png").read_bytes().startswith(b"\x89PNG")
    assert b"HYPERCTL-PROOF-BEGIN full" in (evidence / "proof.report.txt").read_bytes()

    try:
        xml = _virsh("dumpxml", VM)
        assert disk.path in xml
        assert "00:50:56:aa:bb:01" in xml
    finally:
        _virsh("undefine", VM)

    _the_same_command_attaches(stack, result.job_id)
    _other_commands_know_the_job(stack, result.job_id)
    _ten_lines_of_python(stack, result.job_id)
    asyncio.run(stack.assert_replays(result.job_id))


async def _kill_the_worker_twice(stack: Running, job_id: str) -> None:
    client = await Client.connect(stack.temporal_address, data_converter=pydantic_data_converter)
    handle = client.get_workflow_handle(job_id)
    staging = stack.output_dir / ".jobs" / job_id
    await stack.until_activity(handle, "export_disks")
    await asyncio.sleep(3)
    stack.kill_worker()
    stack.clear_faults()
    stack.start_worker()
    await stack.until_activity(handle, "convert_guest")
    await _until_worked_on(staging, True, timeout_seconds=300)
    stack.kill_worker()
    await _until_worked_on(staging, False, timeout_seconds=SOON_SECONDS)
    stack.start_worker()


async def _until_worked_on(folder: Path, expected: bool, timeout_seconds: float) -> None:
    async with asyncio.timeout(timeout_seconds):
        while is_worked_on(folder) is not expected:
            await asyncio.sleep(0.1)


def _the_same_command_attaches(stack: Running, job_id: str) -> None:
    started = time.monotonic()
    again = stack.hyperctl("convert", "--vm", VM, "--vcenter", stack.vcenter_server, "--to-libvirt")
    assert again.returncode == 0, again.stdout + again.stderr
    assert job_id in again.stdout
    assert time.monotonic() - started < 90, "a finished migration must not be done again"


def _other_commands_know_the_job(stack: Running, job_id: str) -> None:
    document = json.loads(stack.hyperctl("query", "--job", job_id).stdout)
    assert (document["job_id"], document["status"]) == (job_id, "completed")
    listed = json.loads(stack.hyperctl("list", "--status", "completed", "--json").stdout)
    assert job_id in json.dumps(listed)
    logs = stack.hyperctl("logs", "--job", job_id, "--tail", "5000").stdout
    assert "export" in logs
    assert "convert" in logs
    assert stack.password not in logs


def _ten_lines_of_python(stack: Running, job_id: str) -> None:
    programme = textwrap.dedent(
        f"""
        import asyncio
        from hyperctl.client.sdk import MigrationClient

        async def main():
            client = await MigrationClient.connect()
            migration = await client.get({job_id!r})
            status = await migration.status()
            print(status.job_id, status.status)

        asyncio.run(main())
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", programme],
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == [job_id, "completed"], done.stderr
