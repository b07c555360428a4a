"""The attempt for what runs on a copying thread, which no cancel of an activity reaches."""

import threading

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.throttle import Stopped


class CopyAttempt(Attempt):
    """Logs as the attempt does, and raises `Stopped` once the copies are told to stop."""

    def __init__(self, attempt: Attempt, stop: threading.Event) -> None:
        super().__init__(attempt.phase, attempt.log)
        self._told = stop

    def checkpoint(self) -> None:
        if self._told.is_set():
            raise Stopped
