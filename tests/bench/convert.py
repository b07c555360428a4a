"""Converting source guests, against virt-v2v-in-place on an overlay of the same disk."""

import json
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from unittest import mock

import guestfs

from deploy.dev.guest import matrix
from deploy.dev.guest.build import make_guest
from deploy.dev.guest.guest import Guest
from hyperctl.activities.acceleration import libguestfs_environment
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.convert.activity import convert_guest
from hyperctl.activities.overlay import create_overlay
from hyperctl.activities.process import run
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import ConvertInput
from hyperctl.workflows.guest import Step
from hyperctl.workflows.request import Fixers
from hyperctl.workflows.status import Phase
from tests.bench.row import Row, at_most
from tests.integration.guests.arrival import machine_of
from tests.unit.machines import landed

GUESTS = ("web-server-01", "xfs-label")
"""One with initramfs-tools, one with dracut."""
RUNS = 2
SHARE = 0.3
TIMEOUT_SECONDS = 1200.0
GRUB = "/EFI/debian/grubx64.efi"
V2V = "virt-v2v-in-place"
V2V_PLACES = ("/usr/libexec", "/usr/lib/virt-v2v", "/usr/lib/libexec")


def measure_convert(folder: Path) -> list[Row]:
    """Whole conversions in turns, appliance launch and inspection included."""
    programme = _v2v()
    running = Attempt(Phase.CONVERT, logging.getLogger("bench"))
    return [_measure(matrix.GUESTS[name], programme, folder, running) for name in GUESTS]


def _measure(guest: Guest, programme: str, folder: Path, running: Attempt) -> Row:
    built = make_guest(guest) / guest.name
    ours, opening, peer = [], [], []
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for turn in range(RUNS):
            seconds, of_them = _ours(built, Path(temporary) / f"ours{turn}", running)
            ours.append(seconds)
            opening.append(of_them)
            peer.append(_peer(programme, built, Path(temporary) / f"peer{turn}.qcow2", running))
    title = (
        f"conversion of {guest.name} ({guest.initramfs}), {median(opening):.1f} s of it launch and inspection"
    )
    return at_most(SHARE, title, "s", ours, V2V, peer)


def _v2v() -> str:
    found = shutil.which(V2V) or next(
        (f"{place}/{V2V}" for place in V2V_PLACES if Path(place, V2V).exists()), None
    )
    if found is None:
        raise FileNotFoundError(f"{V2V} is not installed: apt install virt-v2v")
    return found


def _ours(built: Path, output: Path, running: Attempt) -> tuple[float, float]:
    """Seconds of the conversion, and those of them until the guest was open and known."""
    staging = Staging(output, "job-bench")
    staging.create()
    order = ConvertInput(
        job_id="job-bench",
        output_dir=str(output),
        machine=machine_of(json.loads((built / "guest.json").read_text())),
        disks=(landed(built / "disk1.raw"),),
        fix=Fixers(),
    )
    started = time.monotonic()
    result = convert_guest(order, running)
    opening = sum(step.duration_seconds for step in result.steps if step.step is Step.INSPECT)
    return time.monotonic() - started, opening


def _peer(programme: str, built: Path, overlay: Path, running: Attempt) -> float:
    create_overlay(overlay, str(built / "disk1.raw"), "raw", running)
    _show_grub(overlay)
    started = time.monotonic()
    run(
        [programme, "-i", "disk", str(overlay)],
        running,
        timeout_seconds=TIMEOUT_SECONDS,
        environment=libguestfs_environment(),
    )
    return time.monotonic() - started


def _show_grub(overlay: Path) -> None:
    """virt-v2v takes for GRUB on UEFI what has a configuration beside it, as Debian's signed one does."""
    with mock.patch.dict(os.environ, libguestfs_environment()):
        guest = guestfs.GuestFS(python_return_dict=True)  # reads them now
    try:
        guest.add_drive_opts(str(overlay), format="qcow2")
        guest.launch()
        for filesystem, kind in guest.list_filesystems().items():
            if kind == "vfat":
                guest.mount(filesystem, "/")
                if guest.is_file(GRUB):
                    guest.write(
                        f"{GRUB.rpartition('/')[0]}/grub.cfg", b"configfile ($root)/boot/grub/grub.cfg\n"
                    )
                guest.umount_all()
        guest.shutdown()
    finally:
        guest.close()
