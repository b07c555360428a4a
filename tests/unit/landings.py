"""Landings of small disks, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hyperctl.activities.export.assembly import BlockAssembler
from hyperctl.activities.export.image import DiskImage, RawImage
from hyperctl.activities.export.landing import Hold, Landing, no_hold, open_landing
from hyperctl.activities.export.ledger import Finish, LedgerHeader


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
            for offset, piece in pieces.items():
                assembler.write(offset, piece)
            assembler.complete()
        return landing.finish(checksum)
