"""Comparing an image with its ledger: what differs is found, holes are not read."""

import logging
import random
from pathlib import Path

import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.image_reader import open_image
from hyperctl.activities.export.ledger import ALGORITHM, BLOCK_BYTES, read_ledger
from hyperctl.activities.staging import Staging
from hyperctl.activities.verify import Extent, differing_extents, verify_disks
from hyperctl.workflows.contract import VerifyInput
from hyperctl.workflows.disk import LandedDisk
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.request import VerifyMode
from hyperctl.workflows.status import Phase

from .landings import land

CAPACITY = 6 * BLOCK_BYTES + 4608


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    staging = Staging(tmp_path, "job-1")
    staging.create()
    return staging


@pytest.fixture
def landed(staging: Staging) -> LandedDisk:
    """Data in the blocks 0, 2, 3 and the short last one; the others are holes."""
    source = random.Random(1)
    image, ledger = staging.image(1), staging.ledger(1)
    offsets = (0, 2 * BLOCK_BYTES + 8192, 3 * BLOCK_BYTES, 6 * BLOCK_BYTES)
    finish = land(image, ledger, CAPACITY, {at: source.randbytes(4608) for at in offsets}, "sha1:abc")
    return LandedDisk(
        index=1,
        source_name="vm.vmdk",
        path=str(image),
        format="raw",
        ledger=str(ledger),
        capacity_bytes=CAPACITY,
        allocated_bytes=finish.allocated_bytes,
        received_bytes=1000,
        digest_algorithm=ALGORITHM,
        root_digest=finish.root_digest,
        source_checksum="sha1:abc",
    )


@pytest.fixture
def running() -> Attempt:
    return Attempt(Phase.VERIFY, logging.getLogger("test"))


def argument(staging: Staging, *disks: LandedDisk) -> VerifyInput:
    return VerifyInput(
        job_id="job-1", output_dir=str(staging.folder.parent.parent), disks=disks, mode=VerifyMode.FULL
    )


def differing(landed: LandedDisk) -> list[Extent]:
    attempt = Attempt(Phase.VERIFY, logging.getLogger("test"))
    with open_image(Path(landed.path), landed.format, landed.capacity_bytes, attempt) as image:
        return differing_extents(image, landed, read_ledger(Path(landed.ledger)))


def write(path: str, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_right_image_differs_nowhere(landed: LandedDisk) -> None:
    assert differing(landed) == []


@pytest.mark.parametrize(
    ("offset", "extent"),
    [
        (5, Extent(0, BLOCK_BYTES)),
        (BLOCK_BYTES + 77, Extent(BLOCK_BYTES, BLOCK_BYTES)),
        (4 * BLOCK_BYTES - 1, Extent(3 * BLOCK_BYTES, BLOCK_BYTES)),
        (CAPACITY - 1, Extent(6 * BLOCK_BYTES, 4608)),
    ],
    ids=["data", "hole", "zeroes of a data block", "last byte"],
)
def test_one_changed_byte_is_found(landed: LandedDisk, offset: int, extent: Extent) -> None:
    with open(landed.path, "rb") as file:
        file.seek(offset)
        (byte,) = file.read(1)
    write(landed.path, offset, bytes((byte ^ 0x80,)))
    assert differing(landed) == [extent]


def test_neighbours_are_one_extent(landed: LandedDisk) -> None:
    for block in (2, 3, 4, 6):
        write(landed.path, block * BLOCK_BYTES + 1, b"changed")
    assert differing(landed) == [
        Extent(2 * BLOCK_BYTES, 3 * BLOCK_BYTES),
        Extent(6 * BLOCK_BYTES, 4608),
    ]


def test_zeroes_that_were_written_are_as_good_as_a_hole(landed: LandedDisk) -> None:
    write(landed.path, BLOCK_BYTES, bytes(BLOCK_BYTES))
    assert differing(landed) == []


def test_a_wide_hole_is_not_read(tmp_path: Path, running: Attempt, staging: Staging) -> None:
    capacity = 1 << 40
    finish = land(staging.image(1), staging.ledger(1), capacity, {capacity - 4096: b"x" * 4096})
    ledger = read_ledger(staging.ledger(1))
    assert ledger.finish == finish
    disk = LandedDisk(
        index=1,
        source_name="vm.vmdk",
        path=str(staging.image(1)),
        format="raw",
        ledger=str(staging.ledger(1)),
        capacity_bytes=capacity,
        allocated_bytes=4096,
        received_bytes=1,
        digest_algorithm=ALGORITHM,
        root_digest=finish.root_digest,
    )
    assert len(verify_disks(argument(staging, disk), running).proved) == 1


def shorten(disk: LandedDisk) -> None:
    with open(disk.path, "r+b") as file:
        file.truncate(CAPACITY - 512)


def lengthen(disk: LandedDisk) -> None:
    with open(disk.path, "ab") as file:
        file.write(b"more")


def tear_ledger(disk: LandedDisk) -> None:
    path = Path(disk.ledger)
    path.write_bytes(path.read_bytes()[:-5])


def exchange_ledger(disk: LandedDisk) -> None:
    image = Path(disk.path + ".other")
    land(image, Path(disk.ledger), CAPACITY, {})


@pytest.mark.parametrize("damage", [shorten, lengthen, tear_ledger, exchange_ledger])
def test_a_wrong_size_or_ledger_is_found(
    landed: LandedDisk, staging: Staging, running: Attempt, damage: object
) -> None:
    assert callable(damage)
    damage(landed)
    with pytest.raises(HyperctlError, match=r"disk1 \(vm.vmdk\)") as caught:
        verify_disks(argument(staging, landed), running)
    assert caught.value.code is ErrorCode.VERIFICATION_FAILED


def test_many_extents_are_counted(landed: LandedDisk, staging: Staging, running: Attempt) -> None:
    write(landed.path, 0, b"changed")
    write(landed.path, 3 * BLOCK_BYTES, b"changed")
    staging.finish("export_disks", argument(staging, landed))
    with pytest.raises(
        HyperctlError, match=rf"{BLOCK_BYTES} bytes at 0, {BLOCK_BYTES} bytes at {3 * BLOCK_BYTES}"
    ):
        verify_disks(argument(staging, landed), running)
    assert staging.finished("export_disks", VerifyInput) is None, "the export's record is dropped"
    assert not Path(landed.ledger).exists()


def test_a_verified_job_is_not_read_again(landed: LandedDisk, staging: Staging, running: Attempt) -> None:
    first = verify_disks(argument(staging, landed), running)
    write(landed.path, 0, b"changed")
    assert verify_disks(argument(staging, landed), running) == first
