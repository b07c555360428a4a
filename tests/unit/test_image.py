"""Sparse images and the landing that fills them."""

import hashlib
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperctl.activities.export.image import PAGE_BYTES, SparseImage, data_runs
from hyperctl.activities.export.landing import Landing
from hyperctl.activities.export.ledger import BLOCK_BYTES, LedgerHeader, read_ledger
from hyperctl.activities.export.rate import RateMeter, eta_seconds
from hyperctl.activities.export.space import check_space, shown, storage_errors
from hyperctl.workflows.errors import ErrorCode, HyperctlError


def blocks_used(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_zeroes_take_no_space(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    image = SparseImage(path, 1 << 30)
    data = bytes(PAGE_BYTES * 3) + b"x" * PAGE_BYTES + bytes(PAGE_BYTES * 5) + b"\x01"
    assert image.write_sparse(1 << 20, data) == PAGE_BYTES + 1
    image.sync()
    image.close()
    assert path.stat().st_size == 1 << 30
    assert blocks_used(path) == 2 * PAGE_BYTES
    with path.open("rb") as file:
        file.seek(1 << 20)
        assert file.read(len(data)) == data


def test_a_new_image_is_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    old = SparseImage(path, PAGE_BYTES)
    new = SparseImage(path, PAGE_BYTES)
    old.write(0, b"late")
    assert new.read(0, 4) == bytes(4), "a left-over writer writes into the old file"
    old.close()
    new.close()


@given(st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 5000)), max_size=8), st.integers(1, 50_000))
def test_runs_cover_exactly_the_pages_with_data(marks: list[tuple[int, int]], size: int) -> None:
    data = bytearray(size)
    for start, length in marks:
        data[start : start + length] = b"\xff" * len(data[start : start + length])
    covered = bytearray(size)
    for start, end in data_runs(data):
        assert start % PAGE_BYTES == 0
        covered[start:end] = b"\x01" * (end - start)
    for page in range(0, size, PAGE_BYTES):
        has_data = any(data[page : page + PAGE_BYTES])
        assert all(bool(mark) == has_data for mark in covered[page : page + PAGE_BYTES])


def disk_of(capacity: int, seed: int) -> bytes:
    """Noise in some grains of 64 KiB, zeroes in the others."""
    source = random.Random(seed)
    grains = [
        source.randbytes(65536) if source.random() < 0.2 else bytes(65536)
        for _ in range(-(-capacity // 65536))
    ]
    return b"".join(grains)[:capacity]


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled", "twice"])
def test_pieces_land_right_in_any_order(tmp_path: Path, order: str) -> None:
    capacity = 3 * BLOCK_BYTES + 65536 + 512
    content = disk_of(capacity, seed=1)
    pieces = [(at, content[at : at + 65536]) for at in range(0, capacity, 65536)]
    pieces = [(at, piece) for at, piece in pieces if any(piece)]
    if order == "descending":
        pieces.reverse()
    elif order == "shuffled":
        random.Random(2).shuffle(pieces)
    elif order == "twice":
        pieces = [(at, b"\xaa" * len(piece)) for at, piece in pieces] + pieces
    image, ledger = tmp_path / "disk.raw", tmp_path / "disk.ledger"
    with Landing(image, ledger, LedgerHeader(capacity, "test")) as landing:
        for at, piece in pieces:
            landing.write(at, piece)
        landing.complete()
        finish = landing.finish(100, "")

    assert image.read_bytes() == content
    read = read_ledger(ledger)
    assert read.finish == finish
    assert finish.root_digest == root_of(content), "the order leaves no trace"
    assert finish.allocated_bytes <= capacity


def root_of(content: bytes) -> str:
    root = hashlib.sha256()
    for offset in range(0, len(content), BLOCK_BYTES):
        block = content[offset : offset + BLOCK_BYTES]
        root.update(f"{offset} {len(block)} {hashlib.sha256(block).hexdigest()}\n".encode())
    return root.hexdigest()


def test_a_piece_across_blocks_lands_right(tmp_path: Path) -> None:
    capacity = 2 * BLOCK_BYTES
    image = tmp_path / "disk.raw"
    piece = random.Random(3).randbytes(BLOCK_BYTES)
    with Landing(image, tmp_path / "ledger", LedgerHeader(capacity, "test")) as landing:
        landing.write(BLOCK_BYTES // 2, piece)
        landing.complete()
    half = bytes(BLOCK_BYTES // 2)
    assert image.read_bytes() == half + piece + half


def test_a_piece_outside_of_the_disk_is_refused(tmp_path: Path) -> None:
    with Landing(tmp_path / "disk.raw", tmp_path / "ledger", LedgerHeader(1 << 20, "test")) as landing:
        for offset in (-1, (1 << 20) - 1):
            with pytest.raises(ValueError, match="outside"):
                landing.write(offset, b"ab")


def test_an_old_ledger_never_vouches_for_a_new_image(tmp_path: Path) -> None:
    image, ledger = tmp_path / "disk.raw", tmp_path / "disk.ledger"
    header = LedgerHeader(BLOCK_BYTES, "test")
    with Landing(image, ledger, header) as landing:
        landing.complete()
        landing.finish(0, "")
    assert read_ledger(ledger).finish is not None
    with Landing(image, ledger, header):
        assert read_ledger(ledger).finish is None


def test_a_full_disk_says_how_much_is_missing_and_where(tmp_path: Path) -> None:
    with pytest.raises(HyperctlError) as caught:
        check_space(tmp_path, 1 << 60)
    assert caught.value.code is ErrorCode.NO_SPACE
    assert str(tmp_path) in str(caught.value)
    assert "TiB are missing" in str(caught.value)
    check_space(tmp_path, 0)

    def fill() -> None:
        with storage_errors(tmp_path / "disk.raw", 1 << 60), open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(HyperctlError, match="are missing") as caught:
        fill()
    assert caught.value.code is ErrorCode.NO_SPACE


def test_another_storage_error_is_no_lack_of_space(tmp_path: Path) -> None:
    with pytest.raises(HyperctlError) as caught, storage_errors(tmp_path / "disk.raw", 1):
        os.open(tmp_path / "no such folder" / "disk.raw", os.O_RDWR | os.O_CREAT)
    assert caught.value.code is ErrorCode.STORAGE_FAILED


def test_sizes_are_readable() -> None:
    assert [shown(size) for size in (0, 1023, 1536, 5 << 30, 3 << 40)] == [
        "0 bytes",
        "1023 bytes",
        "1.5 KiB",
        "5.0 GiB",
        "3.0 TiB",
    ]


def test_a_rate_is_of_the_last_ten_seconds() -> None:
    meter = RateMeter()
    assert meter.sample(0.0, 0) == 0.0
    assert meter.sample(1.0, 100) == 100.0
    for second in range(2, 30):
        rate = meter.sample(float(second), 100 + (second - 1) * 10)
    assert rate == 10.0
    assert eta_seconds(50, rate) == 5.0
    assert eta_seconds(50, 0.0) is None
