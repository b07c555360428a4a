"""Reading a job's log: one file for all its attempts, which is only ever appended to."""

import os
import time
from pathlib import Path
from typing import BinaryIO

from temporalio import activity

from hyperctl.activities.attempt import LOG_FILE
from hyperctl.activities.settings import HostSettings
from hyperctl.workflows.contract import READ_LOG, ReadLogInput, ReadLogResult

LIMIT_BYTES = 256 * 1024
"""The most that one answer carries; a payload may have 2 MiB."""
POLL_SECONDS = 0.5
BACKWARD_BYTES = 64 * 1024


class JobLog:
    """The log of one job on this host. Offsets count its bytes and stay what they are."""

    def __init__(self, log_dir: Path, job_id: str) -> None:
        self._path = log_dir / Path(job_id).name / LOG_FILE

    def read(self, offset: int) -> ReadLogResult:
        """What stands from an offset on, whole lines only; `-N` begins with the last N lines."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                offset = min(offset, size) if offset >= 0 else _last_lines(file, size, -offset)
                file.seek(offset)
                piece = file.read(LIMIT_BYTES)
        except FileNotFoundError:
            return ReadLogResult(text="", next_offset=max(0, offset))
        complete = piece[: piece.rfind(b"\n") + 1] or (piece if len(piece) == LIMIT_BYTES else b"")
        return ReadLogResult(text=complete.decode(errors="replace"), next_offset=offset + len(complete))


def _last_lines(file: BinaryIO, size: int, lines: int) -> int:
    """Where the last so many lines begin, found from the end."""
    position, tail = size, b""
    while position > 0 and tail.count(b"\n") <= lines:
        step = min(BACKWARD_BYTES, position)
        position -= step
        file.seek(position)
        tail = file.read(step) + tail
    begin = len(tail) - tail.endswith(b"\n")
    for _ in range(lines):
        begin = tail.rfind(b"\n", 0, begin)
        if begin < 0:
            break
    return size - len(tail) + begin + 1


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
