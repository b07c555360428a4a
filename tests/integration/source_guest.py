"""The development guest for tests on its disk: as vSphere would describe it, landed, converted."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.dev.guest.recipe import DEMO
from deploy.dev.prepare import load_parts
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import ConvertInput, ConvertResult
from hyperctl.workflows.machine import Machine, MachineNic
from hyperctl.workflows.request import Fixers
from tests.unit.machines import disk, landed, machine

GUEST = "web-server-01"
UNITS = {
    "limping.service": "/bin/false",
    "only-on-vmware.service": "/bin/sh -c 'ls -d /sys/bus/pci/drivers/vmxnet3/0*'",
}
"""What fails on VMware already, and what fails elsewhere only."""


@dataclass(frozen=True)
class SourceGuest:
    """The guest as it came from VMware."""

    disk: Path
    machine: Machine

    def land(self, output_dir: Path, job_id: str) -> Staging:
        """A job's staging folder with a copy of the disk in it."""
        staging = Staging(output_dir, job_id)
        staging.create()
        copy = ["cp", "--reflink=auto", "--sparse=always", str(self.disk), str(staging.image(1))]
        subprocess.run(copy, check=True, timeout=120)
        staging.image(1).chmod(0o600)
        return staging

    def order(self, staging: Staging, image: Path, image_format: str = "raw") -> ConvertInput:
        """What the workflow would ask, with an image as the landed disk."""
        return ConvertInput(
            job_id=staging.job_id,
            output_dir=str(staging.folder.parents[1]),
            machine=self.machine,
            disks=(landed(image, image_format, capacity_bytes=self.machine.capacity_bytes),),
            fix=Fixers(),
        )


@dataclass(frozen=True)
class ConvertedGuest:
    """The guest after its conversion, before the merge."""

    staging: Staging
    order: ConvertInput
    result: ConvertResult


def read_source_guest() -> SourceGuest:
    """The one that the set-up made."""
    folder = load_parts().guests / GUEST
    document = json.loads((folder / "guest.json").read_text())
    nics = tuple(
        MachineNic(
            key=4000 + number,
            label=f"Network adapter {number + 1}",
            mac=nic["mac"],
            network=nic["network"],
            adapter=nic["adapter"],
            addresses=tuple(address for address in nic["addresses"] if not address.startswith("fe80:")),
        )
        for number, nic in enumerate(document["nics"])
    )
    about = machine(name=GUEST, nics=nics, disks=(disk(),))
    return SourceGuest(disk=folder / "disk1.raw", machine=about)


def add_units(image: Path, folder: Path) -> None:
    """Enable `UNITS` in the guest's root filesystem, without an appliance."""
    layout = DEMO.layout
    (root,) = (one.device for one in layout.filesystems if one.mount_point == "/")
    names = [partition.device for partition in layout.partitions_of(0)]
    start_mib = 1 + sum(one.size_mib for one in layout.partitions_of(0)[: names.index(root)])
    commands = ["cd /etc/systemd/system"]  # it takes names, not paths, of what it writes
    for name, command in UNITS.items():
        (folder / name).write_text(f"[Service]\nType=oneshot\nExecStart={command}\n")
        commands.append(f"write {folder / name} {name}")
        commands.append(f"symlink multi-user.target.wants/{name} /etc/systemd/system/{name}")
    commands += [f"stat {name}" for name in UNITS]
    (folder / "commands").write_text("\n".join(commands) + "\n")
    edit = ["debugfs", "-w", "-f", str(folder / "commands"), f"{image}?offset={start_mib << 20}"]
    done = subprocess.run(edit, check=True, timeout=60, capture_output=True, text=True)
    assert "not found" not in done.stderr + done.stdout, done.stderr
