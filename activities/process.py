"""The one way to run another programme: argv lists, a fixed locale, a time limit, bounded output, a log line.

The programme gets a process group of its own, which is killed as a whole when the attempt is cancelled,
the time is up, we raise for any other reason or are killed ourselves. Secrets go by file or descriptor,
never in argv.
"""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hyperctl.activities.attempt import Attempt

OUTPUT_LIMIT_BYTES = 1 << 20
POLL_SECONDS = 0.2
END_SECONDS = 10.0
"""How long a service may take to end in good order."""
LINES_KEPT = 50
LINE_LIMIT_BYTES = 4096

_spawner = ThreadPoolExecutor(1, "process-spawner")
"""Starts every service: nbdkit asks the kernel for a signal at its parent's death, which comes when the
*thread* that started it ends."""

# The shell leaves a watcher in the group and becomes the programme itself. The watcher waits for the end of a
# pipe that nobody writes to and only we hold open: it comes when we end, by SIGKILL, too. The kernel's own
# way, PR_SET_PDEATHSIG, knows no group, follows the thread that forked, and misses a parent already gone.
_DIES_WITH_US = """
life=$1; shift
(read -r <&"$life"; kill -KILL 0) &
exec {life}<&- "$@"
"""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a programme ended and the last MiB of what it printed."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def complaint(self) -> str:
        """The last line it printed to stderr, for a message to a person."""
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        return lines[-1] if lines else f"exit code {self.returncode}"


class ProcessError(Exception):
    """A programme failed, or did not end in time."""

    def __init__(self, completed: Completed, reason: str) -> None:
        super().__init__(f"{completed.argv[0]}: {reason}")
        self.completed = completed


def run(
    argv: Sequence[str],
    attempt: Attempt,
    *,
    timeout_seconds: float,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    check: bool = True,
    on_line: Callable[[str], None] | None = None,
) -> Completed:
    """Run a programme to its end, beating meanwhile.

    `on_line` gets every complete line of stdout while it runs. Raises `ProcessError` when it exits with
    another code than 0 (unless `check` is off) or outlasts its time, `FileNotFoundError` when there is no
    such programme, `CancelledError` on cancel.
    """
    attempt.log.info("run: %s", " ".join(argv))
    started = time.monotonic()
    env = _environment(argv, environment)
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        tempfile.TemporaryFile() as given,
        _life() as life,
    ):
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(
            _dying_with_us(argv, life),
            stdin=given,
            stdout=out,
            stderr=err,
            env=env,
            pass_fds=(life,),
            start_new_session=True,
        )
        lines = _LineReader(out.fileno(), on_line)
        try:
            in_time = _wait(process, started + timeout_seconds, attempt, lines)
            while in_time and lines.read(final=True):
                attempt.checkpoint()
        finally:
            _kill_group(process)
        code = process.returncode if in_time else -1
        completed = Completed(tuple(argv), code, _tail(out.fileno()), _tail(err.fileno()))
    if not in_time:
        raise ProcessError(completed, f"did not end in {timeout_seconds:.0f} s")
    seconds = time.monotonic() - started
    attempt.log.info("ended: %s: exit code %d after %.1f s", argv[0], completed.returncode, seconds)
    if completed.stderr.strip():
        attempt.log.info("%s said: %s", argv[0], completed.stderr.strip()[-4000:])
    if check and completed.returncode != 0:
        raise ProcessError(completed, completed.complaint)
    return completed


def _wait(
    process: "subprocess.Popen[bytes]", deadline: float, attempt: Attempt, lines: "_LineReader"
) -> bool:
    """Until it has ended; whether it has by then."""
    while True:
        try:
            process.wait(POLL_SECONDS)
            return True
        except subprocess.TimeoutExpired:
            attempt.checkpoint()
            lines.read()
            if time.monotonic() > deadline:
                return False


def _environment(argv: Sequence[str], more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a programme gets. Raises `FileNotFoundError` where there is no such programme."""
    env = {**os.environ, **(more or {}), "LC_ALL": "C.UTF-8"}
    if shutil.which(argv[0], path=env.get("PATH")) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
    return env


def _dying_with_us(argv: Sequence[str], life: int) -> list[str]:
    return ["bash", "-p", "-c", _DIES_WITH_US, "bash", str(life), *argv]


@contextlib.contextmanager
def _life() -> Iterator[int]:
    """A descriptor that reads its end when this process has ended. No other process inherits its peer."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


class Service:
    """A programme that runs beside us until it is closed, and never outlives us, however we end.

    What it prints goes to the attempt's log, line by line.
    """

    def __init__(
        self,
        argv: Sequence[str],
        attempt: Attempt,
        *,
        descriptors: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it; it inherits the `descriptors` under their own numbers.

        Raises `FileNotFoundError` when there is no such programme.
        """
        env = _environment(argv, environment)
        attempt.log.info("start: %s", " ".join(argv))
        self._name = argv[0]
        self._attempt = attempt
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._held = contextlib.ExitStack()
        with contextlib.ExitStack() as starting:
            life = starting.enter_context(_life())
            self._process = _spawner.submit(
                subprocess.Popen,
                _dying_with_us(argv, life),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=env,
                pass_fds=(life, *descriptors),
                start_new_session=True,
            ).result()
            self._held = starting.pop_all()
        self._reader = threading.Thread(target=self._read, name=f"{argv[0]}-output", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def complaint(self) -> str:
        """The last line it printed, for a message to a person."""
        if self.has_ended:
            _kill_group(self._process)
            self._reader.join(POLL_SECONDS)
        return self._lines[-1] if self._lines else f"exit code {self._process.poll()}"

    def close(self, end_seconds: float = END_SECONDS) -> None:
        """End it in good order, or by force where that takes too long."""
        self._process.terminate()
        try:
            self._process.wait(end_seconds)
        except subprocess.TimeoutExpired:
            self._attempt.log.warning("%s does not end, and is killed", self._name)
        _kill_group(self._process)
        self._held.close()
        self._reader.join(POLL_SECONDS)
        self._attempt.log.info("ended: %s: exit code %d", self._name, self._process.returncode)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            while line := output.readline(LINE_LIMIT_BYTES):
                text = line.decode(errors="replace").strip()
                if text:
                    self._lines.append(text)
                    self._attempt.log.info("%s: %s", self._name, text)


class _LineReader:
    """Hands on the lines of a growing file without moving its writer's position."""

    def __init__(self, descriptor: int, on_line: Callable[[str], None] | None) -> None:
        self._descriptor = descriptor
        self._on_line = on_line
        self._offset = 0

    def read(self, *, final: bool = False) -> bool:
        """Hand on the next lines, of one MiB at most; whether there were any. At last a half one, too."""
        if self._on_line is None:
            return False
        data = os.pread(self._descriptor, OUTPUT_LIMIT_BYTES, self._offset)
        data = data[: data.rfind(b"\n") + 1] or (data if final else b"")
        self._offset += len(data)
        for line in data.decode(errors="replace").removesuffix("\n").split("\n") if data else ():
            self._on_line(line)
        return bool(data)


def _tail(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, OUTPUT_LIMIT_BYTES, max(0, size - OUTPUT_LIMIT_BYTES))
    return data.decode(errors="replace")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of the group; its leader's own end does not end its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
