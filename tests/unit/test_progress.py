"""What is said of how far a copy is: the arithmetic."""

import pytest

from hyperctl.activities.export.rate import RateMeter, eta_seconds, overall
from hyperctl.workflows.status import DiskProgress

MIB = 1 << 20


def moved(index: int, done: int, total: int, **changes: object) -> DiskProgress:
    return DiskProgress(index=index, name=f"disk{index}", done_bytes=done, total_bytes=total).model_copy(
        update=changes
    )


def test_a_stall_ends_in_a_rate_of_zero_and_no_eta() -> None:
    meter = RateMeter()
    rates = [meter.sample(second, min(second, 5) * MIB) for second in range(30)]
    assert rates[5] == MIB
    assert 0 < rates[12] < MIB
    assert rates[15:] == [0.0] * 15
    assert eta_seconds(100 * MIB, rates[-1]) is None


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    meter = RateMeter()
    for second in range(60):
        rate = meter.sample(second, second * MIB if second < 30 else 30 * MIB + (second - 30) * 4 * MIB)
    assert rate == 4 * MIB


def test_an_eta_is_what_is_left_at_this_rate() -> None:
    assert eta_seconds(100 * MIB, 10 * MIB) == 10
    assert eta_seconds(0, 10 * MIB) is None, "as much has come as was expected, and it has not ended"


def test_disks_together_are_one_with_a_rate_of_its_own() -> None:
    disks = (
        moved(1, 40 * MIB, 40 * MIB, finished=True),
        moved(2, 10 * MIB, 60 * MIB, rate_bytes_per_second=5.0 * MIB),
        moved(3, 0, 100 * MIB, total_is_estimate=True),
    )
    whole = overall(disks, 10.0 * MIB)
    assert whole is not None
    assert (whole.done_bytes, whole.total_bytes) == (50 * MIB, 200 * MIB)
    assert whole.rate_bytes_per_second == 10 * MIB
    assert whole.eta_seconds == pytest.approx(15)
    assert whole.total_is_estimate
    assert not whole.finished


def test_no_disks_are_no_progress() -> None:
    assert overall((), 0.0) is None
