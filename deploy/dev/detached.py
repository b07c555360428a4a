"""Processes that outlive the one that started them, found again by a file and never mistaken for another."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

POLL_SECONDS = 0.05
TAIL_LINES = 20


class DidNotStart(Exception):
    """A process ended before it was ready, or was not ready in time; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """A process number is used again; together with when the process began it is not."""

    pid: int
    started_ticks: int
    boot_id: str


class Detached:
    """One such process: `FOLDER/run/NAME.json` says which it is, `FOLDER/log/NAME.log` what it said.

    Its methods may be called from any process that can see the folder.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.log = folder / "log" / f"{name}.log"
        self._record = folder / "run" / f"{name}.json"

    @property
    def pid(self) -> int | None:
        """Its number while it runs, else None."""
        try:
            recorded = _Identity(**json.loads(self._record.read_text()))
        except FileNotFoundError:
            return None
        return recorded.pid if _identify(recorded.pid) == recorded else None

    def start(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it in a session of its own with its output appended to its log. It must not run already."""
        for file in (self.log, self._record):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            argv[0],
            list(argv),
            dict(environment),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log), write, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
        )
        identity = _identify(pid)
        if identity is None:
            raise DidNotStart(f"{self.name} ended at once.\n{self.tail()}")
        temporary = self._record.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(identity)))
        temporary.replace(self._record)

    def require_running(self) -> None:
        """Raise `DidNotStart` if it has ended."""
        if self.pid is None:
            raise DidNotStart(f"{self.name} ended before it was ready.\n{self.tail()}\nIts log: {self.log}")

    def stop(self, timeout_seconds: float) -> bool:
        """SIGTERM, and SIGKILL when that does not end it in time. Says whether there was anything to stop."""
        return self._end(signal.SIGTERM, timeout_seconds)

    def kill(self) -> bool:
        """SIGKILL, as a crash or a loss of power would end it."""
        return self._end(signal.SIGKILL, 10)

    def tail(self) -> str:
        """The last lines of its log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])

    def _end(self, number: signal.Signals, timeout_seconds: float) -> bool:
        pid = self.pid
        if pid is None:
            self._record.unlink(missing_ok=True)
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + timeout_seconds
        while self.pid is not None:
            if time.monotonic() > deadline:
                if number is signal.SIGKILL:
                    raise TimeoutError(f"{self.name} (process {pid}) survives SIGKILL")
                return self._end(signal.SIGKILL, 10)
            time.sleep(POLL_SECONDS)
        self._record.unlink(missing_ok=True)
        return True


def any_running(folder: Path) -> bool:
    """Whether one of a folder's processes runs."""
    return any(Detached(folder, file.stem).pid for file in (folder / "run").glob("*.json"))


def _identify(pid: int) -> _Identity | None:
    """Who a process is, by fields 3 (state) and 22 (starttime) of proc(5)'s stat. None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in "ZX":
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return None
    return _Identity(pid, int(fields[19]), Path("/proc/sys/kernel/random/boot_id").read_text().strip())
