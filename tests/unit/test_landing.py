"""The landing: pieces and blocks in any order, resumed, lost and found again, on a disk that fills up."""

import errno
import random
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from hyperctl.activities.export.assembly import BlockAssembler
from hyperctl.activities.export.image import DiskImage, RawImage
from hyperctl.activities.export.landing import SYNC_BYTES, open_landing
from hyperctl.activities.export.ledger import BLOCK_BYTES, Content, LedgerHeader, read_ledger
from hyperctl.activities.export.vmdk import VmdkError

from .landings import Plain, land, landing_in

HEADER = LedgerHeader(5 * BLOCK_BYTES + 65536 + 512, "test")


def disk_of(capacity: int, seed: int) -> bytes:
    """Noise in some grains of 64 KiB, zeroes in the others."""
    source = random.Random(seed)
    grains = [
        source.randbytes(65536) if source.random() < 0.2 else bytes(65536)
        for _ in range(-(-capacity // 65536))
    ]
    return b"".join(grains)[:capacity]


CONTENT = disk_of(HEADER.capacity_bytes, seed=1)


def block_of(block: int) -> bytes:
    return CONTENT[block * BLOCK_BYTES :][: HEADER.length(block)]


def root_of(content: bytes) -> str:
    root = blake3()
    for offset in range(0, len(content), BLOCK_BYTES):
        block = content[offset : offset + BLOCK_BYTES]
        root.update(f"{offset} {len(block)} {blake3(block).hexdigest()}\n".encode())
    return root.hexdigest()


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled", "twice"])
def test_pieces_land_right_in_any_order(tmp_path: Path, order: str) -> None:
    pieces = [(at, CONTENT[at : at + 65536]) for at in range(0, len(CONTENT), 65536)]
    pieces = [(at, piece) for at, piece in pieces if any(piece)]
    if order == "descending":
        pieces.reverse()
    elif order == "shuffled":
        random.Random(2).shuffle(pieces)
    elif order == "twice":
        pieces = [(at, b"\xaa" * len(piece)) for at, piece in pieces] + pieces
    image, ledger = tmp_path / "disk.raw", tmp_path / "disk.ledger"
    with landing_in(image, ledger, HEADER) as landing:
        with BlockAssembler(landing) as assembler:
            for at, piece in pieces:
                assembler.take(Plain(at, piece))
            assembler.complete()
        finish = landing.finish("")

    assert image.read_bytes() == CONTENT
    read = read_ledger(ledger)
    assert read.finish == finish
    assert finish.root_digest == root_of(CONTENT), "the order leaves no trace"


def test_a_piece_outside_of_the_disk_or_across_blocks_is_refused(tmp_path: Path) -> None:
    header = LedgerHeader(BLOCK_BYTES + 100, "test")
    with (
        landing_in(tmp_path / "disk.raw", tmp_path / "ledger", header) as landing,
        BlockAssembler(landing) as assembler,
    ):
        for offset in (-1, header.capacity_bytes - 1):
            with pytest.raises(ValueError, match="outside"):
                assembler.take(Plain(offset, b"ab"))
        with pytest.raises(ValueError, match="more than one"):
            assembler.take(Plain(BLOCK_BYTES - 1, b"ab"))


def test_a_piece_that_cannot_be_unpacked_ends_the_copy(tmp_path: Path) -> None:
    class Damaged(Plain):
        def content(self) -> bytes:
            raise VmdkError("damaged")

    with landing_in(tmp_path / "disk.raw", tmp_path / "ledger", HEADER) as landing:
        with BlockAssembler(landing) as assembler:
            assembler.take(Damaged(0, b"ab"))
            with pytest.raises(VmdkError, match="damaged"):
                assembler.complete()
        assert not landing.blocks.known(0)


def test_what_was_synced_is_gone_on_with(tmp_path: Path) -> None:
    image, ledger = tmp_path / "disk.raw", tmp_path / "ledger"
    with landing_in(image, ledger, HEADER, "etag") as landing:
        landing.received(100)
        landing.land(4, block_of(4))
        landing.land(0, block_of(0))
        landing.sync()
        landing.land(1, block_of(1))
    before = image.stat().st_ino

    with landing_in(image, ledger, HEADER, "etag") as landing:
        assert [landing.blocks.known(block) for block in range(3)] == [True, False, False]
        landing.received(11)
        for block in range(HEADER.blocks):
            landing.land(block, block_of(block))
        landing.sync()
        finish = landing.finish("")
    assert image.stat().st_ino == before
    assert image.read_bytes() == CONTENT
    assert finish.root_digest == root_of(CONTENT)
    assert finish.received_bytes == 111, "of both attempts"


@pytest.mark.parametrize("change", ["source", "version", "image gone", "image of another size"])
def test_what_belongs_to_something_else_is_begun_anew(tmp_path: Path, change: str) -> None:
    image, ledger = tmp_path / "disk.raw", tmp_path / "ledger"
    with landing_in(image, ledger, HEADER, "etag") as landing:
        landing.land(0, block_of(0))
        landing.sync()
    header, version = HEADER, "etag"
    if change == "source":
        header = LedgerHeader(HEADER.capacity_bytes, "another state")
    elif change == "version":
        version = "another etag"
    elif change == "image gone":
        image.unlink()
    else:
        image.write_bytes(b"x")
    with landing_in(image, ledger, header, version) as landing:
        assert not landing.blocks.known(0)
        assert image.stat().st_blocks == 0


def test_garbage_under_a_block_that_is_not_known_does_not_shine_through(tmp_path: Path) -> None:
    image, ledger = tmp_path / "disk.raw", tmp_path / "ledger"
    with landing_in(image, ledger, HEADER):
        pass
    image.write_bytes(b"\xee" * HEADER.capacity_bytes)
    with landing_in(image, ledger, HEADER) as landing:
        landing.land_zeroes(range(1, 2))
        for block in (0, 2, 3, 4, 5):
            landing.land(block, block_of(block))
        landing.sync()
    right = CONTENT[:BLOCK_BYTES] + bytes(BLOCK_BYTES) + CONTENT[2 * BLOCK_BYTES :]
    assert image.read_bytes() == right


def test_a_block_that_differs_from_its_record_is_lost_before_it_changes(tmp_path: Path) -> None:
    image, ledger = tmp_path / "disk.raw", tmp_path / "ledger"
    land(image, ledger, HEADER.capacity_bytes, {0: CONTENT})
    with landing_in(image, ledger, HEADER) as landing:
        landing.land(0, block_of(0))
        assert read_ledger(ledger).finish is not None, "the same content changes nothing"
        landing.land(1, bytes(BLOCK_BYTES))
        recovered = read_ledger(ledger)
        assert recovered.finish is None
        assert not recovered.blocks.known(1)
        landing.sync()
        assert landing.finish("").root_digest == root_of(
            CONTENT[:BLOCK_BYTES] + bytes(BLOCK_BYTES) + CONTENT[2 * BLOCK_BYTES :]
        )


def test_zeroes_that_come_after_data_are_zeroes_in_a_fresh_image(tmp_path: Path) -> None:
    header = LedgerHeader(2 * BLOCK_BYTES, "test")
    image, ledger = tmp_path / "disk.raw", tmp_path / "disk.ledger"
    with landing_in(image, ledger, header) as landing, BlockAssembler(landing) as assembler:
        assembler.take(Plain(0, b"x" * 65536))
        assembler.take(Plain(BLOCK_BYTES, b"y" * 65536))
        assembler.take(Plain(0, bytes(65536)))  # a writer that comes back to where it was
        assembler.complete()
        assert landing.blocks.is_zero(0)
    assert image.read_bytes() == (bytes(BLOCK_BYTES) + b"y" * 65536).ljust(2 * BLOCK_BYTES, b"\0")


def test_syncs_go_on_by_themselves(tmp_path: Path) -> None:
    header = LedgerHeader(64 * BLOCK_BYTES, "test")
    ledger = tmp_path / "ledger"
    noise = random.Random(5).randbytes(BLOCK_BYTES)
    with landing_in(tmp_path / "disk.raw", ledger, header) as landing:
        for block in range(32):
            landing.land(block, noise)
            unrecorded = (block + 1 - read_ledger(ledger).blocks.known_count) * BLOCK_BYTES
            assert unrecorded <= 2 * SYNC_BYTES


def test_blocks_land_from_many_threads(tmp_path: Path) -> None:
    image, ledger = tmp_path / "disk.raw", tmp_path / "ledger"
    header = LedgerHeader(40 * BLOCK_BYTES, "test")
    content = disk_of(header.capacity_bytes, seed=9)
    blocks = list(range(header.blocks))
    random.Random(4).shuffle(blocks)
    with landing_in(image, ledger, header) as landing:

        def work(mine: list[int]) -> None:
            for block in mine:
                landing.land(block, content[block * BLOCK_BYTES :][:BLOCK_BYTES])

        threads = [threading.Thread(target=work, args=(blocks[n::4],)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        landing.sync()
        finish = landing.finish("")
    assert image.read_bytes() == content
    assert finish.root_digest == root_of(content)


class _FullDisk(RawImage):
    """A real image on a disk that is full until somebody makes room."""

    full = True

    def write(self, offset: int, data: Content) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "no space left on device")
        super().write(offset, data)


def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    told: list[int] = []

    def open_image(fresh: bool) -> DiskImage:
        return disk

    def hold(error: OSError) -> None:
        told.append(error.errno or 0)
        disk.full = False

    disk = _FullDisk(image, HEADER.capacity_bytes, fresh=True)
    with open_landing(open_image, tmp_path / "ledger", HEADER, hold=hold) as landing:
        landing.land(0, block_of(0))
        landing.sync()
    assert told == [errno.ENOSPC]
    assert image.read_bytes()[:BLOCK_BYTES] == block_of(0)


def test_without_patience_its_error_is_the_landings(tmp_path: Path) -> None:
    def open_image(fresh: bool) -> DiskImage:
        return _FullDisk(tmp_path / "disk.raw", HEADER.capacity_bytes, fresh=True)

    with (
        open_landing(open_image, tmp_path / "ledger", HEADER) as landing,
        pytest.raises(OSError, match="no space"),
    ):
        landing.land(0, block_of(0))
