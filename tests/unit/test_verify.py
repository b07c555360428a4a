"""Comparing an image with its ledger: what differs is found, holes are not read."""

import logging
import random
from pathlib import Path

import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.ledger import ALGORITHM, BLOCK_BYTES, LedgerHeader, read_ledger
from hyperctl.activities.staging import Staging
from hyperctl.activities.verify.activity import verify_disks
from hyperctl.activities.verify.compare import Extent, data_blocks, differing
from hyperctl.activities.verify.landed import open_landed
from hyperctl.activities.verify.sample import choose, miss_chance, sample_size
from hyperctl.workflows.contract import VerifyInput
from hyperctl.workflows.disk import LandedDisk
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.request import VerifyMode
from hyperctl.workflows.status import Phase

from .landings import land, landing_in

CAPACITY = 6 * BLOCK_BYTES + 4608


@pytest.fixture
def landed(staging: Staging) -> LandedDisk:
    """Data in the blocks 0, 2, 3 and the short last one; the others are holes."""
    source = random.Random(1)
    image, ledger = staging.image(1), staging.ledger(1)
    offsets = (0, 2 * BLOCK_BYTES + 8192, 3 * BLOCK_BYTES, 6 * BLOCK_BYTES)
    finish = land(image, ledger, CAPACITY, {at: source.randbytes(4608) for at in offsets}, "sha1:abc")
    return landed_disk(image, ledger, CAPACITY, finish.root_digest, "sha1:abc")


def landed_disk(image: Path, ledger: Path, capacity: int, root: str, checksum: str = "") -> LandedDisk:
    return LandedDisk(
        index=1,
        source_name="vm.vmdk",
        path=str(image),
        format="raw",
        ledger=str(ledger),
        capacity_bytes=capacity,
        allocated_bytes=4096,
        received_bytes=1000,
        digest_algorithm=ALGORITHM,
        root_digest=root,
        source_checksum=checksum,
    )


@pytest.fixture
def running() -> Attempt:
    return Attempt(Phase.VERIFY, logging.getLogger("test"))


def argument(staging: Staging, *disks: LandedDisk, mode: VerifyMode = VerifyMode.FULL) -> VerifyInput:
    return VerifyInput(job_id="job-1", output_dir=str(staging.folder.parent.parent), disks=disks, mode=mode)


def differing_extents(disk: LandedDisk, threads: int | None = None) -> list[Extent]:
    ledger = read_ledger(Path(disk.ledger))
    advanced: list[int] = []
    with open_landed(disk, Attempt(Phase.VERIFY, logging.getLogger("test"))) as reader:
        found = differing(reader, ledger, data_blocks(ledger), advanced.append, threads)
    assert sum(advanced) == 3 * BLOCK_BYTES + 4608, "progress counts what has data"
    return found


def extent(first: int, stop: int) -> Extent:
    length = min(stop * BLOCK_BYTES, CAPACITY) - first * BLOCK_BYTES
    return Extent(range(first, stop), first * BLOCK_BYTES, length)


def flip(path: str, offset: int) -> None:
    with open(path, "rb") as file:
        file.seek(offset)
        (byte,) = file.read(1)
    write(path, offset, bytes((byte ^ 0x80,)))


