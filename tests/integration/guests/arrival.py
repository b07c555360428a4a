"""A guest of the matrix on its way: landed as a copy would leave it, converted, proved."""

import json
import logging
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from deploy.dev.guest.build import make_guest
from deploy.dev.guest.guest import Guest
from deploy.dev.libvirt import URI
from hyperctl.activities.acceleration import probe_acceleration
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.convert.activity import convert_guest
from hyperctl.activities.overlay import create_overlay
from hyperctl.activities.prove.activity import prove, prove_and_record
from hyperctl.activities.prove.boot import Trial
from hyperctl.activities.prove.limit import Patience
from hyperctl.activities.prove.trial import TrialFiles
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import ConvertInput, ConvertResult, ProveInput
from hyperctl.workflows.disk import ConvertedDisk, LandedDisk
from hyperctl.workflows.guest import BootProof
from hyperctl.workflows.hardware import VIRTIO, Hardware
from hyperctl.workflows.machine import Firmware, Machine, MachineNic
from hyperctl.workflows.request import Fixers, InitramfsWay, ProveMode
from hyperctl.workflows.status import Phase
from tests.unit.machines import disk, landed, machine

SLOTS = {
    **{"ens192": 192, "ens224": 224, "ens256": 256, "zeta0": 1184, "alpha0": 1216},
    **{"eth0": 192, "eth1": 224},
}
"""vSphere's numbers of the slots that give a NIC these names; the kernel's own go by the buses."""
ENOUGH = Patience(boot=150, settle=60, grace=20, standstill=30, network=0, label=0)
"""For a boot that is to fail."""


@dataclass(frozen=True)
class Arrival:
    guest: Guest
    machine: Machine
    landed: tuple[LandedDisk, ...]
    staging: Staging
    output_dir: Path
    disk_keys_file: Path | None

    def bases(self) -> list[tuple[int, int]]:
        """What changes when somebody writes to a landed image."""
        return [(Path(one.path).stat().st_mtime_ns, Path(one.path).stat().st_size) for one in self.landed]

    def boot_as_it_came(self, running: Attempt) -> BootProof:
        """On virtio, without any conversion."""
        disks = []
        for one in self.landed:
            overlay = self.staging.folder / f"as-it-came{one.index}.qcow2"
            create_overlay(overlay, one.path, "raw", running)
            disks.append(
                ConvertedDisk(
                    index=one.index,
                    base=one.path,
                    base_format="raw",
                    overlay=str(overlay),
                    capacity_bytes=one.capacity_bytes,
                )
            )
        trial = Trial(
            job_id=f"{self.staging.job_id}-as-it-came",
            machine=self.machine,
            guest=None,
            disks=tuple(disks),
            files=TrialFiles(self.staging.proof()),
            libvirt_uri=URI,
            patience=ENOUGH,
            disk_keys_file=self.disk_keys_file,
        )
        return prove(trial, ProveMode.BOOT, running).proof

    def convert(
        self,
        running: Attempt,
        initramfs: InitramfsWay = InitramfsWay.AUTO,
        hardware: Hardware = VIRTIO,
        *,
        serial_console: bool = False,
    ) -> ConvertResult:
        argument = ConvertInput(
            job_id=self.staging.job_id,
            output_dir=str(self.output_dir),
            machine=self.machine,
            disks=self.landed,
            fix=Fixers(),
            initramfs=initramfs,
            hardware=hardware,
            serial_console=serial_console,
        )
        return convert_guest(argument, running, self.disk_keys_file)

    def prove(self, result: ConvertResult, running: Attempt) -> BootProof:
        argument = ProveInput(
            job_id=self.staging.job_id,
            output_dir=str(self.output_dir),
            machine=self.machine,
            disks=result.disks,
            mode=ProveMode.FULL,
            hardware=result.hardware,
        )
        return prove_and_record(argument, URI, running, self.disk_keys_file).proof


def attempt() -> Attempt:
    probe_acceleration()
    return Attempt(Phase.CONVERT, logging.getLogger("guests"))


def arrive(guest: Guest, output_dir: Path, only_disks: int | None = None) -> Arrival:
    """Land a guest, or its first disks only, in a job's folder; it is built where it has not been."""
    built = make_guest(guest) / guest.name
    # Its trial's domain is named after it, and another process may have the same guest.
    staging = Staging(output_dir, f"job-{guest.name}-{os.getpid()}")
    staging.create()
    disks = []
    for index in range(1, (only_disks or len(guest.layout.disks_mib)) + 1):
        image = staging.image(index)
        copy = ["cp", "--reflink=auto", "--sparse=always", str(built / f"disk{index}.raw"), str(image)]
        subprocess.run(copy, check=True, timeout=300)
        image.chmod(0o600)
        disks.append(landed_disk(index, image))
    return Arrival(
        guest=guest,
        machine=machine_of(json.loads((built / "guest.json").read_text())),
        landed=tuple(disks),
        staging=staging,
        output_dir=output_dir,
        disk_keys_file=_keys(guest, built, output_dir),
    )


def landed_disk(index: int, image: Path) -> LandedDisk:
    return landed(image).model_copy(update={"index": index, "source_name": f"disk{index}.vmdk"})


def machine_of(facts: dict[str, object]) -> Machine:
    """A guest as vSphere would describe it, from its guest.json."""
    nics = facts["nics"]
    disks = facts["disks"]
    assert isinstance(nics, list)
    assert isinstance(disks, list)
    return machine(
        name=facts["name"],
        guest_id=facts["guest_id"],
        guest_full_name=facts["guest_full_name"],
        host_name=facts["host_name"],
        firmware=Firmware(str(facts["firmware"])),
        disks=tuple(disk(number) for number in range(1, len(disks) + 1)),
        nics=tuple(
            MachineNic(
                key=4000 + number,
                label=f"Network adapter {number + 1}",
                mac=nic["mac"],
                network=nic["network"],
                adapter=nic["adapter"],
                addresses=tuple(nic["addresses"]),
                pci_slot=SLOTS[nic["device_name"]],
            )
            for number, nic in enumerate(nics)
        ),
    )


def _keys(guest: Guest, built: Path, folder: Path) -> Path | None:
    """The worker's file of disk keys: a passphrase or a key file, by the guest's name."""
    if not guest.layout.encrypted:
        return None
    own: dict[str, list[str]] = {}
    for volume in guest.layout.encrypted:
        if "passphrase" in guest.name:
            own.setdefault("passphrases", []).append(volume.passphrase)
        else:
            own.setdefault("key_files", []).append(str(built / f"{volume.name}.key"))
    path = folder / f"{guest.name}.keys.yaml"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump({"passphrases": ["a wrong one"], "machines": {guest.name: own}}))
    return path
