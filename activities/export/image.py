"""A raw disk image, written sparsely: what is zero is never written and takes no space."""

import os
from collections.abc import Iterator
from pathlib import Path

PAGE_BYTES = 4096
"""What is zero is looked for in pages of this size, the block size of the usual file systems."""
_ZERO_PAGE = bytes(PAGE_BYTES)


class SparseImage:
    """A new image of a disk. Offsets and sizes in bytes; errors are `OSError`."""

    def __init__(self, path: Path, capacity_bytes: int) -> None:
        # A new inode: what a left-over thread of an earlier attempt still writes goes to the old one.
        path.unlink(missing_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(self._descriptor, capacity_bytes)
        except BaseException:
            os.close(self._descriptor)
            raise

    def write_sparse(self, offset: int, data: bytes | bytearray) -> int:
        """Write the pages of data that are not zero, where only zeroes are yet. Returns the bytes written."""
        written = 0
        view = memoryview(data)
        for start, end in data_runs(data):
            written += self._write(offset + start, view[start:end])
        return written

    def write(self, offset: int, data: bytes | bytearray) -> int:
        """Write all of data, zeroes too, over whatever is there."""
        return self._write(offset, memoryview(data))

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def sync(self) -> None:
        """Return only when what was written would survive a power cut."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(self, offset: int, view: memoryview) -> int:
        total = len(view)
        while view:
            done = os.pwrite(self._descriptor, view, offset)
            offset += done
            view = view[done:]
        return total


def data_runs(data: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """The runs of pages that are not all zero, as start and end."""
    start = -1
    size = len(data)
    for at in range(0, size, PAGE_BYTES):
        page = data[at : at + PAGE_BYTES]
        if page == _ZERO_PAGE or (len(page) < PAGE_BYTES and not any(page)):
            if start >= 0:
                yield start, at
                start = -1
        elif start < 0:
            start = at
    if start >= 0:
        yield start, size
