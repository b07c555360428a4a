"""Sparse images, and what their file system says."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperctl.activities.export.image import PAGE_BYTES, RawImage, data_runs, is_zero
from hyperctl.activities.export.rate import RateMeter, eta_seconds
from hyperctl.activities.export.space import check_space, shown, storage_errors
from hyperctl.workflows.errors import ErrorCode, HyperctlError


def blocks_used(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_zeroes_take_no_space(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    image = RawImage(path, 1 << 30, fresh=True)
    data = bytes(PAGE_BYTES * 3) + b"x" * PAGE_BYTES + bytes(PAGE_BYTES * 5) + b"\x01"
    image.write(1 << 20, data)
    image.zero(1 << 25, 1 << 20)
    image.sync()
    assert image.allocated_bytes == 2 * PAGE_BYTES
    image.close()
    assert path.stat().st_size == 1 << 30
    assert blocks_used(path) == 2 * PAGE_BYTES
    with path.open("rb") as file:
        file.seek(1 << 20)
        assert file.read(len(data)) == data


def test_a_new_image_is_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    old = RawImage(path, PAGE_BYTES, fresh=True)
    new = RawImage(path, PAGE_BYTES, fresh=True)
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


def test_an_image_to_go_on_with_is_taken_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"left over " * 4096)
    size = path.stat().st_size
    image = RawImage(path, size, fresh=False)
    content = bytearray(size)
    content[PAGE_BYTES : PAGE_BYTES + 4] = b"data"
    image.write(0, content[: 3 * PAGE_BYTES])
    image.zero(3 * PAGE_BYTES, size - 3 * PAGE_BYTES)
    image.close()
    assert path.read_bytes() == content


def test_what_cannot_be_gone_on_with_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with pytest.raises(FileNotFoundError):
        RawImage(path, PAGE_BYTES, fresh=False)
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match="4096"):
        RawImage(path, PAGE_BYTES, fresh=False)


@pytest.mark.parametrize("size", [0, 1, 4096, 4 << 20, (4 << 20) + 1, (9 << 20) + 77])
def test_zeroes_are_known(size: int) -> None:
    assert is_zero(bytes(size))
    for at in {0, size // 2, size - 1} if size else ():
        data = bytearray(size)
        data[at] = 1
        assert not is_zero(data)


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
