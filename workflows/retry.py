"""When a failed step is tried again: pure decisions, no clock and no I/O."""

from collections.abc import Iterable
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from hyperctl.workflows.errors import ErrorCode

LONGEST_DELAY = timedelta(days=1)


class RetryPolicy(BaseModel):
    """How often and after which pause a business failure is retried.

    Losing a worker is no business failure: Temporal hands that activity to the next worker at once and
    without a limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_retries: int = Field(default=3, ge=0, le=100)
    retry_delay_seconds: float = Field(default=300.0, gt=0)
    backoff_multiplier: float = Field(default=2.0, ge=1.0)

    def delay_before(self, retry: int) -> timedelta:
        """The pause before the given retry, which counts from 1; never longer than a day."""
        longest = LONGEST_DELAY.total_seconds()
        seconds = self.retry_delay_seconds
        for _ in range(retry - 1):
            seconds = min(seconds * self.backoff_multiplier, longest)
        return timedelta(seconds=min(seconds, longest))


def next_delay(policy: RetryPolicy, codes: Iterable[ErrorCode], retries_done: int) -> timedelta | None:
    """The pause before the next try, or None where trying again is pointless.

    One permanent problem among several decides: waiting would not mend it.
    """
    if retries_done >= policy.max_retries or not all(code.is_transient for code in codes):
        return None
    return policy.delay_before(retries_done + 1)
