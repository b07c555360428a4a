"""The form in which every part reports to `hyperctl doctor` whether it is able to work."""

from dataclasses import dataclass
from enum import StrEnum


class CheckState(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """It works, and something is worse than it could be."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    state: CheckState
    detail: str
    hint: str = ""
    """The way out, where the state is not `ok`."""
