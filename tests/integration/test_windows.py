"""A Windows guest, or what virt-v2v takes for one, is converted; another is refused."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import guestfs
import pytest
from temporalio.exceptions import CancelledError

from deploy.dev.artifact import keep
from deploy.dev.layout import digest
from hyperctl.activities.acceleration import probe_acceleration
from hyperctl.activities.appliance import appliance_environment
from hyperctl.activities.convert.activity import convert_guest
from hyperctl.activities.convert.conversation import Conversation
from hyperctl.activities.convert.order import Order
from hyperctl.activities.convert.windows.conversion import convert_windows
from hyperctl.activities.convert.windows.found import WindowsFound
from hyperctl.activities.convert.windows.parts import WindowsParts
from hyperctl.activities.convert.windows.registry import opened_hive
from hyperctl.activities.convert.windows.sata import start_sata_at_boot
from hyperctl.activities.overlay import create_overlay
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import ConvertInput, ConvertResult
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.guest import Outcome, Step
from hyperctl.workflows.machine import Firmware
from hyperctl.workflows.request import Fixers
from tests import windows_image
from tests.integration.conftest import sha256
from tests.integration.guests.arrival import attempt, landed_disk
from tests.moments import SOON_SECONDS, once, until
from tests.processes import is_worked_on
from tests.unit.machines import machine, nic

pytestmark = pytest.mark.timeout(1200)

JOB = "job-windows"
MAC = "00:50:56:aa:bb:01"
DRIVERS = (
    "viostor.sys",
    "viostor.inf",
    "viostor.cat",
    "netkvm.sys",
    "netkvm.inf",
    "vioscsi.sys",
    "balloon.inf",
)


@dataclass(frozen=True)
class Images:
    server: Path
    hibernated: Path


@pytest.fixture(scope="module")
def images() -> Images:
    """Made once; nothing writes to them."""

    def build(folder: Path) -> None:
        names = [str(folder / name) for name in ("server.raw", "hibernated.raw")]
        argv = [sys.executable, "-m", "tests.windows_image", *names]
        with appliance_environment(probe_acceleration()) as environment:
            subprocess.run(argv, check=True, env={**os.environ, **environment}, timeout=600)

    folder = keep(digest([Path(windows_image.__file__)]), build, "windows")
    return Images(folder / "server.raw", folder / "hibernated.raw")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> WindowsParts:
    """Files laid out as virtio-win has them, and named as virt-v2v's service; their content is no matter."""
    folder = tmp_path_factory.mktemp("parts")
    tools = folder / "virt-tools"
    tools.mkdir()
    (tools / "rhsrvany.exe").write_bytes(windows_image.programme())
    for driver in DRIVERS:
        place = folder / "virtio-win" / driver.partition(".")[0] / "2k19" / "amd64"
        place.mkdir(parents=True, exist_ok=True)
        (place / driver.upper()).write_text(f"{driver} for Windows Server 2019")
    agent = folder / "virtio-win" / "guest-agent"
    agent.mkdir()
    (agent / "qemu-ga-x86_64.msi").write_text("an installer")
    return WindowsParts(virtio_win=folder / "virtio-win", tools_dir=tools)


GUEST = machine(name="win01", guest_id="windows2019srv_64Guest", firmware=Firmware.EFI, nics=(nic(mac=MAC),))
FOUND = WindowsFound(
    root=windows_image.ROOT,
    system_root="/Windows",
    system_hive=windows_image.SYSTEM_HIVE,
    software_hive=windows_image.SOFTWARE_HIVE,
    control_set="ControlSet001",
)


def convert(folder: Path, image: Path, parts: WindowsParts) -> ConvertResult:
    Staging(folder, JOB).create()
    argument = ConvertInput(
        job_id=JOB,
        output_dir=str(folder),
        machine=GUEST,
        disks=(landed_disk(1, image),),
        fix=Fixers(),
    )
    return convert_guest(argument, attempt(), windows=parts)


@pytest.fixture(scope="module")
def converted(images: Images, parts: WindowsParts, tmp_path_factory: pytest.TempPathFactory) -> ConvertResult:
    before = sha256(images.server)
    result = convert(tmp_path_factory.mktemp("converted"), images.server, parts)
    assert sha256(images.server) == before
    return result


@pytest.fixture(scope="module")
def opened(converted: ConvertResult) -> Iterator[guestfs.GuestFS]:
    """The converted system, mounted."""
    with appliance_environment(probe_acceleration()) as environment:
        with mock.patch.dict(os.environ, environment):
            guest = guestfs.GuestFS(python_return_dict=True)  # reads them now
        guest.add_drive_opts(converted.disks[0].overlay, format="qcow2")
        guest.launch()
        guest.mount(windows_image.ROOT, "/")
        yield guest
        guest.close()


