"""How fast something goes: over the last ten seconds, by samples. Pure."""

from collections import deque
from collections.abc import Sequence

from hyperctl.workflows.status import DiskProgress

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
    """How long the rest takes at this rate; None while nothing moves, and where nobody knows what is left."""
    return left_bytes / rate_bytes_per_second if rate_bytes_per_second > 0 and left_bytes > 0 else None


def overall(disks: Sequence[DiskProgress], rate_bytes_per_second: float) -> DiskProgress | None:
    """All disks as one; None where there is none. The rate is measured over all, not summed up:
    a disk that has just ended still counts for the seconds in which it moved.
    """
    if not disks:
        return None
    done = sum(disk.done_bytes for disk in disks)
    total = sum(disk.total_bytes for disk in disks)
    return DiskProgress(
        index=0,
        name=f"{len(disks)} disks",
        done_bytes=done,
        total_bytes=total,
        total_is_estimate=any(disk.total_is_estimate for disk in disks),
        rate_bytes_per_second=rate_bytes_per_second,
        eta_seconds=eta_seconds(total - done, rate_bytes_per_second),
        finished=all(disk.finished for disk in disks),
    )
