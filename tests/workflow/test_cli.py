"""The command as a user runs it, against a real Temporal server with no worker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from temporalio.client import Client

from hyperctl.workflows.request import MigrationRequest, VCenter

pytestmark = pytest.mark.asyncio(loop_scope="module")


def _hyperctl(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "hyperctl"), *arguments],
        env={**os.environ, "HYPERCTL_TEMPORAL_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


async def test_every_command_leaves_with_its_own_exit_code(client: Client) -> None:
    address = client.service_client.config.target_host
    for _ in range(5):
        listed = _hyperctl(address, "list", "--json")
        assert (listed.returncode, listed.stdout.strip()) == (0, "[]"), listed.stderr
    unknown = _hyperctl(address, "cancel", "--job", "job-nowhere")
    assert unknown.returncode == 1
    assert "there is no job job-nowhere" in unknown.stderr


async def test_a_server_that_is_not_there_is_named_with_the_way_out() -> None:
    done = _hyperctl("127.0.0.1:1", "list")
    assert done.returncode == 3
    assert "Temporal at 127.0.0.1:1 does not answer" in done.stderr
    assert "HYPERCTL_TEMPORAL_ADDRESS" in done.stderr


async def test_every_problem_of_a_request_is_named_before_anything_is_asked() -> None:
    wrong = ("--priority", "urgent", "--output-dir", "here")
    done = _hyperctl("127.0.0.1:1", "convert", "--vm", "a", "--vcenter", "b", *wrong)
    assert done.returncode == 2
    assert "priority" in done.stderr
    assert "--output-dir" in done.stderr


async def test_the_worker_is_one_of_the_commands() -> None:
    assert "worker" in _hyperctl("127.0.0.1:1", "--help").stdout
    refused = _hyperctl("127.0.0.1:1", "worker", "--role", "export,paint")
    assert refused.returncode == 2
    assert "paint" in refused.stderr


async def test_start_prints_the_jobs_id_alone(client: Client) -> None:
    address = client.service_client.config.target_host
    started = _hyperctl(address, "start", "--vm", "alone", "--vcenter", "https://vc.example.com/sdk")
    assert started.returncode == 0, started.stderr
    assert (
        started.stdout
        == MigrationRequest(vm_name="alone", vcenter=VCenter(server="vc.example.com")).job_id + "\n"
    )
    assert "Starting VM conversion" in started.stderr


async def test_a_server_that_goes_away_does_not_write_between_what_is_drawn(temporal: Path) -> None:
    programme = """
import asyncio, os, sys
from datetime import timedelta
from temporalio.testing import WorkflowEnvironment
from hyperctl.client.config import Temporal
from hyperctl.client.connection import connect

async def main():
    server = await WorkflowEnvironment.start_local(
        dev_server_existing_path=sys.argv[1],
        dev_server_log_level="never",
        dev_server_startup_timeout=timedelta(minutes=2),
    )
    address = server.client.service_client.config.target_host
    connection = await connect(Temporal(address=address, timeout=2))
    await server.shutdown()
    print("away", file=sys.stderr, flush=True)
    handle = connection.client.get_workflow_handle("job-1")
    for _ in range(3):
        try:
            await handle.describe(rpc_timeout=connection.timeout)
        except Exception:
            pass

asyncio.run(main())
sys.stdout.flush()
os._exit(0)  # as `hyperctl` leaves: the client's threads do not survive the interpreter's own end
"""
    done = subprocess.run(
        [sys.executable, "-c", programme, str(temporal)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert done.stderr.partition("away\n")[2] == ""
    assert "WARN" not in done.stdout
