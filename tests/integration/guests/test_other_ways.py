"""Guests whose initramfs their own tool rebuilds, or with other hardware than virtio: `make test-guests`."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from deploy.dev.guest.guest import Guest
from deploy.dev.guest.matrix import GUESTS
from deploy.dev.guest.recipe import DEMO
from hyperctl.workflows.guest import Outcome, Step
from hyperctl.workflows.hardware import DiskBus, Hardware, NicModel
from hyperctl.workflows.request import InitramfsWay
from tests.found_out import AGAIN
from tests.integration.guests.arrival import arrive, attempt

pytestmark = [
    pytest.mark.timeout(2400),
    pytest.mark.usefixtures("libvirt_uri"),
    pytest.mark.skipif(not AGAIN, reason="boots of minutes: make test-guests"),
]
WITHOUT_VIRTIO = Hardware(disk_bus=DiskBus.SATA, nic_model=NicModel.E1000E)
VIRTIO_SCSI = Hardware(disk_bus=DiskBus.SCSI)


@pytest.fixture
def output_dir() -> Iterator[Path]:
    """One that qemu, which runs as a user of its own, can pass through; pytest's are closed to others."""
    with TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.mark.parametrize(
    "guest", [DEMO, GUESTS["bullseye-efi"], GUESTS["luks-passphrase"]], ids=lambda guest: guest.name
)
def test_a_rebuilt_initramfs_boots(guest: Guest, output_dir: Path) -> None:
    """By mkinitramfs and by dracut's hostonly, and where cryptsetup's hook asks what the root lies on; the
    kernel speaks on the serial port as asked."""
    arrival = arrive(guest, output_dir)
    before = arrival.bases()
    converted = arrival.convert(attempt(), InitramfsWay.REBUILD, serial_console=True)
    steps = {step.step: step for step in converted.steps}
    assert steps[Step.REBUILD].outcome is Outcome.DONE
    assert steps[Step.REBUILD].changed
    assert "with a serial console" in steps[Step.BOOTLOADER].detail
    assert not converted.may_rebuild
    proof = arrival.prove(converted, attempt())
    assert proof.passed, proof.problems
    assert arrival.bases() == before


@pytest.mark.parametrize("hardware", [WITHOUT_VIRTIO, VIRTIO_SCSI], ids=lambda one: str(one.disk_bus))
def test_other_hardware_boots(hardware: Hardware, output_dir: Path) -> None:
    arrival = arrive(DEMO, output_dir)
    converted = arrival.convert(attempt(), hardware=hardware)
    steps = {step.step: step for step in converted.steps}
    assert not any(path.endswith("device.map") for path in steps[Step.BOOTLOADER].changed)
    proof = arrival.prove(converted, attempt())
    assert proof.passed, proof.problems
    assert {nic.mac: nic.name for nic in proof.nics} == {nic.mac: nic.name for nic in DEMO.nics}
