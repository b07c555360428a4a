"""Files past the page cache: the same bytes in every case, and nothing left in the cache where it can be."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperctl.activities.export.direct import ALIGNED_BYTES, DirectFile, aligned_buffer, is_direct
from hyperctl.activities.export.image import RawImage

SIZE = (1 << 20) + 512


@pytest.fixture(params=["disk", "memory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path if request.param == "disk" else Path("/dev/shm")
    path = folder / f"hyperctl-direct-{os.getpid()}"
    yield path
    path.unlink(missing_ok=True)


def cached_bytes(path: Path) -> int:
    told = subprocess.run(
        ["fincore", "--bytes", "--noheadings", "--output", "RES", path],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(told.stdout)


def test_what_lands_does_not_stay_in_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    image = RawImage(path, SIZE, fresh=True)
    if not is_direct(path):
        pytest.skip("the file system of the temporary folder has no O_DIRECT")
    data = aligned_buffer(SIZE)
    data[:] = random.Random(1).randbytes(SIZE)
    image.write(0, data)
    image.sync()
    image.close()

    assert cached_bytes(path) <= ALIGNED_BYTES, "but for the part of a page at the end"
    assert path.read_bytes() == data[:]


@pytest.mark.parametrize("at", [0, 512, ALIGNED_BYTES])
@pytest.mark.parametrize("memory_at", [0, 16])
@pytest.mark.parametrize("size", [100, 64 << 10, (64 << 10) + 512, 1 << 18])
def test_every_place_size_and_memory_will_do(path: Path, at: int, memory_at: int, size: int) -> None:
    content = random.Random(at + memory_at + size).randbytes(size)
    memory = aligned_buffer(memory_at + size)
    memory[memory_at:] = content
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.ftruncate(descriptor, SIZE)
    file = DirectFile(descriptor, os.O_RDWR)
    view = memoryview(memory)[memory_at:]
    done = 0
    while done < size:
        done += file.write(view[done:], at + done)
    assert path.read_bytes() == (bytes(at) + content).ljust(SIZE, b"\0")

    view[:] = bytes(size)
    done = 0
    while done < size:
        done += file.readinto(view[done:], at + done)
    assert view.tobytes() == content
    assert file.readinto(memoryview(aligned_buffer(ALIGNED_BYTES)), SIZE) == 0
    file.close()
    os.close(descriptor)
