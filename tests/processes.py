"""What runs on this host, for tests of what must have ended."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


def is_running(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has waited for has."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def is_worked_on(folder: Path) -> bool:
    """Whether any process has something of a folder in its command line."""
    return any(working_on(folder))


def working_on(folder: Path) -> Iterator[int]:
    """The processes that have."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if str(folder).encode() in file.read_bytes():
                yield int(file.parent.name)
