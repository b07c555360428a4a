"""What `hyperctl doctor` asks of this machine as a target host; plugged in by entry point."""

import importlib.util
import logging
import os
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path

from pydantic import ValidationError

from hyperctl.activities.acceleration import Acceleration, probe_acceleration
from hyperctl.activities.appliance import WRAPPER, appliance_environment
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.convert.windows.parts import WindowsParts
from hyperctl.activities.output import nearest
from hyperctl.activities.process import ProcessError, run
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.target.firmware import find_firmware
from hyperctl.workflows.doctor import Check, CheckState
from hyperctl.workflows.errors import HyperctlError
from hyperctl.workflows.hardware import VIRTIO
from hyperctl.workflows.status import Phase

PROGRAMMES = {"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "qemu-nbd": "qemu-utils"}
"""And Debian's packages that they are in."""
LAUNCH = (
    "import guestfs; g = guestfs.GuestFS(python_return_dict=True); g.add_drive_scratch(1 << 20); g.launch()"
)
LAUNCH_TIMEOUT_SECONDS = 180.0
LITTLE_SPACE_BYTES = 20 * 2**30


def host_checks() -> list[Check]:
    """Every check of this host, by doing what a migration would do. Takes seconds, a minute without KVM."""
    try:
        settings = HostSettings()
    except ValidationError as error:
        problems = "; ".join(
            f"HYPERCTL_{'_'.join(map(str, p['loc'])).upper()}: {p['msg']}" for p in error.errors()
        )
        return [Check("worker settings", CheckState.FAILED, problems, "Correct the environment.")]
    log = logging.getLogger("hyperctl.doctor")
    log.propagate = False  # a check says itself what is wrong
    log.addHandler(logging.NullHandler())
    running = Attempt(Phase.PLAN, log)
    programmes = [_programme(name, package) for name, package in PROGRAMMES.items()]
    checks = [*programmes]
    if shutil.which("qemu-system-x86_64"):
        acceleration = probe_acceleration(running)
        checks += [_acceleration(acceleration), _libguestfs(acceleration, running)]
    return [
        *checks,
        _firmware(),
        _windows(WindowsParts.of(settings)),
        _libvirt(settings.libvirt_uri),
        _space(Path(settings.output_dir)),
        _credentials(settings),
    ]


def _programme(name: str, package: str) -> Check:
    found = shutil.which(name)
    if found:
        return Check(name, CheckState.OK, found)
    return Check(name, CheckState.FAILED, "not installed", f"Install it: apt install {package}")


def _acceleration(found: Acceleration) -> Check:
    if found is Acceleration.KVM:
        return Check("acceleration", CheckState.OK, "KVM runs guests")
    if not Path("/dev/kvm").exists():
        why, hint = "there is no /dev/kvm", "Enable virtualization in the firmware (or nested, in a guest)."
    elif not os.access("/dev/kvm", os.R_OK | os.W_OK):
        why, hint = "/dev/kvm is not ours to use", "Run as root or as a member of the group kvm."
    else:
        why, hint = (
            "/dev/kvm is there and does not run a guest",
            "Look at the (nested) hypervisor's settings.",
        )
    return Check("acceleration", CheckState.WARNING, f"software emulation, ten times slower: {why}", hint)


def _libguestfs(acceleration: Acceleration, running: Attempt) -> Check:
    name = "libguestfs"
    if importlib.util.find_spec("guestfs") is None:
        hint = "Install it: apt install python3-guestfs libguestfs-tools"
        return Check(name, CheckState.FAILED, "not there for this Python", hint)
    try:
        with appliance_environment(acceleration) as environment:
            started = time.monotonic()
            run(
                [sys.executable, "-c", LAUNCH],
                running,
                timeout_seconds=LAUNCH_TIMEOUT_SECONDS,
                environment=environment,
            )
            duration = time.monotonic() - started
    except ProcessError as error:
        why = error.completed.complaint
        return Check(
            name, CheckState.FAILED, f"its appliance does not start: {why}", "Try: libguestfs-test-tool"
        )
    detail = f"its appliance starts in {duration:.0f} s"
    if acceleration is Acceleration.TCG and WRAPPER not in environment:
        detail += f"; faster, were programmes allowed in {tempfile.gettempdir()} (TMPDIR)"
    return Check(name, CheckState.OK, detail)


def _firmware() -> Check:
    found = find_firmware(secure_boot=False)
    if found:
        return Check("UEFI firmware", CheckState.OK, found.code)
    return Check(
        "UEFI firmware",
        CheckState.WARNING,
        "none; UEFI guests cannot be taken",
        "Install it: apt install ovmf",
    )


def _windows(parts: WindowsParts) -> Check:
    """Nobody needs it who has Linux guests only."""
    name, missing = "Windows guests", parts.missing(VIRTIO)
    if not missing:
        return Check(name, CheckState.OK, f"drivers in {parts.virtio_win}")
    lacks = "; ".join(one.message for one in missing)
    return Check(name, CheckState.WARNING, lacks, " ".join(one.hint for one in missing))


def _libvirt(uri: str) -> Check:
    if importlib.util.find_spec("libvirt") is None:
        return Check("libvirt", CheckState.FAILED, "not there for this Python", "apt install python3-libvirt")
    from hyperctl.activities.target.libvirt_host import connect, find_network  # only where libvirt is

    try:
        with connect(uri) as connection:
            number = connection.getLibVersion()
            version = f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
            network = find_network(connection, "default")
            active = network is not None and bool(network.isActive())
    except HyperctlError as error:
        return Check("libvirt", CheckState.FAILED, error.failure.message, error.failure.hint)
    if active:
        return Check("libvirt", CheckState.OK, f"{version} at {uri}")
    return Check(
        "libvirt",
        CheckState.WARNING,
        f"{version} at {uri}; its network 'default' is not up",
        "virsh net-start default, or map networks with --network-map",
    )


def _space(folder: Path) -> Check:
    existing = nearest(folder)
    free = shutil.disk_usage(existing).free
    detail = f"{free / 2**30:.1f} GiB free for {folder}"
    if not os.environ.get("HYPERCTL_OUTPUT_DIR"):
        detail += ", the default: a worker that was given another HYPERCTL_OUTPUT_DIR uses that"
    if not os.access(existing, os.W_OK | os.X_OK):
        hint = f"Make {existing} writable for the worker, or set HYPERCTL_OUTPUT_DIR."
        return Check("space", CheckState.FAILED, f"{existing} cannot be written", hint)
    if free < LITTLE_SPACE_BYTES:
        return Check("space", CheckState.WARNING, detail, "Make room, or set HYPERCTL_OUTPUT_DIR.")
    return Check("space", CheckState.OK, detail)


def _credentials(settings: HostSettings) -> Check:
    name, file = "vCenter credentials", settings.vsphere_credentials_file
    if file is None:
        if os.environ.get("VSPHERE_PASSWORD"):
            return Check(name, CheckState.OK, "in the environment")
        hint = "A worker needs VSPHERE_PASSWORD or HYPERCTL_VSPHERE_CREDENTIALS_FILE in its own environment."
        return Check(name, CheckState.WARNING, "none in this environment", hint)
    try:
        mode = file.stat().st_mode
    except OSError as error:
        return Check(name, CheckState.FAILED, f"{file}: {error.strerror}", "Correct the path.")
    if stat.S_IMODE(mode) & 0o077:
        return Check(name, CheckState.FAILED, f"others can read {file}", f"chmod 0600 {file}")
    return Check(name, CheckState.OK, str(file))
