"""A rehearsal: what was found when a machine was converted and booted over its disks where they are."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from hyperctl.workflows.errors import Failure
from hyperctl.workflows.guest import BootProof, GuestSystem, StepOutcome


class Verdict(StrEnum):
    """Whether the machine will boot after its migration. The values are stable."""

    BOOTS = "boots"
    DOES_NOT_BOOT = "does_not_boot"
    """Its conversion or its boot proof failed, for a reason of the guest's."""
    NOT_REHEARSED = "not_rehearsed"
    """Something outside the guest was in the way: nothing is known of how it boots."""


class Rehearsed(BaseModel):
    """The outcome of one rehearsal."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    reason: Failure | None = None
    """Why it does not boot, or was not rehearsed; in the words that a migration has for it."""
    guest: GuestSystem | None = None
    steps: tuple[StepOutcome, ...] = ()
    """Of the conversion, as far as it came."""
    proof: BootProof | None = None
    read_bytes: int = 0
    """Fetched from the source, all disks together."""
    waited_seconds: float = 0.0
    """For the source, of `duration_seconds`."""
    duration_seconds: float = 0.0
