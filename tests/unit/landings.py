"""Landings of small disks, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hyperctl.activities.export.assembly import BlockAssembler
from hyperctl.activities.export.image import DiskImage, RawImage
from hyperctl.activities.export.landing import Hold, Landing, no_hold, open_landing
from hyperctl.activities.export.ledger import Finish, LedgerHeader

PIECE_BYTES = 64 << 10


@dataclass(frozen=True)
class Plain:
    """A piece of a disk that is there already."""

    offset_bytes: int
    data: bytes

    @property
    def length_bytes(self) -> int:
        return len(self.data)

    def content(self) -> bytes:
        return self.data


@contextmanager
def landing_in(
    image: Path, ledger: Path, header: LedgerHeader, version: str = "", hold: Hold = no_hold
) -> Iterator[Landing]:
    """A landing in a raw image, gone on with where there is one."""

    def open_image(fresh: bool) -> DiskImage:
        return RawImage(image, header.capacity_bytes, fresh=fresh)

    with open_landing(open_image, ledger, header, version, hold) as landing:
        yield landing


def land(
    image: Path, ledger: Path, capacity_bytes: int, pieces: dict[int, bytes], checksum: str = ""
) -> Finish:
    """A whole disk that holds these pieces, by their offsets."""
    with landing_in(image, ledger, LedgerHeader(capacity_bytes, "test")) as landing:
        with BlockAssembler(landing) as assembler:
            for offset, data in pieces.items():
                for at in range(0, len(data), PIECE_BYTES):
                    assembler.take(Plain(offset + at, data[at : at + PIECE_BYTES]))
            assembler.complete()
        return landing.finish(checksum)
