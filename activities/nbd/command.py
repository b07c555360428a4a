"""The command lines of NBD servers. Pure; secrets are named by the files that hold them.

nbdkit's options are those of nbdkit(1), nbdkit-vddk-plugin(1) and its filters' manual pages, of 1.32 and
later; qemu-nbd's of qemu-nbd(8).
"""

from dataclasses import dataclass
from pathlib import Path

from hyperctl.activities.nbd.server import Place

RETRIES = 5
"""Of one operation by nbdkit itself, which opens its source anew; 1, 2, 4, 8 and 16 seconds in between."""
THREADS = 16
"""Requests that nbdkit works on at a time."""


@dataclass(frozen=True, slots=True)
class VddkDisk:
    """A disk as VMware's library finds it."""

    library_dir: Path
    server: str
    port: int
    user: str
    password_file: Path
    thumbprint: str
    """SHA-1 of the server's certificate, `AB:CD:...`."""
    machine: str
    """The managed object's reference, `vm-42`."""
    file: str
    """The datastore path, `[datastore1] vm/vm.vmdk`."""
    snapshot: str = ""
    """Its reference where the disk is read as of a snapshot."""
    transports: str = ""
    """As `san:hotadd:nbdssl`; empty is the library's own choice."""


def vddk_command(place: Place, disk: VddkDisk) -> tuple[str, ...]:
    """Serve a disk of a vCenter by VMware's library, read-only."""
    return (
        *nbdkit(place, "cacheextents", "retry"),
        "vddk",
        f"libdir={disk.library_dir}",
        f"server={disk.server}",
        f"port={disk.port}",
        f"user={disk.user}",
        f"password=+{disk.password_file}",
        f"thumbprint={disk.thumbprint}",
        f"vm=moref={disk.machine}",
        *([f"snapshot={disk.snapshot}"] if disk.snapshot else []),
        *([f"transports={disk.transports}"] if disk.transports else []),
        f"file={disk.file}",
        *_RETRY,
    )


def image_command(place: Place, path: Path, image_format: str, *, direct: bool = False) -> tuple[str, ...]:
    """Serve an image of any format that qemu knows, read-only, to any number of clients at a time.

    `direct`: past the page cache, which its file system must allow.
    """
    cache = "none" if direct else "writeback"
    return qemu_nbd(place, f"--cache={cache}", f"--format={image_format}", str(path))


def qemu_nbd(place: Place, *image: str) -> tuple[str, ...]:
    """Serve an image, named with all that qemu must know to open it, in the same way."""
    return (
        "qemu-nbd",
        "--read-only",
        "--persistent",
        "--shared=0",
        f"--socket={place.socket}",
        f"--pid-file={place.pid_file}",
        *image,
    )


_RETRY = (f"retries={RETRIES}", "retry-delay=1", "retry-exponential=yes", "retry-readonly=yes")


def nbdkit(place: Place, *filters: str) -> tuple[str, ...]:
    """Serve read-only what the plugin offers that is to follow with its options."""
    return (
        "nbdkit",
        "--foreground",
        "--readonly",
        f"--threads={THREADS}",
        f"--unix={place.socket}",
        f"--pidfile={place.pid_file}",
        *(f"--filter={name}" for name in filters),
    )
