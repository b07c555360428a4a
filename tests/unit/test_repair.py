"""Damage on the target's disk, wherever it is: found, fetched again by ranges, and nothing else is."""

import logging
from pathlib import Path

import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.ledger import BLOCK_BYTES, Finish, read_ledger
from hyperctl.activities.export.ranges import Extent
from hyperctl.activities.staging import Staging
from hyperctl.activities.verify.activity import verify_disks
from hyperctl.workflows.contract import VerifyInput
from hyperctl.workflows.disk import LandedDisk
from hyperctl.workflows.errors import HyperctlError
from hyperctl.workflows.request import VerifyMode
from hyperctl.workflows.status import Phase

from .landings import landing_in
from .test_ranges import CONTENT, HEADER, DiskInMemory, copy

HOLE = Extent(8 * BLOCK_BYTES, 4 * BLOCK_BYTES, is_zero=True)
EXPECTED = CONTENT[: 8 * BLOCK_BYTES] + bytes(4 * BLOCK_BYTES) + CONTENT[12 * BLOCK_BYTES :]


def fetch(staging: Staging, running: Attempt) -> tuple[DiskInMemory, Finish, int]:
    """One export of the disk: what it asked for, how it ended, and what it had received before."""
    disk = DiskInMemory(holes=(HOLE,))
    with landing_in(staging.image(1), staging.ledger(1), HEADER) as landing:
        before = read_ledger(staging.ledger(1)).received_bytes
        copy(disk, landing, running)
        return disk, landing.finish(""), before


def verification(staging: Staging, finish: Finish) -> VerifyInput:
    disk = LandedDisk(
        index=1,
        source_name="vm.vmdk",
        path=str(staging.image(1)),
        format="raw",
        ledger=str(staging.ledger(1)),
        capacity_bytes=HEADER.capacity_bytes,
        allocated_bytes=finish.allocated_bytes,
        received_bytes=finish.received_bytes,
        digest_algorithm=HEADER.algorithm,
        root_digest=finish.root_digest,
    )
    output_dir = str(staging.folder.parent.parent)
    return VerifyInput(job_id=staging.job_id, output_dir=output_dir, disks=(disk,), mode=VerifyMode.FULL)


@pytest.mark.parametrize(
    ("offset", "asked"),
    [
        (3 * BLOCK_BYTES + 17, [(3 * BLOCK_BYTES, BLOCK_BYTES)]),
        (HEADER.capacity_bytes - 1, [(21 * BLOCK_BYTES, 512)]),
        (HOLE.offset_bytes + 5 * 4096, []),
    ],
    ids=["data", "last short block", "hole"],
)
def test_only_the_damaged_extent_crosses_the_network_again(
    tmp_path: Path, offset: int, asked: list[tuple[int, int]]
) -> None:
    running = Attempt(Phase.VERIFY, logging.getLogger("test"))
    staging = Staging(tmp_path, "job-1")
    staging.create()
    _, first, _ = fetch(staging, running)
    assert verify_disks(verification(staging, first), running).disks[0].is_whole
    staging.forget("verify_disks")
    with staging.image(1).open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes((byte ^ 1,)))
    with pytest.raises(HyperctlError):
        verify_disks(verification(staging, first), running)

    disk, second, before = fetch(staging, running)

    assert disk.asked == asked
    assert second.received_bytes - before == sum(length for _, length in asked)
    assert second.root_digest == first.root_digest
    assert staging.image(1).read_bytes() == EXPECTED
    assert verify_disks(verification(staging, second), running).disks[0].is_whole
