"""Guests that their own tools work on, that have other hardware than virtio, or boot twice: test-guests."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import guestfs
import pytest

from deploy.dev.guest.guest import Guest
from deploy.dev.guest.matrix import GUESTS
from deploy.dev.guest.recipe import DEMO
from deploy.dev.guest.selinux import ADDRESS, SELINUX
from hyperctl.activities.acceleration import libguestfs_environment
from hyperctl.activities.convert.linux.unified import INITRAMFS, KERNEL, part, read_unified
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


def with_profiles(image: Path) -> str:
    """The guest's unified image anew, by its own ukify: two profiles, and what all boots need in an addon.

    Returns the addon's path.
    """
    os.environ.update(libguestfs_environment())
    guest = guestfs.GuestFS(python_return_dict=True)
    try:
        guest.add_drive_opts(str(image), format="raw")
        guest.launch()
        guest.mount("/dev/sda2", "/")
        guest.mount("/dev/sda1", "/boot/efi")
        (path,) = guest.glob_expand("/boot/efi/EFI/Linux/*.efi")
        guest.download(path, str(image.with_suffix(".efi")))
        data = image.with_suffix(".efi").read_bytes()
        sections = read_unified(lambda offset, count: data[offset : offset + count]).profiles[0]
        for name, section in (("linux", KERNEL), ("initrd", INITRAMFS)):
            local = image.with_suffix(f".{name}")
            local.write_bytes(part(sections, section, lambda offset, count: data[offset : offset + count]))
            guest.upload(str(local), f"/var/tmp/{name}")
        addon = f"{path}.extra.d/site.addon.efi"
        guest.mkdir(addon.rpartition("/")[0])
        ukify = ["/usr/bin/ukify", "build"]
        guest.command([*ukify, f"--cmdline={IN_ADDON}", f"--output={addon}"])
        main, rescue = ([f"--profile=ID={name}", f"--cmdline={PROFILES[name]}"] for name in PROFILES)
        guest.command([*ukify, *rescue, "--output=/var/tmp/rescue.efi"])
        whole = ["--linux=/var/tmp/linux", "--initrd=/var/tmp/initrd", "--os-release=@/etc/os-release"]
        joined = "--join-profile=/var/tmp/rescue.efi"
        guest.command([*ukify, *whole, *main, joined, f"--output={path}"])
        for left in guest.glob_expand("/var/tmp/*"):
            guest.rm_rf(left)
        guest.umount_all()
        guest.shutdown()
    finally:
        guest.close()
    return addon


PROFILES = {"main": "ro quiet", "rescue": "ro systemd.unit=rescue.target resume=/dev/sda2"}
IN_ADDON = "root=/dev/sda2 net.ifnames=0"


def test_an_image_with_profiles_and_an_addon_boots(output_dir: Path) -> None:
    """systemd-stub has to read what ukify has made of its profiles, and the addon that was edited."""
    arrival = arrive(GUESTS["trixie-unified"], output_dir)
    addon = with_profiles(arrival.staging.image(1))
    converted = arrival.convert(attempt())
    steps = {step.step: step for step in converted.steps}
    assert addon in steps[Step.VIRTIO].changed
    assert "in its profile 1" in steps[Step.VIRTIO].detail
    assert "by ukify" in steps[Step.REBUILD].detail
    proof = arrival.prove(converted, attempt())
    assert proof.passed, proof.problems
    assert {nic.mac: nic.name for nic in proof.nics} == {nic.mac: nic.name for nic in arrival.guest.nics}


def test_a_guest_that_labels_its_files_and_boots_again_is_waited_for(output_dir: Path) -> None:
    """SELinux' own relabelling, as the source was told to do it."""
    arrival = arrive(SELINUX, output_dir)
    converted = arrival.convert(attempt())
    proof = arrival.prove(converted, attempt())
    assert proof.passed, proof.problems
    assert [nic.addresses for nic in proof.nics] == [(ADDRESS,)]
    serial = (arrival.staging.evidence() / "proof.serial.log").read_bytes()
    assert serial.count(b"Linux version") == 2, "one boot that labels, and one after it"
