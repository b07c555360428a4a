"""Reading a job's log: the files of all its attempts, in the order they were begun, as one text."""

import time
from pathlib import Path

from temporalio import activity

from hyperctl.activities.settings import HostSettings
from hyperctl.workflows.contract import READ_LOG, ReadLogInput, ReadLogResult

LIMIT_BYTES = 256 * 1024
"""The most that one answer carries; a payload may have 2 MiB."""
POLL_SECONDS = 0.5


class JobLog:
    """The log of one job on this host. Offsets count bytes over all its files, which only grow."""

    def __init__(self, log_dir: Path, job_id: str) -> None:
        self._folder = log_dir / Path(job_id).name

    def read(self, offset: int) -> ReadLogResult:
        """What stands from an offset on, whole lines only; `-N` begins with the last N lines."""
        data = b"".join(file.read_bytes() for file in self._files())
        if offset < 0:
            lines = data.splitlines(keepends=True)
            offset = sum(len(line) for line in lines[:offset])
        piece = data[offset : offset + LIMIT_BYTES]
        complete = piece[: piece.rfind(b"\n") + 1] or (piece if len(piece) == LIMIT_BYTES else b"")
        return ReadLogResult(
            text=complete.decode(errors="replace"), next_offset=min(offset, len(data)) + len(complete)
        )

    def _files(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(self._folder.glob("*.log"))


class LogActivities:
    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    @activity.defn(name=READ_LOG.name, no_thread_cancel_exception=True)
    def read_log(self, argument: ReadLogInput) -> ReadLogResult:
        """Read from an offset; with nothing new there, wait for it as long as was asked."""
        log = JobLog(self._settings.log_dir, argument.job_id)
        deadline = time.monotonic() + argument.wait_seconds
        while True:
            result = log.read(argument.offset)
            if result.text or time.monotonic() >= deadline or activity.is_worker_shutdown():
                return result
            activity.heartbeat()
            time.sleep(POLL_SECONDS)
