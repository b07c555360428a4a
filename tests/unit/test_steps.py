"""The set-up's runner: order, results, what is shown, and how it fails."""

import time
from pathlib import Path

import pytest

from deploy.dev import steps
from deploy.dev.steps import Step, StepFailed, Steps
from tests.moments import SOON_SECONDS


def _run(folder: Path, *wanted: Step) -> dict[str, str]:
    return Steps(wanted, folder, folder / "log", time.monotonic()).run()


def _shell(name: str, script: str, *after: str) -> Step:
    return Step(name, "a test", ("sh", "-c", script), after=after)


def test_a_result_is_the_last_line(tmp_path: Path) -> None:
    assert _run(tmp_path, _shell("one", "echo first; echo last")) == {"one": "last"}


def test_what_is_found_is_not_made(tmp_path: Path) -> None:
    found = Step("one", "a test", ("sh", "-c", "touch made"), find=lambda: "there")
    assert _run(tmp_path, found, _shell("two", "echo done", "one")) == {"one": "there", "two": "done"}
    assert not (tmp_path / "made").exists()


def test_independent_steps_run_at_the_same_time(tmp_path: Path) -> None:
    """Each waits for the other, so one after the other they would never end."""
    meet = "touch {0}; for _ in $(seq 900); do [ -e {1} ] && exit 0; sleep 0.1; done; exit 1"
    _run(tmp_path, _shell("one", meet.format("a", "b")), _shell("two", meet.format("b", "a")))


def test_a_step_waits_for_those_before_it(tmp_path: Path) -> None:
    _run(tmp_path, _shell("two", "test -e made", "one"), _shell("one", "sleep 0.2; touch made"))


def test_long_work_is_never_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps, "HEARTBEAT_SECONDS", 0.1)
    _run(tmp_path, _shell("slow", "sleep 1.5"))
    assert capsys.readouterr().out.count("at work:  slow") >= 2


def test_a_failure_shows_its_end_and_stops_the_others(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(StepFailed) as caught:
        _run(
            tmp_path,
            _shell("bad", "seq 100; echo why >&2; exit 3"),
            _shell("long", "sleep 60"),
            _shell("later", "touch later", "bad"),
        )
    assert time.monotonic() - started < SOON_SECONDS
    lines = str(caught.value).splitlines()
    assert "exit code 3" in lines[0]
    assert lines[-2].strip() == "why"
    assert len(lines) == steps.TAIL_LINES + 2
    assert str(tmp_path / "log" / "bad.log") in lines[-1]
    assert not (tmp_path / "later").exists()
