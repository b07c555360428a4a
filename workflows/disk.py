"""Disk images on a target host, as they pass from step to step."""

from pydantic import BaseModel, ConfigDict


class LandedDisk(BaseModel):
    """One disk of the source as it landed: the image, its ledger and what was proved on the way."""

    model_config = ConfigDict(frozen=True)

    index: int
    """Counts from 1, in the source's order; `disk1` is the first."""
    source_name: str
    path: str
    format: str
    ledger: str
    capacity_bytes: int
    allocated_bytes: int
    """Bytes that are not zero and so take space."""
    received_bytes: int
    """Bytes that crossed the network, compressed as the source sent them."""
    digest_algorithm: str
    root_digest: str
    """The digest over the ledger's extents; names the content of the whole disk."""
    source_checksum: str = ""
    """What the source says of the stream, `sha1:...`, when it says anything; it was compared."""


class VerifiedDisk(BaseModel):
    """What reading a landed disk again has proved."""

    model_config = ConfigDict(frozen=True)

    index: int
    source_name: str
    mode: str
    """`full` or `sample`."""
    blocks: int
    """Of the disk, as its ledger divides it."""
    zero_blocks: int
    """Of these, recorded as zeroes; all of them were looked at, by the file system's map of holes."""
    blocks_read: int
    """Of the others, read again and compared; all of them in a full verification."""
    structure: str
    """What was looked at of the file as a whole, in words."""
    digest_algorithm: str
    root_digest: str
    source_checksum: str = ""
    """As `LandedDisk.source_checksum`."""
    statement: str
    """All of this as one sentence for a person."""

    @property
    def is_whole(self) -> bool:
        """Whether every byte was compared."""
        return self.blocks_read + self.zero_blocks == self.blocks


class ConvertedDisk(BaseModel):
    """A base and the overlay that holds every change of the conversion."""

    model_config = ConfigDict(frozen=True)

    index: int
    base: str
    """The verified image's path; in a rehearsal the address of the source's disk."""
    base_format: str
    overlay: str
    capacity_bytes: int
    base_state: str = ""
    """Tells the base from another image in its place; empty where that is not known."""


class OutputDisk(BaseModel):
    """A finished disk of the target guest."""

    model_config = ConfigDict(frozen=True)

    index: int
    path: str
    format: str
    capacity_bytes: int
