"""Real programmes: what they get, how they end, and that nothing of them outlives us."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from temporalio.exceptions import CancelledError

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.process import ProcessError, run
from hyperctl.workflows.status import Phase
from tests.moments import LONGEST_SECONDS, until
from tests.processes import is_running

FAMILY = 'echo $$ >"$0.new"; sleep 600 & echo $! >>"$0.new"; mv "$0.new" "$0"; wait'
"""A programme with a child; it writes the numbers of both into a file."""


def attempt() -> Attempt:
    return Attempt(Phase.CONVERT, logging.getLogger("test"))


def numbers(file: Path) -> list[int]:
    """The family's process numbers, once it is there."""
    until(file.exists)
    return [int(line) for line in file.read_text().split()]


def assert_gone(pids: list[int]) -> None:
    until(lambda: not any(map(is_running, pids)), f"one of {pids} lives on")


def test_what_it_is_given_and_what_it_says() -> None:
    lines: list[str] = []
    done = run(
        ["sh", "-c", 'cat; echo "$WORD" "$1" >&2; ls /proc/self/fd | wc -l', "sh", "a 'b' $c"],
        attempt(),
        timeout_seconds=LONGEST_SECONDS,
        stdin=b"one\ntwo\n",
        environment={"WORD": "w"},
        on_line=lines.append,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\ntwo\n4\n", "w a 'b' $c\n")
    assert lines == ["one", "two", "4"], "four descriptors: the three of everybody, and that of ls' folder"


def test_no_line_of_many_is_left_out() -> None:
    """More than fits into what is read at once, most of it said in the last moment."""
    lines: list[str] = []
    argv = ["sh", "-c", "seq 300000; printf 'the end'"]
    run(argv, attempt(), timeout_seconds=LONGEST_SECONDS, on_line=lines.append)
    assert lines == [*map(str, range(1, 300001)), "the end"]


def test_its_own_exit_code_is_what_counts() -> None:
    with pytest.raises(ProcessError, match="so it goes") as failed:
        run(["sh", "-c", "echo so it goes >&2; exit 7"], attempt(), timeout_seconds=LONGEST_SECONDS)
    assert failed.value.completed.returncode == 7
    killed = run(["sh", "-c", "kill -TERM $$"], attempt(), timeout_seconds=LONGEST_SECONDS, check=False)
    assert killed.returncode == -15


def test_a_programme_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-programme"):
        run(["no-such-programme"], attempt(), timeout_seconds=LONGEST_SECONDS)


def test_the_time_is_up_for_its_children_too(tmp_path: Path) -> None:
    file = tmp_path / "family"
    with pytest.raises(ProcessError, match="did not end"):
        run(["sh", "-c", FAMILY, str(file)], attempt(), timeout_seconds=3)
    assert_gone(numbers(file))


def test_a_cancel_ends_all_of_it(tmp_path: Path) -> None:
    file, running = tmp_path / "family", attempt()

    def stop() -> None:
        numbers(file)
        running.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(CancelledError):
        run(["sh", "-c", FAMILY, str(file)], running, timeout_seconds=LONGEST_SECONDS)
    thread.join()
    assert_gone(numbers(file))


WORKER = f"""
import logging, sys
from concurrent.futures import ThreadPoolExecutor
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.process import run
from hyperctl.workflows.status import Phase

attempt = Attempt(Phase.CONVERT, logging.getLogger())
with ThreadPoolExecutor(2) as pool:
    for file in sys.argv[1:]:
        pool.submit(run, ["sh", "-c", {FAMILY!r}, file], attempt, timeout_seconds=600)
"""


def test_nothing_outlives_a_worker_that_is_killed(tmp_path: Path) -> None:
    files = [tmp_path / "first", tmp_path / "second"]
    worker = subprocess.Popen([sys.executable, "-c", WORKER, *map(str, files)])
    try:
        family = [pid for file in files for pid in numbers(file)]
        assert all(is_running(pid) for pid in family)
        assert os.getpgid(worker.pid) not in {os.getpgid(pid) for pid in family}
    finally:
        worker.kill()
        worker.wait()
    assert_gone(family)
