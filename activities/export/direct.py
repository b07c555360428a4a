"""Files read and written past the page cache, where file system, place and memory allow it (O_DIRECT).

What lands once and is read once has no use for the cache: copying into it costs more processor time than
all else that is done with a byte, and takes the memory of what else runs on the host.
"""

import errno
import mmap
import os
from pathlib import Path

ALIGNED_BYTES = 4096
"""What places and sizes are multiples of, and memory begins at: no sector in use is larger."""
LEAST_BYTES = 64 << 10
"""Of smaller ones many are better collected by the kernel."""


def aligned_buffer(size: int) -> mmap.mmap:
    """Memory of so many bytes, zeroes, that begins on a page."""
    return mmap.mmap(-1, size)


def is_direct(path: Path) -> bool:
    """Whether the file can be opened so."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class DirectFile:
    """An open file, whose descriptor stays the caller's. For several threads; errors are `OSError`.

    What cannot pass by the cache goes through it: the kernel keeps both views of the file the same.
    """

    def __init__(self, descriptor: int, flags: int) -> None:
        """`flags` say whether it is read or written, as `os.open` has them."""
        self._cached = descriptor
        try:
            # Of the same open file, whatever stands at its path by now.
            self._direct = os.open(f"/proc/self/fd/{descriptor}", flags | os.O_DIRECT | os.O_CLOEXEC)
        except OSError:
            self._direct = -1  # a file system without it

    def write(self, view: memoryview, offset: int) -> int:
        """Write some of it, at least a byte; the number of bytes."""
        size = len(view) - len(view) % ALIGNED_BYTES
        if self._passes(size, offset):
            try:
                return os.pwrite(self._direct, view[:size], offset)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
        return os.pwrite(self._cached, view, offset)

    def readinto(self, view: memoryview, offset: int) -> int:
        """Read some of it; the number of bytes, 0 only at the end of the file."""
        size = len(view) - len(view) % ALIGNED_BYTES
        if self._passes(size, offset):
            try:
                return os.preadv(self._direct, [view[:size]], offset)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
        return os.preadv(self._cached, [view], offset)

    def close(self) -> None:
        if self._direct >= 0:
            os.close(self._direct)
            self._direct = -1

    def _passes(self, size: int, offset: int) -> bool:
        return self._direct >= 0 and size >= LEAST_BYTES and not offset % ALIGNED_BYTES
