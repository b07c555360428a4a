"""What a full or failing target file system is to a person."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hyperctl.activities.staging import occupied_bytes
from hyperctl.workflows.errors import ErrorCode, HyperctlError

RESERVE_BYTES = 256 << 20
"""Left free for ledgers, logs and the file system's own needs."""


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write there."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def check_space(folder: Path, needed_bytes: int, reserve_bytes: int = RESERVE_BYTES) -> None:
    """Raise `HyperctlError` (`no_space`) where so much would not fit, before a byte is written."""
    missing = needed_bytes + reserve_bytes - free_bytes(folder)
    if missing > 0:
        raise no_space(folder, missing)


def no_space(folder: Path, missing_bytes: int, error: OSError | None = None) -> HyperctlError:
    """What is missing there, of bytes or what else a file system counts; `error` is what was refused with."""
    status = os.statvfs(folder)
    if error is not None and error.errno == errno.EDQUOT:
        missing = "a quota of the worker's user, group or project is used up"
    elif status.f_files and not status.f_favail:
        missing = "its file system has no inode left for another file"
    else:
        missing = f"{shown(missing_bytes)} are missing"
    return HyperctlError(
        ErrorCode.NO_SPACE,
        f"no space left in {folder}: {missing}",
        "Make room there, or choose another output folder (--output-dir).",
    )


@contextmanager
def storage_errors(path: Path, needed_bytes: int) -> Iterator[None]:
    """Give `OSError`s of writing a file of up to so many bytes their codes: `no_space`, `storage_failed`.

    That a programme is missing is none of the storage.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and os.sep not in str(error.filename or path):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            missing = needed_bytes - occupied_bytes(path) + RESERVE_BYTES - free_bytes(path.parent)
            raise no_space(path.parent, max(missing, 1), error) from error
        hint = "Check the target host's disk and file system (dmesg)."
        if error.errno == errno.EFBIG:
            hint = (
                "Its file system holds no file of that size: choose an output folder on XFS (--output-dir)."
            )
        raise HyperctlError(
            ErrorCode.STORAGE_FAILED,
            f"cannot use {error.filename or path}: {error.strerror or error}",
            hint,
        ) from error


def shown(size_bytes: int) -> str:
    """A size for a person, `1.5 GiB`."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
