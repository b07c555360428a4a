"""Detached processes: found again, ended by number, and never mistaken for another."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.dev.detached import Detached, DidNotStart, any_running
from tests.moments import until


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Detached]:
    process = Detached(tmp_path, "sleeper")
    yield process
    process.kill()


def _start(process: Detached, script: str) -> None:
    process.start(["/bin/sh", "-c", script], os.environ)


def test_it_is_found_by_whoever_knows_the_folder(process: Detached, tmp_path: Path) -> None:
    _start(process, "echo said; exec sleep 60")
    until(lambda: "said" in process.tail())
    again = Detached(tmp_path, "sleeper")
    assert again.pid == process.pid is not None
    assert any_running(tmp_path)
    assert os.getsid(again.pid or 0) == again.pid, "it has a session of its own"
    assert again.stop(5)
    assert process.pid is None
    assert not any_running(tmp_path)


def test_one_that_ended_by_itself_is_not_running(process: Detached, tmp_path: Path) -> None:
    end = tmp_path / "end"
    _start(process, f"while [ ! -e {end} ]; do sleep 0.05; done")
    end.touch()
    until(lambda: process.pid is None)
    with pytest.raises(DidNotStart):
        process.require_running()
    assert not process.stop(1)


def test_a_number_that_is_used_again_is_left_alone(process: Detached, tmp_path: Path) -> None:
    """The record names a process that began at another time: that number is somebody else's now."""
    _start(process, "exec sleep 60")
    record = tmp_path / "run" / "sleeper.json"
    genuine = json.loads(record.read_text())
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        record.write_text(json.dumps({**genuine, "pid": stranger.pid, "started_ticks": 1}))
        assert process.pid is None
        assert not process.stop(1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
        record.write_text(json.dumps(genuine))


def test_one_that_will_not_stop_is_killed(process: Detached) -> None:
    _start(process, "trap '' TERM; echo deaf; while :; do sleep 0.1; done")
    until(lambda: "deaf" in process.tail())
    assert process.stop(0.3)
    assert process.pid is None