def write(path: str, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize("threads", [1, 5, None])
def test_a_right_image_differs_nowhere(landed: LandedDisk, threads: int | None) -> None:
    assert differing_extents(landed, threads) == []


PLACES = pytest.mark.parametrize(
    ("offset", "block"),
    [(5, 0), (BLOCK_BYTES + 77, 1), (4 * BLOCK_BYTES - 1, 3), (CAPACITY - 1, 6)],
    ids=["data", "hole", "zeroes of a data block", "last byte"],
)


@PLACES
def test_one_changed_byte_is_found(landed: LandedDisk, offset: int, block: int) -> None:
    flip(landed.path, offset)
    assert differing_extents(landed) == [extent(block, block + 1)]


@PLACES
def test_only_the_damaged_block_is_to_be_fetched_again(
    landed: LandedDisk, staging: Staging, running: Attempt, offset: int, block: int
) -> None:
    flip(landed.path, offset)
    staging.finish("export_disks", argument(staging, landed))
    with pytest.raises(HyperctlError) as caught:
        verify_disks(argument(staging, landed), running)
    assert caught.value.code is ErrorCode.VERIFICATION_FAILED
    assert staging.finished("export_disks", VerifyInput) is None, "the export's record is dropped"
    ledger = read_ledger(Path(landed.ledger))
    assert ledger.finish is None
    assert ledger.blocks.missing() == [block]
    assert ledger.valid_bytes == Path(landed.ledger).stat().st_size


def test_neighbours_are_one_extent(landed: LandedDisk) -> None:
    for block in (2, 3, 4, 6):
        write(landed.path, block * BLOCK_BYTES + 1, b"changed")
    assert differing_extents(landed) == [extent(2, 5), extent(6, 7)]


def test_zeroes_that_were_written_are_as_good_as_a_hole(landed: LandedDisk) -> None:
    write(landed.path, BLOCK_BYTES, bytes(BLOCK_BYTES))
    assert differing_extents(landed) == []


def test_blocks_larger_than_a_read_are_compared_whole(tmp_path: Path, staging: Staging) -> None:
    """As those of disks of more than 8 TiB are."""
    header = LedgerHeader(5 * BLOCK_BYTES, "large blocks", block_bytes=2 * BLOCK_BYTES)
    image, path = staging.image(1), staging.ledger(1)
    content = random.Random(5).randbytes(header.capacity_bytes)
    with landing_in(image, path, header) as landing:
        for block in range(header.blocks):
            start = block * header.block_bytes
            landing.land(block, content[start : start + header.length(block)])
        landing.sync()
        landing.finish("")
    ledger = read_ledger(path)
    disk = landed_disk(image, path, header.capacity_bytes, "")
    for offset, wrong in (
        (None, []),
        (3 * BLOCK_BYTES + 1, [range(1, 2)]),
        (len(content) - 1, [range(1, 3)]),
    ):
        if offset is not None:
            flip(disk.path, offset)
        with open_landed(disk, Attempt(Phase.VERIFY, logging.getLogger("test"))) as reader:
            found = differing(reader, ledger, data_blocks(ledger), lambda size: None)
        assert [extent.blocks for extent in found] == wrong


def test_a_wide_hole_is_not_read(running: Attempt, staging: Staging) -> None:
    capacity = 1 << 40
    finish = land(staging.image(1), staging.ledger(1), capacity, {capacity - 4096: b"x" * 4096})
    disk = landed_disk(staging.image(1), staging.ledger(1), capacity, finish.root_digest)
    (verified,) = verify_disks(argument(staging, disk), running).disks
    assert (verified.blocks, verified.zero_blocks, verified.blocks_read) == (1 << 18, (1 << 18) - 1, 1)


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


def test_a_wrong_size_or_ledger_costs_the_whole_disk(
    landed: LandedDisk, staging: Staging, running: Attempt
) -> None:
    shorten(landed)
    with pytest.raises(HyperctlError):
        verify_disks(argument(staging, landed), running)
    assert not Path(landed.ledger).exists()


def test_every_extent_is_named(landed: LandedDisk, staging: Staging, running: Attempt) -> None:
    write(landed.path, 0, b"changed")
    write(landed.path, 3 * BLOCK_BYTES, b"changed")
    with pytest.raises(
        HyperctlError, match=rf"{BLOCK_BYTES} bytes at 0, {BLOCK_BYTES} bytes at {3 * BLOCK_BYTES}"
    ):
        verify_disks(argument(staging, landed), running)


def test_a_verified_job_is_not_read_again(landed: LandedDisk, staging: Staging, running: Attempt) -> None:
    first = verify_disks(argument(staging, landed), running)
    write(landed.path, 0, b"changed")
    assert verify_disks(argument(staging, landed), running) == first


def test_what_was_proved_of_a_disk_is_said(landed: LandedDisk, staging: Staging, running: Attempt) -> None:
    (verified,) = verify_disks(argument(staging, landed), running).disks
    assert verified.is_whole
    assert (verified.blocks, verified.zero_blocks, verified.blocks_read) == (7, 3, 4)
    assert verified.structure == "size of the raw image"
    for text in (landed.root_digest, "sha1:abc", "all 24.0 MiB", "size of the raw image"):
        assert text in verified.statement


# --- samples ------------------------------------------------------------------------------------------


def many_blocks(staging: Staging, blocks: int) -> LandedDisk:
    """A disk of small blocks, every second one of zeroes, that a sample does not read whole."""
    header = LedgerHeader(blocks * 4096, "many", block_bytes=4096)
    with landing_in(staging.image(1), staging.ledger(1), header) as landing:
        for block in range(blocks):
            landing.land(block, (b"%08d" % block) * 512 if block % 2 else bytes(4096))
        landing.sync()
        finish = landing.finish("")
    return landed_disk(staging.image(1), staging.ledger(1), header.capacity_bytes, finish.root_digest)


def test_a_sample_says_how_much_it_read_and_what_it_may_miss(staging: Staging, running: Attempt) -> None:
    disk = many_blocks(staging, 6000)
    (verified,) = verify_disks(argument(staging, disk, mode=VerifyMode.SAMPLE), running).disks
    assert (verified.blocks, verified.zero_blocks) == (6000, 3000)
    assert sample_size(3000) <= verified.blocks_read <= sample_size(3000) + 2
    assert not verified.is_whole
    assert f"{verified.blocks_read} of 3000 blocks" in verified.statement
    assert "damage to 30 blocks would be missed with a chance of 0.0" in verified.statement


@pytest.mark.parametrize("block", [1, 5999, 3000], ids=["first", "last", "a hole"])
def test_a_sample_always_finds_damage_here(staging: Staging, running: Attempt, block: int) -> None:
    disk = many_blocks(staging, 6000)
    flip(disk.path, block * 4096 + 9)
    with pytest.raises(HyperctlError):
        verify_disks(argument(staging, disk, mode=VerifyMode.SAMPLE), running)
    assert read_ledger(staging.ledger(1)).blocks.missing() == [block]


def test_after_a_sample_found_damage_all_of_it_is_looked_for(staging: Staging, running: Attempt) -> None:
    disk = many_blocks(staging, 6000)
    damaged = [1, *range(7, 307, 100)]
    for block in damaged:
        flip(disk.path, block * 4096 + 9)
    with pytest.raises(HyperctlError):
        verify_disks(argument(staging, disk, mode=VerifyMode.SAMPLE), running)
    assert read_ledger(staging.ledger(1)).blocks.missing() == damaged


def test_a_full_verification_does_not_rest_on_a_sample(staging: Staging, running: Attempt) -> None:
    disk = many_blocks(staging, 6000)
    sample = verify_disks(argument(staging, disk, mode=VerifyMode.SAMPLE), running)
    assert verify_disks(argument(staging, disk, mode=VerifyMode.SAMPLE), running) == sample
    (verified,) = verify_disks(argument(staging, disk), running).disks
    assert verified.is_whole


def test_few_blocks_are_all_read() -> None:
    assert [sample_size(blocks) for blocks in (0, 1, 50)] == [0, 1, 50]
    assert choose([], random.Random(1)) == []
    assert choose([3, 9], random.Random(1)) == [3, 9]


def test_a_sample_of_a_large_disk_stays_small_and_good_enough() -> None:
    read = sample_size(1 << 21)
    assert read < 1000
    assert miss_chance(1 << 21, (1 << 21) // 100, read) <= 0.001
    chosen = choose(range(10, 100_010), random.Random(1))
    assert chosen[0] == 10
    assert chosen[-1] == 100_009
    assert chosen == sorted(set(chosen))


def test_the_chance_to_miss_is_that_of_drawing_without_putting_back() -> None:
    assert miss_chance(10, 1, 4) == pytest.approx(0.6)
    assert miss_chance(10, 2, 3) == pytest.approx((8 * 7 * 6) / (10 * 9 * 8))
    assert miss_chance(10, 3, 8) == 0.0
    assert miss_chance(10, 0, 8) == 1.0
