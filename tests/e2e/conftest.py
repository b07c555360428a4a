"""A whole stack for tests of the whole way, shared by all of them and clean before each."""

import asyncio
import json
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

from deploy.dev.prepare import load_parts
from deploy.dev.stack import Stack
from tests.moments import LONGEST_SECONDS
from tests.replays import assert_replays

LEASE_TIMEOUT_SECONDS = 20
"""A worker that is killed leaves its lease until the vCenter ends it; a real one waits for minutes."""


class Running:
    """The stack that runs, as a user and as somebody with an axe meet it."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._since = datetime.now(UTC)

    @property
    def temporal_address(self) -> str:
        return self._stack.temporal_address

    @property
    def web_ui(self) -> str:
        return self._stack.web_ui

    @property
    def temporal_binary(self) -> Path:
        return load_parts().temporal

    @property
    def vcenter_server(self) -> str:
        return self._stack.vcenter.server

    @property
    def output_dir(self) -> Path:
        return self._stack.output_dir

    @property
    def password(self) -> str:
        return self._stack.password

    @property
    def environment(self) -> dict[str, str]:
        return self._stack.environment()

    @property
    def worker_log(self) -> str:
        return self._stack.log("worker").read_text()

    def hyperctl(self, *arguments: str, timeout_seconds: float = 1500) -> subprocess.CompletedProcess[str]:
        """The command, to its end."""
        return subprocess.run(
            ["hyperctl", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        """The command, while it runs."""
        return subprocess.Popen(
            ["hyperctl", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def fault(self, **fields: Any) -> None:
        self._control("POST", "/faults", fields)

    def clear_faults(self) -> None:
        self._control("DELETE", "/faults")

    def active_leases(self) -> list[Any]:
        return [lease for lease in self._control("GET", "/leases") if lease["active"]]

    def sessions(self) -> int:
        """Of everybody in the vCenter."""
        return int(self._control("GET", "/sessions")["count"])

    def add_guest(self, folder: Path) -> None:
        """Another machine in the vCenter, for the rest of its life."""
        self._control("POST", "/guests", {"directory": str(folder)})

    def power(self, vm: str, state: str) -> None:
        self._control("POST", f"/vms/{vm}/power", {"state": state})

    def kill_worker(self) -> None:
        self._stack.kill_worker()

    def start_worker(self) -> None:
        self._stack.start_worker()

    def restart_worker(self, **environment: str) -> None:
        """Stop the worker in good order and start it with some variables more."""
        self._stack.stop_worker()
        self._stack.start_worker(environment=environment)

    async def until_activity(self, handle: WorkflowHandle[Any, Any], name: str) -> None:
        """Wait until the job is there, begun by this test, and a worker has begun this activity."""
        async with asyncio.timeout(900):
            while not await self._has_begun(handle, name):
                await asyncio.sleep(0.2)

    async def assert_replays(self, job_id: str) -> None:
        """Its whole history plays back, and no password is in it."""
        client = await Client.connect(self.temporal_address, data_converter=pydantic_data_converter)
        await assert_replays(client.get_workflow_handle(job_id), self.password)

    async def _has_begun(self, handle: WorkflowHandle[Any, Any], name: str) -> bool:
        try:
            description = await handle.describe()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
        if description.start_time < self._since:
            return False  # a run of an earlier test
        assert description.status is WorkflowExecutionStatus.RUNNING, f"it never came to {name}"
        pending = description.raw_description.pending_activities
        return any(one.activity_type.name == name and one.HasField("last_started_time") for one in pending)

    def _control(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._stack.vcenter.control + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=LONGEST_SECONDS) as answer:
            return json.loads(answer.read() or "null")


@pytest.fixture(scope="session")
def whole_stack() -> Iterator[Stack]:
    # qemu has an account of its own and must get to the images; pytest's folders are closed to others.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="hyperctl-e2e-") as folder:
        Path(folder).chmod(0o711)
        stack = Stack(
            Path(folder) / "stack",
            output_dir=Path(folder) / "out",
            lease_timeout_seconds=LEASE_TIMEOUT_SECONDS,
        )
        try:
            stack.up()
            yield stack
        finally:
            stack.down()


@pytest.fixture
def stack(whole_stack: Stack) -> Iterator[Running]:
    running = Running(whole_stack)
    running.clear_faults()
    for left in whole_stack.output_dir.iterdir():
        shutil.rmtree(left)
    running.start_worker()
    yield running
    running.clear_faults()
