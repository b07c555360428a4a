"""libvirt's daemon: the system's own where a service manager runs it, else started here."""

import hashlib
import os
import subprocess
import time
from pathlib import Path

from deploy.dev.detached import Detached, any_running

URI = "qemu:///system"
FOLDER = Path("/run/hyperctl-dev/libvirt")
"""One for all stacks of the machine, as there is one libvirtd; gone after a reboot, as it is."""
DAEMONS = (("virtlogd", "/usr/sbin/virtlogd"), ("libvirtd", "/usr/sbin/libvirtd"))
TIMEOUT_SECONDS = 30.0


class LibvirtUnreachable(Exception):
    """The daemon does not answer; the message has its reason."""


def virsh(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run virsh on the system's libvirt, whatever comes of it."""
    argv = ["virsh", "-c", URI, *arguments]
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )


def ensure_libvirt(user: Path) -> None:
    """Make libvirt reachable, for as long as a stack in the folder `user` runs."""
    entry = _entry(user)
    entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    entry.write_text(str(user))
    if virsh("list").returncode == 0:
        return
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "start", "libvirtd"], check=False, capture_output=True, timeout=60)
    else:
        for name, binary in DAEMONS:
            daemon = Detached(FOLDER, name)
            if daemon.pid is None:
                daemon.start([binary], {**os.environ, "LC_ALL": "C.UTF-8"})
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (answer := virsh("list")).returncode != 0:
        if time.monotonic() > deadline:
            raise LibvirtUnreachable(f"libvirt is not reachable: {answer.stderr.strip()}")
        time.sleep(0.2)


def release_libvirt(user: Path) -> bool:
    """Stop what was started here once no running stack uses it. Says whether anything was stopped."""
    _entry(user).unlink(missing_ok=True)
    others = [Path(file.read_text()) for file in (FOLDER / "users").glob("*")]
    if any(any_running(folder) for folder in others):
        return False
    stopped = [Detached(FOLDER, name).stop(10) for name, _ in reversed(DAEMONS)]
    return any(stopped)


def _entry(user: Path) -> Path:
    return FOLDER / "users" / hashlib.sha256(str(user).encode()).hexdigest()[:16]
