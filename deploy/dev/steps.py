"""Runs the steps of a set-up side by side, each as a process with its own log, and shows them at work."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HEARTBEAT_SECONDS = 15.0
POLL_SECONDS = 0.05
TAIL_LINES = 30


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to make. The last line that its command prints is its result."""

    name: str
    purpose: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    find: Callable[[], str | None] = lambda: None
    """The result where there is nothing left to do, else None."""


@dataclass(frozen=True, slots=True)
class _Running:
    step: Step
    process: subprocess.Popen[bytes]
    log: Path
    started: float


class StepFailed(Exception):
    """A step's command failed; the message has the end of its log and where the whole is."""


class Steps:
    """Steps that are run as soon as those before them are done."""

    def __init__(self, steps: Sequence[Step], folder: Path, log_dir: Path, started: float) -> None:
        self._steps = steps
        self._folder = folder
        self._log_dir = log_dir
        self._started = started
        self._spoke = started

    def run(self) -> dict[str, str]:
        """Run what is not done; the results by the steps' names.

        Raises `StepFailed`; nothing runs on then.
        """
        self._log_dir.mkdir(parents=True, exist_ok=True)
        results = {step.name: found for step in self._steps if (found := step.find()) is not None}
        waiting = [step for step in self._steps if step.name not in results]
        running: list[_Running] = []
        try:
            while waiting or running:
                for step in [step for step in waiting if all(name in results for name in step.after)]:
                    waiting.remove(step)
                    running.append(self._start(step))
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    results[job.step.name] = self._finish(job)
                self._beat(running)
                time.sleep(POLL_SECONDS)
        finally:
            for job in running:
                _end(job.process)
        return results

    def _start(self, step: Step) -> _Running:
        log = self._log_dir / f"{step.name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                step.command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self._say(f"{step.name:<9} {step.purpose}")
        return _Running(step, process, log, time.monotonic())

    def _finish(self, job: _Running) -> str:
        seconds = time.monotonic() - job.started
        lines = job.log.read_text(errors="replace").splitlines()
        if job.process.returncode != 0:
            tail = "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])
            raise StepFailed(
                f"{job.step.name} failed after {seconds:.0f} s (exit code {job.process.returncode}).\n"
                f"{tail}\nThe whole log: {job.log}"
            )
        self._say(f"{job.step.name:<9} done in {seconds:.0f} s")
        return lines[-1] if lines else ""

    def _beat(self, running: Sequence[_Running]) -> None:
        now = time.monotonic()
        if running and now - self._spoke >= HEARTBEAT_SECONDS:
            jobs = ", ".join(f"{job.step.name} ({now - job.started:.0f} s)" for job in running)
            self._say(f"at work:  {jobs}")

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        print(f"[{self._spoke - self._started:4.0f} s] {text}", flush=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a step with everything it started; politely first, so that it can remove what is half made."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
