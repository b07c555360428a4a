"""What lies under the overlays of a conversion: an image on this host, or a disk elsewhere, shown by NBD.

An address is a file's path or the URI of an NBD export on a Unix socket, `nbd+unix:///?socket=PATH`, as
the NBD project's doc/uri.md has it and qemu takes it for a backing file.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from hyperctl.workflows.disk import ConvertedDisk, LandedDisk

_SCHEME = "nbd+unix"


@dataclass(frozen=True, slots=True)
class BaseDisk:
    """One disk of a guest as it came; nobody writes to it."""

    index: int
    """Counts from 1, in the guest's order."""
    address: str
    format: str
    capacity_bytes: int

    @classmethod
    def landed(cls, disk: LandedDisk) -> "BaseDisk":
        return cls(disk.index, disk.path, disk.format, disk.capacity_bytes)


def nbd_address(socket: Path) -> str:
    """The address of the default export of a server on a Unix socket."""
    return f"{_SCHEME}:///?socket={quote(str(socket))}"


def nbd_socket(address: str) -> str:
    """The socket that an address names; empty for a file."""
    parts = urlsplit(address)
    return parse_qs(parts.query).get("socket", [""])[0] if parts.scheme == _SCHEME else ""


def state_of_base(address: str) -> str:
    """The same until somebody writes to a base, removes it or puts another in its place; empty for what is
    elsewhere."""
    if nbd_socket(address):
        return ""
    try:
        status = Path(address).stat()
    except FileNotFoundError:
        return "nothing"
    return f"{status.st_size} bytes of {status.st_mtime_ns}"


def files_of(disks: Iterable[ConvertedDisk]) -> Iterator[Path]:
    """The image files of converted disks, overlays and, where they are files, bases."""
    for disk in disks:
        if not nbd_socket(disk.base):
            yield Path(disk.base)
        yield Path(disk.overlay)
