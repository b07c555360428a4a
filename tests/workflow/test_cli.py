"""The command as a user runs it, against a real Temporal server with no worker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from temporalio.client import Client

pytestmark = pytest.mark.asyncio(loop_scope="module")


def _hyperctl(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "hyperctl"), *arguments],
        env={**os.environ, "HYPERCTL_TEMPORAL_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=60,
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
