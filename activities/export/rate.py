"""How fast something goes: over the last ten seconds, by samples. Pure."""

from collections import deque

WINDOW_SECONDS = 10.0


class RateMeter:
    """Fed with (time, bytes so far); both only grow."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def sample(self, now: float, done_bytes: int) -> float:
        """Note a sample; returns bytes per second over the window."""
        self._samples.append((now, done_bytes))
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW_SECONDS:
            self._samples.popleft()
        since, before = self._samples[0]
        return (done_bytes - before) / (now - since) if now > since else 0.0


def eta_seconds(left_bytes: int, rate_bytes_per_second: float) -> float | None:
    """How long the rest takes at this rate; None while nothing moves."""
    return max(left_bytes, 0) / rate_bytes_per_second if rate_bytes_per_second > 0 else None
