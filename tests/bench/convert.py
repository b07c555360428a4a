"""Converting the source guest, against virt-v2v-in-place on an overlay of the same disk."""

import logging
import shutil
import tempfile
import time
from pathlib import Path

from deploy.dev.prepare import load_parts
from hyperctl.activities.acceleration import libguestfs_environment
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.convert.activity import convert_guest
from hyperctl.activities.overlay import create_overlay
from hyperctl.activities.process import run
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import ConvertInput
from hyperctl.workflows.machine import MachineNic
from hyperctl.workflows.request import Fixers
from hyperctl.workflows.status import Phase
from tests.bench.row import Row, at_most
from tests.unit.machines import disk, landed, machine

GUEST = "web-server-01"
RUNS = 2
SHARE = 0.5
TIMEOUT_SECONDS = 1200.0
V2V = "virt-v2v-in-place"
V2V_PLACES = ("/usr/libexec", "/usr/lib/virt-v2v", "/usr/lib/libexec")


def measure_convert(folder: Path) -> list[Row]:
    """Whole conversions in turns, appliance launch and inspection included."""
    programme = _v2v()
    source = load_parts().guests / GUEST / "disk1.raw"
    running = Attempt(Phase.CONVERT, logging.getLogger("bench"))
    ours, peer = [], []
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for turn in range(RUNS):
            ours.append(_ours(source, Path(temporary) / f"ours{turn}", running))
            peer.append(_peer(programme, source, Path(temporary) / f"peer{turn}.qcow2", running))
    return [at_most(SHARE, "conversion of the demo's guest", "s", ours, V2V, peer)]


def _v2v() -> str:
    found = shutil.which(V2V) or next(
        (f"{place}/{V2V}" for place in V2V_PLACES if Path(place, V2V).exists()), None
    )
    if found is None:
        raise FileNotFoundError(f"{V2V} is not installed: apt install virt-v2v")
    return found


def _ours(source: Path, output: Path, running: Attempt) -> float:
    staging = Staging(output, "job-bench")
    staging.create()
    nic = MachineNic(key=4000, label="", mac="00:50:56:aa:bb:01", network="", adapter="vmxnet3")
    guest = machine(name=GUEST, nics=(nic,), disks=(disk(),))
    order = ConvertInput(
        job_id="job-bench", output_dir=str(output), machine=guest, disks=(landed(source),), fix=Fixers()
    )
    started = time.monotonic()
    convert_guest(order, running)
    return time.monotonic() - started


def _peer(programme: str, source: Path, overlay: Path, running: Attempt) -> float:
    create_overlay(overlay, str(source), "raw", running)
    started = time.monotonic()
    run(
        [programme, "-i", "disk", str(overlay)],
        running,
        timeout_seconds=TIMEOUT_SECONDS,
        environment=libguestfs_environment(),
    )
    return time.monotonic() - started
