"""A migration's bandwidth cap: what it is now, and how a running copy learns of a change."""

import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

LOWEST_BYTES_PER_SECOND = 1024
HIGHEST_BYTES_PER_SECOND = 1 << 50
FIRST_PAUSE = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(minutes=10)

Tell = Callable[[int | None, int], Awaitable[None]]
"""Tells the copy's host a cap and its revision. Raises `ActivityError`."""


class Bandwidth:
    """The cap, and how often this run has changed it."""

    def __init__(self, bytes_per_second: int | None) -> None:
        self.bytes_per_second = bytes_per_second
        self.revision = 0
        self._told = 0

    def change(self, bytes_per_second: int | None) -> bool:
        """Another cap from now on; False where it is none, and nothing is changed."""
        if (
            bytes_per_second is not None
            and not LOWEST_BYTES_PER_SECOND <= bytes_per_second <= HIGHEST_BYTES_PER_SECOND
        ):
            return False
        self.bytes_per_second = bytes_per_second
        self.revision += 1
        return True

    async def follow(self, tell: Tell, until: Callable[[], bool]) -> None:
        """Tell a running copy of every change, one after the other, until that copy has ended.

        Only the newest is told where several came at once; what could not be told is, after a pause that
        grows.
        """
        self._told = self.revision
        pause = FIRST_PAUSE
        while True:
            await workflow.wait_condition(lambda: until() or self.revision != self._told)

            if until():
                return
            now = self.revision
            try:
                await tell(self.bytes_per_second, now)
                self._told, pause = now, FIRST_PAUSE
            except ActivityError as error:
                workflow.logger.warning("the copy could not be told its bandwidth: %s", error)
                with contextlib.suppress(TimeoutError):
                    await workflow.wait_condition(until, timeout=pause)
                pause = min(pause * 2, LONGEST_PAUSE)
