"""A qcow2 image that a disk lands in: there is no second pass, and none of its own rules are written here.

qemu makes the image with every cluster in its place already (`preallocation=metadata`) and tells where in the
file each lies; what lands is written there as it is into a raw image. The tables never change again: cut off
at any moment, the image is sound, and the clusters that nothing was written into are holes of the file.
"""

import errno
import json
import os
from bisect import bisect_right
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.image import RawImage
from hyperctl.activities.export.ledger import Content
from hyperctl.activities.image_file import as_storage_error, image_info, wait_until_free
from hyperctl.activities.process import ProcessError, run
from hyperctl.workflows.errors import ErrorCode, HyperctlError

FORMAT = "qcow2"
CLUSTER_BYTES = 64 << 10
"""qemu's own choice."""
CREATE_TIMEOUT_SECONDS = 120.0
CREATE_SECONDS_PER_TIB = 900.0
"""On a slow disk: some 160 MiB are written for each."""
MAP_TIMEOUT_SECONDS = 6 * 3600.0


class Stretch(NamedTuple):
    """A part of the disk that lies in one piece in the file."""

    start: int
    end: int
    place: int
    """Where in the file its first byte is."""


class Qcow2Image:
    """A qcow2 image to be filled; see `DiskImage`."""

    def __init__(self, path: Path, capacity_bytes: int, attempt: Attempt, *, fresh: bool) -> None:
        """A fresh image, or one to go on with, of which nothing but its tables is taken for granted.

        Raises `FileNotFoundError` where there is nothing to go on with, `ValueError` where it is another one.
        """
        if fresh:
            _create(path, capacity_bytes, attempt)
        elif not path.exists():
            raise FileNotFoundError(errno.ENOENT, "no such image", str(path))
        with as_storage_error(path):
            if not fresh:
                wait_until_free(path, FORMAT, attempt)
                info = image_info(path, FORMAT, attempt)
                if info.virtual_bytes != capacity_bytes or not info.stands_alone:
                    raise ValueError(f"{path} is not an image of its own of {capacity_bytes} bytes")
            self._stretches = _stretches(path, capacity_bytes, attempt)
        self._file = RawImage(path, path.stat().st_size, fresh=False, is_empty=fresh)

    def write(self, offset: int, data: Content) -> None:
        at = 0
        for place, size in self._places(offset, len(data)):
            self._file.write(place, data if size == len(data) else data[at : at + size])
            at += size

    def zero(self, offset: int, length: int) -> None:
        for place, size in self._places(offset, length):
            self._file.zero(place, size)

    def expect_rewrites(self) -> None:
        self._file.expect_rewrites()

    def read(self, offset: int, size: int) -> bytes:
        return b"".join(self._file.read(place, part) for place, part in self._places(offset, size))

    def sync(self) -> None:
        self._file.sync()

    @property
    def allocated_bytes(self) -> int:
        return self._file.allocated_bytes

    def close(self) -> None:
        self._file.close()

    def _places(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Where in the file a part of the disk lies, in pieces: each one's offset and size."""
        end = offset + length
        at = bisect_right(self._stretches, offset, key=attrgetter("start")) - 1
        while offset < end:
            start, stop, place = self._stretches[at]
            size = min(end, stop) - offset
            yield place + offset - start, size
            offset += size
            at += 1


def table_bytes(capacity_bytes: int) -> int:
    """What the image of a disk takes before anything has landed: of each cluster an address and a counter."""
    return -(-capacity_bytes // CLUSTER_BYTES) * (8 + 2)


def _create(path: Path, capacity_bytes: int, attempt: Attempt) -> None:
    if capacity_bytes % 512:
        raise HyperctlError(
            ErrorCode.IMAGE_INVALID,
            f"a qcow2 image has whole sectors of 512 bytes, this disk has {capacity_bytes} bytes",
            "Take it as raw (--format raw).",
        )
    # A new inode: what a left-over thread of an earlier attempt still writes goes to the old one.
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    options = f"cluster_size={CLUSTER_BYTES},lazy_refcounts=off,preallocation=metadata"
    argv = ["qemu-img", "create", "-q", "-f", FORMAT, "-o", options, str(path), str(capacity_bytes)]
    timeout_seconds = CREATE_TIMEOUT_SECONDS + CREATE_SECONDS_PER_TIB * (capacity_bytes / (1 << 40))
    try:
        os.truncate(descriptor, capacity_bytes)  # a file system that holds no such file says so itself
        run(argv, attempt, timeout_seconds=timeout_seconds)
        os.fsync(descriptor)
    except ProcessError as error:
        status = os.statvfs(path.parent)
        has_room = status.f_bavail * status.f_frsize > table_bytes(capacity_bytes) + (1 << 20)
        raise OSError(errno.EIO if has_room else errno.ENOSPC, str(error), str(path)) from error
    finally:
        os.close(descriptor)


def _stretches(path: Path, capacity_bytes: int, attempt: Attempt) -> list[Stretch]:
    """Where each part of the disk lies in the file. Raises `ValueError` where a part has no place in it."""
    found: list[Stretch] = []

    def take(line: str) -> None:
        # One array, an element a line.
        text = line.strip().lstrip("[").rstrip("],")
        if not text:
            return
        entry = json.loads(text)
        start, length, place = entry["start"], entry["length"], entry.get("offset")
        if place is None or entry.get("depth") or start != (found[-1].end if found else 0):
            raise ValueError(f"{path} has no place for what is at {start} of the disk")
        if found and found[-1].place + start - found[-1].start == place:
            found[-1] = found[-1]._replace(end=start + length)
        else:
            found.append(Stretch(start, start + length, place))

    argv = ["qemu-img", "map", "--force-share", "--output=json", "-f", FORMAT, str(path)]
    try:
        run(argv, attempt, timeout_seconds=MAP_TIMEOUT_SECONDS, on_line=take)
    except ProcessError as error:
        if error.completed.returncode < 0:
            raise
        raise ValueError(f"{path} is damaged: {error}") from error
    if not found or found[-1].end != capacity_bytes:
        raise ValueError(f"{path} is damaged: it has no place for the whole disk")
    return found
