"""libvirt's daemon: the system's own where a service manager runs it, else started here."""

import fcntl
import hashlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.dev.detached import Detached, any_running

URI = "qemu:///system"
FOLDER = Path("/run/hyperctl-dev/libvirt")
"""One for all stacks of the machine, as there is one libvirtd; gone after a reboot, as it is."""
USERS = FOLDER / "users"
CLAIM = "process-"
DAEMONS = (("virtlogd", "/usr/sbin/virtlogd"), ("libvirtd", "/usr/sbin/libvirtd"))
TIMEOUT_SECONDS = 60.0


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
    with _locked():
        _entry(user).write_text(str(user))
        _start()


def release_libvirt(user: Path) -> bool:
    """Stop what was started here once nobody uses it. Says whether anything was stopped."""
    with _locked():
        _entry(user).unlink(missing_ok=True)
        return _stop_if_unused()


@contextmanager
def libvirt_in_use() -> Iterator[str]:
    """libvirt's URI, reachable for the length of a `with`: for a process that runs no stack."""
    with _locked():
        claim = tempfile.NamedTemporaryFile(dir=USERS, prefix=CLAIM)  # noqa: SIM115
        fcntl.flock(claim, fcntl.LOCK_EX)
        _start()
    try:
        yield URI
    finally:
        with _locked():
            claim.close()
            _stop_if_unused()


def _start() -> None:
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


def _stop_if_unused() -> bool:
    if any(_is_user(entry) for entry in USERS.iterdir()):
        return False
    stopped = [Detached(FOLDER, name).stop(10) for name, _ in reversed(DAEMONS)]
    return any(stopped)


def _is_user(entry: Path) -> bool:
    """Whether the stack that an entry names runs, or the process lives that holds it locked."""
    if not entry.name.startswith(CLAIM):
        return any_running(Path(entry.read_text()))
    with entry.open() as claim:
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    entry.unlink()
    return False


@contextmanager
def _locked() -> Iterator[None]:
    """Nobody else starts or stops it meanwhile."""
    USERS.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _entry(user: Path) -> Path:
    return USERS / hashlib.sha256(str(user).encode()).hexdigest()[:16]
