"""The probe's boot sector, run by the real qemu."""

import logging

from hyperctl.activities.acceleration import Acceleration, probe_acceleration, runs_a_guest
from hyperctl.activities.attempt import Attempt
from hyperctl.workflows.status import Phase


def test_software_emulation_runs_a_guest_everywhere() -> None:
    assert runs_a_guest(Acceleration.TCG, Attempt(Phase.PLAN, logging.getLogger("test")))


def test_what_the_probe_says_is_so() -> None:
    found = probe_acceleration()
    assert runs_a_guest(found, Attempt(Phase.PLAN, logging.getLogger("test")))
