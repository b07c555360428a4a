"""What has been done to a source that was running, so that it can be copied."""

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict


class Snapshot(BaseModel):
    """A snapshot of the source: its disks at one moment."""

    model_config = ConfigDict(frozen=True)

    moref: str
    name: str
    taken_at: datetime
    """By the vCenter's clock."""
    quiesced: bool = False

    @property
    def state(self) -> str:
        """Names the content of the disks in it: another snapshot, another content."""
        return f"snapshot {self.moref} {self.taken_at.astimezone(UTC).isoformat()}"


class PreparedSource(BaseModel):
    """The source is now as it is copied. Nothing is set for one that was off and is copied as it is."""

    model_config = ConfigDict(frozen=True)

    snapshot: Snapshot | None = None
    """What is copied in place of the machine as it is."""
    copied: bool = False
    """All of the snapshot is on the target host's disk already; the snapshot itself may be gone."""
    switched_off: bool = False
    """The machine ran, and this job has switched it off."""
    forced: bool = False
    """It was powered off; its guest did not shut down by itself."""
    warnings: tuple[str, ...] = ()
