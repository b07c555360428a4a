"""What the migration of a machine will take, as far as its rehearsal could measure it."""

from pydantic import BaseModel, ConfigDict


class Sample(BaseModel):
    """Reads of the source's disks over the connections that a copy would use."""

    model_config = ConfigDict(frozen=True)

    connections: int
    read_bytes: int
    seconds: float
    blocks: int = 0
    """Read at places all over the disks."""
    data_blocks: int = 0
    """Of these, not all zeroes."""

    other_bytes: int = 0
    """Read for these blocks."""

    @property
    def all_bytes(self) -> int:
        return self.read_bytes + self.other_bytes

    @property
    def bytes_per_second(self) -> float:
        return self.read_bytes / self.seconds if self.seconds > 0 else 0.0


class Estimate(BaseModel):
    """Bounds, each with what it was made from. Nothing here was not measured or stated by somebody."""

    model_config = ConfigDict(frozen=True)

    sample: Sample
    transfer_bytes: int
    """What a copy reads: the capacity from a datastore, since HTTP knows no holes, else what may land."""
    way: str = "from the datastore"
    """How it was read for the sample, in words."""
    copy_seconds: float
    """`transfer_bytes` at the sample's rate."""
    land_bytes_low: int
    land_bytes_high: int
    """What is written on the target host, holes left out."""
    land_basis: str
    """What the bounds were made from, in words."""
    guest_seconds: float = 0.0
    """Conversion and boot proof, as this rehearsal took for them, its waits for the source left out."""
    needed_bytes: int = 0
    """Of room on the target host, as the migration's preflight counts it."""
    free_bytes: int = 0
