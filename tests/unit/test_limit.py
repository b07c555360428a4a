"""How long a trial boot may take."""

from dataclasses import astuple

from hyperctl.activities.acceleration import Acceleration
from hyperctl.activities.prove.limit import Patience, unit_seconds


def test_emulation_has_more_time_for_everything() -> None:
    fast, slow = astuple(Patience.under(Acceleration.KVM)), astuple(Patience.under(Acceleration.TCG))
    assert all(slower > faster for faster, slower in zip(fast, slow, strict=True))
    assert unit_seconds(Acceleration.KVM) == 0, "the guest's own settings hold"
    assert unit_seconds(Acceleration.TCG) > 90, "what systemd has by itself"


def test_a_guest_that_labels_its_files_first_has_the_time_for_them_and_for_two_boots() -> None:
    usual = Patience.under(Acceleration.KVM)
    few, many = usual.with_relabelling(1), usual.with_relabelling(1_000_000)
    assert few.boot > 2 * usual.boot
    assert many.boot - few.boot > 600
    assert (many.settle, many.grace) == (usual.settle, usual.grace)
