"""A bandwidth cap that all connections of a job share: a token bucket, changeable while it runs."""

import threading
import time

BURST_SECONDS = 0.25
"""So much of the rate may come at once after a pause."""
LONGEST_WAIT_SECONDS = 0.2


class Stopped(Exception):
    """A copy ended because it was told to."""


class Throttle:
    """Bytes per second for everybody who takes from it; None is no cap. Safe to use from several threads."""

    def __init__(self, bytes_per_second: int | None = None) -> None:
        self._lock = threading.Lock()
        self._rate = bytes_per_second
        self._tokens = 0.0
        self._filled_at = time.monotonic()

    @property
    def bytes_per_second(self) -> int | None:
        return self._rate

    def change(self, bytes_per_second: int | None) -> None:
        """Another cap, from now on; who waits already goes on waiting by the new one."""
        with self._lock:
            self._fill()
            self._rate = bytes_per_second
            self._tokens = min(self._tokens, 0.0) if bytes_per_second else 0.0

    def take(self, size_bytes: int, stop: threading.Event) -> None:
        """Wait until so many bytes may have come. Raises `Stopped` when told to stop meanwhile."""
        with self._lock:
            self._fill()
            self._tokens -= size_bytes
        while (wait := self._wait_seconds()) > 0:
            if stop.wait(min(wait, LONGEST_WAIT_SECONDS)):
                raise Stopped

    def _wait_seconds(self) -> float:
        with self._lock:
            self._fill()
            return -self._tokens / self._rate if self._rate else 0.0

    def _fill(self) -> None:
        now = time.monotonic()
        if self._rate:
            self._tokens = min(
                self._tokens + (now - self._filled_at) * self._rate, self._rate * BURST_SECONDS
            )
        else:
            self._tokens = 0.0
        self._filled_at = now
