"""Rehearsals: what they read of a small and of a large disk, and what a source that is far away costs them.

The vCenter is behind a relay that holds every request for two milliseconds. The anchor of the time is the
same conversion and proof over the guest's image on this host.
"""

import json
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from statistics import median
from unittest import mock

import guestfs

from deploy.dev.artifact import keep
from deploy.dev.libvirt import libvirt_in_use
from deploy.dev.prepare import load_parts
from hyperctl.activities.acceleration import libguestfs_environment
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.convert.activity import convert_guest
from hyperctl.activities.prove.activity import prove_and_record
from hyperctl.activities.rehearse.rehearsal import rehearse
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.activities.vsphere.inventory import find_machine
from hyperctl.activities.vsphere.session import open_session
from hyperctl.workflows.contract import ConvertInput, ProveInput, RehearseInput
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.rehearsal import RehearsalRequest, Rehearsed, Verdict
from hyperctl.workflows.request import Fixers, ProveMode, VCenter
from hyperctl.workflows.status import Phase
from tests.bench.row import Row, at_most
from tests.simulator import USERNAME, running_vcenter
from tests.unit.machines import landed

GUEST = "web-server-01"
LARGE = "web-server-200g"
LARGE_BYTES = 200 << 30
PASSWORD = "a password for benches"
RUNS = 2
LATENCY_SECONDS = 0.002
MOST_READ_MIB = 300
SHARE = 1.3
MIB = 1 << 20


def measure_rehearse(folder: Path) -> list[Row]:
    """Rehearsals and local trials in turns."""
    built = load_parts().guests / GUEST
    running = Attempt(Phase.REHEARSE, logging.getLogger("bench"))
    credentials = {"VSPHERE_USERNAME": USERNAME, "VSPHERE_PASSWORD": PASSWORD}
    # qemu has a user of its own, who must get to the images.
    with (
        libvirt_in_use() as libvirt_uri,
        tempfile.TemporaryDirectory(dir="/var/tmp", prefix="hyperctl-bench-") as temporary,
        mock.patch.dict(os.environ, credentials),
    ):
        place = Path(temporary)
        place.chmod(0o711)
        host = HostSettings(
            host="bench",
            output_dir=str(place / "out"),
            work_dir=place / "work",
            libvirt_uri=libvirt_uri,
        )
        with _far_away(place, built) as vcenter:
            image = place / "near.raw"
            copy = ["cp", "--reflink=auto", "--sparse=always", str(built / "disk1.raw"), str(image)]
            subprocess.run(copy, check=True)
            small, near = [], []
            for turn in range(RUNS):
                small.append(_rehearsed(GUEST, vcenter, host, running))
                machine = _machine(GUEST, vcenter, host, running)
                near.append(_near(image, machine, place / f"{turn}", libvirt_uri, running))
            large = _rehearsed(LARGE, vcenter, host, running)
    return [
        _read_row(f"{GUEST}, 4 GiB", [found.read_bytes for found in small]),
        _read_row("the same on 200 GiB", [large.read_bytes]),
        at_most(
            SHARE,
            f"rehearsal of {GUEST}, 2 ms a request, "
            f"{median(found.waited_seconds for found in small):.1f} s of it waits for the source",
            "s",
            [found.duration_seconds for found in small],
            "conversion and proof on a local image",
            near,
        ),
    ]


def _read_row(what: str, read_bytes: list[int]) -> Row:
    return at_most(
        1,
        f"read by a rehearsal: {what}",
        "MiB",
        [size / MIB for size in read_bytes],
        "limit",
        [MOST_READ_MIB],
    )


@contextmanager
def _far_away(place: Path, built: Path) -> Iterator[VCenter]:
    """A vCenter with the guest on a small and on a large disk, behind the relay."""
    guests = place / "guests"
    guests.mkdir()
    with running_vcenter(guests, place / "vcenter", PASSWORD) as simulator, ExitStack() as stack:
        for guest in (built, _large(built)):
            simulator.call("POST", "/guests", {"directory": str(guest)})
        server = stack.enter_context(_relay(simulator.server))
        yield VCenter(server=server, certificate_sha256=simulator.certificate_sha256)


def _large(built: Path) -> Path:
    """The guest with its last file system grown over 200 GiB, nearly all of them a hole. Made once."""

    def make(folder: Path) -> None:
        guest = folder / LARGE
        guest.mkdir()
        disk = guest / "disk1.raw"
        shutil.copyfile(built / "disk1.raw", disk)
        os.truncate(disk, LARGE_BYTES)
        with mock.patch.dict(os.environ, libguestfs_environment()):
            appliance = guestfs.GuestFS(python_return_dict=True)
            appliance.add_drive_opts(str(disk), format="raw", discard="enable")
            appliance.launch()
            last = appliance.part_list("/dev/sda")[-1]
            number = last["part_num"]
            appliance.part_resize("/dev/sda", number, LARGE_BYTES // 512 - 1)
            appliance.e2fsck(f"/dev/sda{number}", correct=True)
            appliance.resize2fs(f"/dev/sda{number}")
            appliance.shutdown()
            appliance.close()
        document = json.loads((built / "guest.json").read_text())
        document |= {"name": LARGE, "disks": [{"flat": "disk1.raw"}]}
        (guest / "guest.json").write_text(json.dumps(document))

    return keep(f"{LARGE}-{built.parent.name}", make, "bench") / LARGE


def _machine(name: str, vcenter: VCenter, host: HostSettings, running: Attempt) -> Machine:
    with open_session(vcenter, host, running) as session:
        return find_machine(session, name, None).machine


def _rehearsed(name: str, vcenter: VCenter, host: HostSettings, running: Attempt) -> Rehearsed:
    argument = RehearseInput(
        job_id="rehearsal-bench",
        request=RehearsalRequest(vm_name=name, vcenter=vcenter),
        machine=_machine(name, vcenter, host, running),
        output_dir=host.output_dir,
    )
    found = rehearse(argument, host, running)
    if found.verdict is not Verdict.BOOTS:
        raise RuntimeError(f"{name} {found.verdict.words}: {found.reason}")
    return found


def _near(image: Path, machine: Machine, output: Path, libvirt_uri: str, running: Attempt) -> float:
    """Seconds of conversion and proof over the image here."""
    output.mkdir(mode=0o711)
    staging = Staging(output, "job-bench")
    staging.create()
    started = time.monotonic()
    converted = convert_guest(
        ConvertInput(
            job_id="job-bench", output_dir=str(output), machine=machine, disks=(landed(image),), fix=Fixers()
        ),
        running,
    )
    asked = ProveInput(
        job_id="job-bench",
        output_dir=str(output),
        machine=machine,
        disks=converted.disks,
        mode=ProveMode.FULL,
    )
    prove_and_record(asked, libvirt_uri, running)
    return time.monotonic() - started


@contextmanager
def _relay(server: str) -> Iterator[str]:
    """Passes connections on; what a client sends waits on its way."""
    host, _, port = server.rpartition(":")
    with ExitStack() as stack:
        listening = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))

        def accept() -> None:
            while True:
                try:
                    near, _ = listening.accept()
                except OSError:
                    return  # closed
                far = socket.create_connection((host, int(port)))
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
                for source, sink, delay in ((near, far, LATENCY_SECONDS), (far, near, 0.0)):
                    threading.Thread(target=_pass_on, args=(source, sink, delay), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def _pass_on(source: socket.socket, sink: socket.socket, delay_seconds: float) -> None:
    with suppress(OSError):
        while data := source.recv(MIB):
            time.sleep(delay_seconds)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
