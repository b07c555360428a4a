"""What a job has left on a host: said by the host itself, never concluded from how far the job came."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class LeftoverKind(StrEnum):
    COPY = "copy"
    """The job's working folder: copied disks, their ledgers, overlays."""
    IMAGES = "images"
    """Finished images in the output folder."""


class Leftover(BaseModel):
    """One folder of a job's on a host."""

    model_config = ConfigDict(frozen=True)

    kind: LeftoverKind
    path: str
    size_bytes: int
    """What it occupies there."""
    reason: str = ""
    """Why it is still there although it was to be deleted."""


class HostLeftovers(BaseModel):
    """One host's answer to what of a job is there."""

    model_config = ConfigDict(frozen=True)

    host: str
    removed: tuple[Leftover, ...] = ()
    """What it has deleted just now."""
    left: tuple[Leftover, ...] = ()
    problem: str = ""
    """Why it could not be asked, or not to the end; what it has left is not known then."""