def test_the_result_says_what_was_done(converted: ConvertResult) -> None:
    assert converted.guest.is_windows
    assert converted.guest.product_name == "Windows Server 2019 Standard"
    assert converted.guest.host_name == "win01"
    steps = {step.step: step for step in converted.steps}
    assert {step: one.outcome for step, one in steps.items()} == {
        Step.INSPECT: Outcome.DONE,
        Step.VIRTIO: Outcome.DONE,
        Step.BOOTLOADER: Outcome.DONE,
        Step.NETWORK: Outcome.DONE,
        Step.TOOLS: Outcome.DONE,
    }
    assert "viostor starts at boot" in steps[Step.VIRTIO].detail
    assert f"{windows_image.STATIC_ADDRESS}/24 ({MAC})" in steps[Step.NETWORK].detail
    assert "VMware Tools are removed" in steps[Step.TOOLS].detail
    assert "QEMU guest agent" in steps[Step.TOOLS].detail


def test_windows_finds_its_disk(opened: guestfs.GuestFS) -> None:
    with opened_hive(opened, windows_image.SYSTEM_HIVE) as system:
        service = (*windows_image.SERVICES, "viostor")
        assert system.number(service, "Start") == 0
        assert system.text(service, "ImagePath") == "system32\\drivers\\viostor.sys"
        devices = system.keys(("DriverDatabase", "DeviceIds", "PCI"))
        assert any(device.startswith("VEN_1AF4&DEV_1042") for device in devices)
    driver = opened.read_file("/Windows/System32/drivers/viostor.sys")
    assert driver == b"viostor.sys for Windows Server 2019"


def test_its_address_is_set_again(opened: guestfs.GuestFS) -> None:
    script = opened.read_file("/Windows/Temp/v2vnetcf.ps1").decode()
    assert MAC.replace(":", "-") in script
    assert (
        f"-IPAddress '{windows_image.STATIC_ADDRESS}' -DefaultGateway '192.0.2.1' -PrefixLength 24" in script
    )
    assert "'192.0.2.53','192.0.2.54'" in script
    with opened_hive(opened, windows_image.SYSTEM_HIVE) as system:
        assert system.number((*windows_image.SERVICES, "firstboot"), "Start") == 2


def test_sata_starts_at_boot_once_it_is_to(opened: guestfs.GuestFS) -> None:
    assert start_sata_at_boot(opened, FOUND, "Windows") == ("storahci", True)
    assert start_sata_at_boot(opened, FOUND, "Windows") == ("storahci", False)


def test_a_cancel_ends_virt_v2v_soon(images: Images, parts: WindowsParts, tmp_path: Path) -> None:
    running = attempt()
    overlay = tmp_path / "disk1.overlay.qcow2"
    create_overlay(overlay, str(images.server), "raw", running)
    order = Order(machine=GUEST, overlays=(str(overlay),), fix=Fixers(), windows=parts)

    def is_at_work() -> bool:
        return running.progress.message == "Opening the source" and is_worked_on(tmp_path)

    def cancel() -> None:
        time.sleep(2)
        running.stop()

    with once(is_at_work, cancel) as at_work, pytest.raises(CancelledError):
        convert_windows(FOUND, order, Conversation(running), running)
    assert at_work.seconds < 2 + SOON_SECONDS
    # What was killed has memory to give back.
    until(lambda: not is_worked_on(tmp_path), "virt-v2v goes on", SOON_SECONDS)


def test_all_that_is_missing_is_told_at_once(images: Images, parts: WindowsParts, tmp_path: Path) -> None:
    """A guest that is hibernated, and a host without the service and with drivers for another release."""
    drivers = tmp_path / "virtio-win" / "viostor" / "w10" / "amd64"
    drivers.mkdir(parents=True)
    (drivers / "viostor.sys").touch()
    before = sha256(images.hibernated)
    with pytest.raises(HyperctlError) as raised:
        convert(
            tmp_path, images.hibernated, WindowsParts(virtio_win=tmp_path / "virtio-win", tools_dir=tmp_path)
        )
    assert raised.value.code is ErrorCode.GUEST_UNSUPPORTED
    for words in (
        f"no rhsrvany.exe or pvvxsvc.exe in {tmp_path}",
        "has no viostor.sys and no netkvm.inf for Windows Server 2019 Standard (2k19 or win2019, x86_64)",
        "Windows is hibernated: its volume /dev/sda2",
    ):
        assert words in str(raised.value)
    for words in ("HYPERCTL_VIRTIO_WIN", "HYPERCTL_VIRT_TOOLS_DIR", "--disk-bus sata", "powercfg /h off"):
        assert words in raised.value.failure.hint
    assert sha256(images.hibernated) == before
    assert not list(tmp_path.rglob("*.qcow2"))
