"""libguestfs' appliance as our child processes start it, and what it leaves behind where they are killed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hyperctl.activities.acceleration import Acceleration, libguestfs_environment
from hyperctl.activities.emulated_qemu import write_wrapper
from hyperctl.activities.held_folder import held_folder

FOLDER_PREFIX = "hyperctl-guestfs-"
WRAPPER = "LIBGUESTFS_HV"
"""libguestfs' variable for what it runs in qemu's place."""
SOCKETS = Path("/tmp")
"""Where libguestfs has the sockets of root's appliances, whatever TMPDIR says."""
_BOUND = Path("/proc/net/unix")


@contextmanager
def appliance_environment(acceleration: Acceleration) -> Iterator[dict[str, str]]:
    """The environment of a process that starts an appliance; when it ends, however, nothing of it is left.

    What a process of a worker that was killed has left is removed, too. The built appliance stays where it is
    kept. In emulation its qemu is run by `emulated_qemu`.
    """
    temporary = Path(tempfile.gettempdir())
    cache = os.environ.get("LIBGUESTFS_CACHEDIR") or os.environ.get("TMPDIR") or "/var/tmp"
    with held_folder(temporary, FOLDER_PREFIX) as folder:
        wrapper = write_wrapper(folder) if acceleration is Acceleration.TCG else None
        try:
            yield {
                **libguestfs_environment(acceleration),
                **({WRAPPER: str(wrapper)} if wrapper else {}),
                "TMPDIR": str(folder),
                "LIBGUESTFS_CACHEDIR": cache,
            }
        finally:
            remove_dead_sockets()


def remove_dead_sockets(folder: Path = SOCKETS) -> None:
    """Remove our appliances' folders whose socket no process has open any more.

    The kernel names a socket in /proc/net/unix from its bind to the end of its last connection.
    """
    found = list(folder.glob("libguestfs*/guestfsd.sock"))
    bound = _BOUND.read_text(errors="replace")
    for socket in found:
        with suppress(FileNotFoundError):
            if str(socket) not in bound and socket.lstat().st_uid == os.geteuid():
                shutil.rmtree(socket.parent, ignore_errors=True)
