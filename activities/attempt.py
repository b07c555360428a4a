"""One attempt of an activity: its log file, its heartbeat and its end on cancel.

Everything that takes long gets an `Attempt` and asks it often (`checkpoint`), so that a cancel or a
draining worker stops the work within seconds. Outside Temporal (tests, benches) an attempt without an
activity only logs.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError

from hyperctl.workflows.status import Phase, Progress

HEARTBEAT_SECONDS = 1.0
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

    def report(self, **changes: object) -> None:
        """Change fields of the progress that is told to whoever watches, and beat if a beat is due."""
        with self._lock:
            self._progress = self._progress.model_copy(update=changes)
        self.checkpoint()

    def checkpoint(self) -> None:
        """Beat if a second has passed; raise if this attempt is to stop.

        Raises `CancelledError` after a cancel, and a retryable `ApplicationError` when the worker drains:
        the next worker goes on from what is on disk.
        """
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

    def stop(self) -> None:
        """Make the next `checkpoint` raise where no activity does it; for callers outside Temporal."""
        self._stopped.set()


@contextmanager
def attempt(phase: Phase, job_id: str, log_dir: Path) -> Iterator[Attempt]:
    """An attempt that logs to `LOG_DIR/JOB/TIME-PHASE-ATTEMPT.log` and to the worker's own log."""
    number = activity.info().attempt if activity.in_activity() else 1
    folder = log_dir / job_id
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{phase}-{number}.log"
    log = logging.getLogger(f"hyperctl.job.{job_id}.{phase}")
    log.setLevel(logging.INFO)
    handler = logging.FileHandler(file, encoding="utf-8")
    formatter = logging.Formatter(f"%(asctime)s {phase} %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
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
