"""When a failed step is tried again."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hyperctl.workflows.errors import ErrorCode
from hyperctl.workflows.retry import LONGEST_DELAY, RetryPolicy, next_delay

SEED_POLICY = RetryPolicy()


def test_the_seeds_policy_waits_5_10_and_20_minutes_and_then_gives_up() -> None:
    delays = [next_delay(SEED_POLICY, [ErrorCode.VCENTER_UNREACHABLE], done) for done in range(4)]
    assert delays == [timedelta(minutes=5), timedelta(minutes=10), timedelta(minutes=20), None]


@pytest.mark.parametrize(
    "code", [ErrorCode.VM_NOT_FOUND, ErrorCode.AUTHENTICATION_FAILED, ErrorCode.PERMISSION_DENIED]
)
def test_permanent_errors_fail_at_once(code: ErrorCode) -> None:
    assert next_delay(SEED_POLICY, [code], 0) is None


def test_one_permanent_problem_among_passing_ones_decides() -> None:
    assert next_delay(SEED_POLICY, [ErrorCode.VCENTER_FAULT, ErrorCode.VM_NOT_FOUND], 0) is None


@given(
    delay=st.floats(0.001, 1e6),
    multiplier=st.floats(1.0, 100.0),
    retry=st.integers(1, 100),
)
def test_a_delay_never_shrinks_and_never_exceeds_a_day(delay: float, multiplier: float, retry: int) -> None:
    policy = RetryPolicy(retry_delay_seconds=delay, backoff_multiplier=multiplier)
    assert policy.delay_before(retry) <= policy.delay_before(retry + 1) <= LONGEST_DELAY


def test_a_policy_that_makes_no_sense_is_refused_with_every_problem() -> None:
    with pytest.raises(ValidationError) as caught:
        RetryPolicy(max_retries=-1, retry_delay_seconds=0, backoff_multiplier=0.5)
    assert caught.value.error_count() == 3
