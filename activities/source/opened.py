"""Opening files that others put there: regular files only, never through a symbolic link.

What is looked at and what is read later must be the same file. Everything here therefore works on an open
descriptor, and remembers the file's identity; `check_unchanged` compares it again after another programme
has opened the file by its name. Between the two, whoever may write to the folder can still exchange the file
for an instant; the digest over all that was read, and the images' own checks, are what then remains. Sources
belong into a folder where only trusted accounts write.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hyperctl.workflows.errors import ErrorCode, HyperctlError

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFDIR: "a folder",
    stat.S_IFSOCK: "a socket",
}


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """A file as it was when it was looked at."""

    path: Path
    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int
    allocated_bytes: int = field(compare=False)
    """What it takes of its file system, less than its size where it is sparse.

    A file system changes it by itself, minutes after the last write.
    """


@dataclass(frozen=True, slots=True)
class Opened:
    """A regular file, open for reading."""

    descriptor: int
    identity: FileIdentity

    @property
    def size_bytes(self) -> int:
        return self.identity.size_bytes

    def read_at(self, offset: int, size: int) -> bytes:
        """So many bytes from there, fewer only at the file's end. Raises `HyperctlError`."""
        parts = []
        while size > 0:
            try:
                data = os.pread(self.descriptor, size, offset)
            except OSError as error:
                raise read_failed(self.identity.path, offset, error) from error
            if not data:
                break
            parts.append(data)
            offset += len(data)
            size -= len(data)
        return b"".join(parts)


@contextmanager
def open_regular(path: Path) -> Iterator[Opened]:
    """Open a file for reading. Raises `HyperctlError` for what is no readable, regular file, or is empty."""
    try:
        # O_NONBLOCK: opening a FIFO would wait for its writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except OSError as error:
        raise _refusal(path, error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
            raise HyperctlError(
                ErrorCode.SOURCE_UNSAFE, f"{path} is {kind}", "A source is made of regular files only."
            )
        if status.st_size == 0:
            raise HyperctlError(ErrorCode.SOURCE_INVALID, f"{path} is empty", "Fetch it again, or remove it.")
        yield Opened(descriptor, _identity(path, status))
    finally:
        os.close(descriptor)


@contextmanager
def open_same(identity: FileIdentity) -> Iterator[Opened]:
    """Open a file again. Raises `HyperctlError` (`source_invalid`) where it was exchanged or changed."""
    with open_regular(identity.path) as opened:
        if opened.identity != identity:
            raise HyperctlError(
                ErrorCode.SOURCE_INVALID,
                f"{identity.path} was changed while it was being read",
                "Leave the source alone until the migration has ended, then try again.",
            )
        yield opened


def read_failed(path: Path, offset_bytes: int, error: OSError) -> HyperctlError:
    """What to say where the storage that the source lies on does not give its bytes."""
    return HyperctlError(
        ErrorCode.STORAGE_FAILED,
        f"{path} cannot be read at {offset_bytes}: {error.strerror}",
        "The storage that the source lies on fails: look at it, or fetch the file again.",
    )


def check_unchanged(files: Iterable[FileIdentity]) -> None:
    """Raise `HyperctlError` (`source_invalid`) where one of them is another by now, or was written to."""
    for identity in files:
        with open_same(identity):
            pass


def _identity(path: Path, status: os.stat_result) -> FileIdentity:
    return FileIdentity(
        path=path,
        device=status.st_dev,
        inode=status.st_ino,
        size_bytes=status.st_size,
        modified_ns=status.st_mtime_ns,
        changed_ns=status.st_ctime_ns,
        allocated_bytes=min(status.st_blocks * 512, status.st_size),
    )


def _refusal(path: Path, error: OSError) -> HyperctlError:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return HyperctlError(
                ErrorCode.SOURCE_NOT_FOUND,
                f"{path} does not exist on this host",
                "The path is one of the target host, where the worker runs.",
            )
        case errno.ELOOP:
            return HyperctlError(
                ErrorCode.SOURCE_UNSAFE,
                f"{path} is a symbolic link",
                "Name the file that it points to; a package must not hold links.",
            )
        case errno.EACCES | errno.EPERM:
            return HyperctlError(
                ErrorCode.PERMISSION_DENIED,
                f"{path} cannot be read by the worker",
                "Let the account that the worker runs as read it.",
            )
        case errno.ENXIO:
            return HyperctlError(
                ErrorCode.SOURCE_UNSAFE, f"{path} is a socket", "A source is made of regular files only."
            )
        case _:
            return HyperctlError(ErrorCode.SOURCE_INVALID, f"{path} cannot be opened: {error.strerror}")
