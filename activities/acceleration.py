"""Whether this host's qemu can use KVM, found out by running a guest and not by looking at `/dev/kvm`.

A device node says little: under a nested hypervisor that refuses an MSR, qemu opens `/dev/kvm` and then
aborts. The probe therefore boots a sector of machine code that ends qemu with a code of our own.
"""

import logging
import os
import tempfile
import threading
from enum import StrEnum
from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.process import Completed, ProcessError, run
from hyperctl.workflows.status import Phase

KVM_DEVICE = Path("/dev/kvm")
QEMU = "qemu-system-x86_64"
TIMEOUT_SECONDS = 20.0

_EXIT_PORT = 0xF4
_EXIT_VALUE = 0x10
_EXIT_CODE = _EXIT_VALUE << 1 | 1
"""What qemu makes of a byte written to its isa-debug-exit device (hw/misc/debugexit.c)."""
# mov al, VALUE; out PORT, al; hlt; jmp back to the hlt
_BOOT_CODE = bytes([0xB0, _EXIT_VALUE, 0xE6, _EXIT_PORT, 0xF4, 0xEB, 0xFD])
_BOOT_SECTOR = _BOOT_CODE.ljust(510, b"\0") + b"\x55\xaa"

_probing = threading.Lock()
_found: "Acceleration | None" = None


class Acceleration(StrEnum):
    """How qemu runs a guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"
    """Software emulation: everything works, ten times slower."""

    @property
    def domain_type(self) -> str:
        """libvirt's word for it, `<domain type=...>`."""
        return "kvm" if self is Acceleration.KVM else "qemu"


def probe_acceleration(attempt: Attempt | None = None) -> Acceleration:
    """What qemu can use on this host; a guest is run once a process, at most 20 s, and the answer kept.

    An attempt's cancel ends the probe, which is then done anew by the next caller.
    """
    with _probing:
        return _probe(attempt or Attempt(Phase.PLAN, logging.getLogger("hyperctl.acceleration")))


def libguestfs_environment(acceleration: Acceleration | None = None) -> dict[str, str]:
    """The environment for a process that uses libguestfs: its own qemu, and no attempt at a broken KVM."""
    found = acceleration or probe_acceleration()
    settings = "force_tcg" if found is Acceleration.TCG else ""
    return {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": settings}


def runs_a_guest(acceleration: Acceleration, attempt: Attempt) -> bool:
    """Whether qemu runs a guest to its end with this acceleration."""
    with tempfile.NamedTemporaryFile(prefix="hyperctl-probe-", suffix=".img") as disk:
        disk.write(_BOOT_SECTOR)
        disk.flush()
        try:
            completed = _boot(acceleration, disk.name, attempt)
        except (FileNotFoundError, ProcessError) as error:
            attempt.log.warning("a guest does not run with %s: %s", acceleration, error)
            return False
    if completed.returncode != _EXIT_CODE:
        attempt.log.warning("a guest does not run with %s: %s", acceleration, completed.complaint)
        return False
    return True


def _probe(attempt: Attempt) -> Acceleration:
    global _found
    if _found is None:
        usable = os.access(KVM_DEVICE, os.R_OK | os.W_OK) and runs_a_guest(Acceleration.KVM, attempt)
        _found = Acceleration.KVM if usable else Acceleration.TCG
        attempt.log.info("acceleration: %s", _found)
    return _found


def _boot(acceleration: Acceleration, disk: str, attempt: Attempt) -> Completed:
    processor = "host" if acceleration is Acceleration.KVM else "max"
    argv = [QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-m", "64"]
    argv += ["-machine", "pc", "-accel", str(acceleration), "-cpu", processor]
    argv += ["-drive", f"file={disk},format=raw,if=ide,snapshot=on"]
    argv += ["-device", f"isa-debug-exit,iobase={_EXIT_PORT:#x},iosize=1"]
    return run(argv, attempt, timeout_seconds=TIMEOUT_SECONDS, check=False)
