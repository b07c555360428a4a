"""`docs/workflow-api.md` is true: its examples run, with a client that is not ours, on the real thing."""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from hyperctl.activities.rehearse.rehearsal import FOLDER_PREFIX
from tests.e2e.conftest import Running
from tests.moments import LONGEST_SECONDS, until

DOCUMENT = Path(__file__).parents[2] / "docs" / "workflow-api.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
JOB = "job-by-hand"


def _run(stack: Running, script: str) -> str:
    """Run a documented piece with the documented server replaced by ours."""
    environment = {
        **os.environ,
        "TEMPORAL_ADDRESS": stack.temporal_address,
        "PATH": f"{stack.temporal_binary.parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("vcenter.example.com", stack.vcenter_server)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _status(stack: Running, job: str = JOB) -> dict[str, Any]:
    output = _run(stack, f"temporal workflow query --workflow-id {job} --type status --output json")
    document: dict[str, Any] = json.loads(output)["queryResult"][0]
    return document


def _wait_for(stack: Running, *statuses: str, job: str = JOB) -> dict[str, Any]:
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        document = _status(stack, job)
        if document["status"] in statuses:
            return document
        time.sleep(0.5)
    pytest.fail(f"still {document['status']}, not {statuses}")


def test_the_documented_examples_run_in_their_order(stack: Running) -> None:
    stack.fault(kind="slow", bytes_per_second=2_000_000)
    start, _, query, look, tell, *_ = BLOCK.findall(DOCUMENT.read_text())
    assert JOB in _run(stack, start)
    document = _wait_for(stack, "exporting")
    assert document["vm_name"] == "web-server-01"
    assert JOB in _run(stack, query)
    assert "web-server-01" in _run(stack, look) or JOB in _run(stack, look)
    *signals, cancel = tell.strip().splitlines()
    for signal in signals:
        _run(stack, signal)
        if "--name set_priority" in signal:
            assert _wait_for(stack, "exporting")["priority"] == "high"
        if "--name pause" in signal:
            assert _wait_for(stack, "paused")["paused"] is True
        if "--name resume" in signal:
            assert _wait_for(stack, "exporting")["paused"] is False
    _run(stack, cancel)
    document = _wait_for(stack, "cancelled")
    assert not document["not_undone"]
    assert not (stack.output_dir / ".jobs" / JOB).exists(), "--discard must leave no copy"
    assert stack.active_leases() == []


def test_the_documented_start_of_a_file(stack: Running) -> None:
    """Where there is no such file, which is said with the host that looked for it."""
    _, start, *_ = BLOCK.findall(DOCUMENT.read_text())
    assert "job-from-file" in _run(stack, start)
    document = _wait_for(stack, "failed", job="job-from-file")
    assert (document["vm_name"], document["source_file"]) == ("guest", "/srv/in/guest.ova")
    (failure,) = document["failures"]
    assert failure["code"] == "source_not_found"
    assert "--host" in failure["hint"]


def test_the_documented_start_of_a_rehearsal(stack: Running) -> None:
    *_, start, look = BLOCK.findall(DOCUMENT.read_text())
    job = "rehearsal-by-hand"
    assert job in _run(stack, start)
    document = _wait_for(stack, "rehearsing", job=job)
    assert (document["kind"], document["vm_name"]) == ("rehearsal", "web-server-01")
    assert job in _run(stack, look)
    _run(stack, f"temporal workflow signal --workflow-id {job} --name cancel")
    _wait_for(stack, "cancelled", job=job)
    assert list(stack.output_dir.glob(f"{FOLDER_PREFIX}*")) == []


def test_the_documented_looks(stack: Running) -> None:
    *_, plan, inventory, _, _ = BLOCK.findall(DOCUMENT.read_text())
    assert '"possible":true' in _run(stack, plan).replace(" ", "")
    assert '"ready":"yes"' in _run(stack, inventory).replace(" ", "")


def test_a_request_with_errors_fails_at_once_and_names_each(stack: Running) -> None:
    request = json.dumps({"vm_name": "", "vcenter": {"server": "x", "password": "hunter2"}, "colour": "red"})
    _run(
        stack,
        "temporal workflow start --type MigrationWorkflow --task-queue hyperctl "
        f"--workflow-id job-wrong --input '{request}'",
    )

    def has_failed() -> bool:
        shown = json.loads(_run(stack, "temporal workflow describe --workflow-id job-wrong --output json"))
        return bool(shown["workflowExecutionInfo"]["status"] == "WORKFLOW_EXECUTION_STATUS_FAILED")

    until(has_failed)
    history = _run(stack, "temporal workflow show --workflow-id job-wrong --output json")
    failure = json.loads(history)["events"][-1]["workflowExecutionFailedEventAttributes"]["failure"][
        "message"
    ]
    for field in ("vm_name", "vcenter.password", "colour"):
        assert field in failure
    assert "hunter2" not in failure
