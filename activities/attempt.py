"""One attempt of an activity: its log file, its heartbeat and its end on cancel.

Everything that takes long gets an `Attempt` and asks it often (`checkpoint`), so that a cancel or a
draining worker stops the work within seconds. Outside Temporal (tests, benches) an attempt without an
activity only logs.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError

from hyperctl.workflows.status import Phase, Progress

HEARTBEAT_SECONDS = 1.0
LOG_FILE = "job.log"
WORKER_STOPPING = "worker_stopping"


class Attempt:
    """The running attempt, as the work sees it. Safe to use from several threads."""

    def __init__(self, phase: Phase, log: logging.Logger, log_file: Path | None = None) -> None:
        self.phase = phase
        self.log = log
        self._progress = Progress(phase=phase, log_file=str(log_file or ""))
        self._lock = threading.Lock()
        self._last_beat = 0.0
        self._stopped = threading.Event()
        self._guards: list[Callable[[], None]] = []

    def report(self, **changes: object) -> None:
        """Change fields of the progress that is told to whoever watches, and beat if a beat is due."""
        with self._lock:
            self._progress = self._progress.model_copy(update=changes)
        self.checkpoint()

    def checkpoint(self) -> None:
        """Beat if a second has passed; raise if this attempt is to stop.

        Raises `CancelledError` after a cancel, and a retryable `ApplicationError` when the worker drains:
        the next worker goes on from what is on disk. Raises also what a guard does.
        """
        for guard in tuple(self._guards):
            guard()
        if not activity.in_activity():
            if self._stopped.is_set():
                raise CancelledError("stopped")
            return
        now = time.monotonic()
        with self._lock:
            due = now - self._last_beat >= HEARTBEAT_SECONDS
            if due:
                self._last_beat = now
            progress = self._progress
        if due:
            activity.heartbeat(progress)
        if activity.is_cancelled():
            raise CancelledError("cancelled")
        if activity.is_worker_shutdown():
            raise ApplicationError("the worker is stopping", type=WORKER_STOPPING)

    @contextmanager
    def guarded_by(self, guard: Callable[[], None]) -> Iterator[None]:
        """Have every checkpoint within the block look first whether what the work stands on still holds."""
        self._guards.append(guard)
        try:
            yield
        finally:
            self._guards.remove(guard)

    @property
    def progress(self) -> Progress:
        """What was last reported."""
        with self._lock:
            return self._progress

    def stop(self) -> None:
        """Make the next `checkpoint` raise where no activity does it; for callers outside Temporal."""
        self._stopped.set()


class _LineHandler(logging.Handler):
    """Appends each record in one write, so that attempts side by side never mix their lines."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            os.write(self._descriptor, f"{self.format(record)}\n".encode(errors="backslashreplace"))
        except OSError:
            self.handleError(record)

    def close(self) -> None:
        os.close(self._descriptor)
        super().close()


@contextmanager
def attempt(phase: Phase, job_id: str, log_dir: Path) -> Iterator[Attempt]:
    """An attempt that logs to `LOG_DIR/JOB/job.log`, all attempts' one file, and to the worker's own log."""
    number = activity.info().attempt if activity.in_activity() else 1
    folder = log_dir / job_id
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / LOG_FILE
    log = logging.Logger(f"hyperctl.job.{job_id}.{phase}", logging.INFO)
    log.parent = logging.getLogger("hyperctl.job")
    handler = _LineHandler(file)
    formatter = logging.Formatter(
        f"%(asctime)s {phase} {number} %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    log.addHandler(handler)
    try:
        log.info("attempt %d begins", number)
        yield Attempt(phase, log, file)
        log.info("attempt %d is done", number)
    except BaseException as error:
        log.error("attempt %d ended: %s: %s", number, type(error).__name__, error)
        raise
    finally:
        log.removeHandler(handler)
        handler.close()
