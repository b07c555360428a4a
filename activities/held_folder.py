"""Folders that are ours as long as this process lives: held by a lock on themselves, which goes with it.

One that was left behind by a kill is known as such by whoever makes the next, and removed.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder that only we may enter, for the length of a `with`."""
    folder, held = new_held_folder(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def new_held_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    """A new folder and the descriptor that holds it; both are the caller's to put away."""
    remove_folders_left(parent, prefix)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        # Until it is locked anybody who makes another may take it for left over, and remove it.
        try:
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(held, fcntl.LOCK_EX)
        if folder.exists():
            return folder, held
        os.close(held)


def remove_folders_left(parent: Path, prefix: str) -> None:
    """Remove the folders of processes of this user that were killed."""
    with os.scandir(parent) as entries:
        found = [Path(entry) for entry in entries if entry.name.startswith(prefix)]
    for folder in found:
        try:
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # another user's, or gone
        try:
            if os.fstat(held).st_uid == os.geteuid():
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue  # in use
        finally:
            os.close(held)
