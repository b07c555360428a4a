"""How long a trial boot may take."""

from dataclasses import astuple

from hyperctl.activities.acceleration import Acceleration
from hyperctl.activities.prove.limit import Patience, unit_seconds


def test_emulation_has_more_time_for_everything() -> None:
    fast, slow = astuple(Patience.under(Acceleration.KVM)), astuple(Patience.under(Acceleration.TCG))
    assert all(slower > faster for faster, slower in zip(fast, slow, strict=True))
    assert unit_seconds(Acceleration.KVM) == 0, "the guest's own settings hold"
    assert unit_seconds(Acceleration.TCG) > 90, "what systemd has by itself"


def test_a_guest_that_labels_its_files_first_has_more_time_to_boot() -> None:
    usual = Patience.under(Acceleration.KVM)
    labels = usual.with_relabelling()
    assert labels.boot > usual.boot
    assert (labels.settle, labels.grace) == (usual.settle, usual.grace)
