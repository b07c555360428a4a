"""The conversion on real disks: cancelled, refused, done twice."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from temporalio.exceptions import CancelledError

from deploy.dev.prepare import load_parts
from hyperctl.activities.acceleration import libguestfs_environment
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.convert.activity import ConvertActivities, convert_guest
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import ConvertInput, ConvertResult, DiscardInput
from hyperctl.workflows.disk import LandedDisk
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.guest import Outcome, Step
from hyperctl.workflows.machine import MachineNic
from hyperctl.workflows.request import Fixers
from hyperctl.workflows.status import Phase
from tests.integration.conftest import sha256
from tests.unit.machines import disk, machine

GUEST = "web-server-01"
NIC = MachineNic(
    key=4000,
    label="Network adapter 1",
    mac="00:50:56:aa:bb:01",
    network="VM Network",
    adapter="vmxnet3",
    addresses=("192.0.2.10/24",),
)


def order(folder: Path, image: Path, image_format: str = "raw", fix: Fixers | None = None) -> ConvertInput:
    """What the workflow would ask, with the image as the landed disk."""
    Staging(folder, "job-convert").create()
    landed = LandedDisk(
        index=1,
        source_name="disk1.vmdk",
        path=str(image),
        format=image_format,
        ledger="",
        capacity_bytes=4 << 30,
        allocated_bytes=0,
        received_bytes=0,
        digest_algorithm="sha256",
        root_digest="",
    )
    guest = machine(name=GUEST, nics=(NIC,), disks=(disk(),))
    return ConvertInput(
        job_id="job-convert", output_dir=str(folder), machine=guest, disks=(landed,), fix=fix or Fixers()
    )


def attempt() -> Attempt:
    return Attempt(Phase.CONVERT, logging.getLogger("test"))


def overlays(folder: Path) -> list[Path]:
    return list(Staging(folder, "job-convert").folder.glob("*.qcow2"))


@pytest.fixture(scope="module")
def source() -> Path:
    return load_parts().guests / GUEST / "disk1.raw"


@pytest.fixture(scope="module")
def converted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ConvertResult]:
    folder = tmp_path_factory.mktemp("converted")
    return folder, convert_guest(order(folder, source), attempt())


@pytest.mark.timeout(900)
def test_what_was_converted_needs_no_conversion(
    converted: tuple[Path, ConvertResult], tmp_path: Path, source: Path
) -> None:
    _, first = converted
    assert {step.outcome for step in first.steps} == {Outcome.DONE}
    assert first.guest.distribution == "debian"
    assert first.guest.initramfs_tool == "initramfs-tools"
    again = convert_guest(order(tmp_path, Path(first.disks[0].overlay), "qcow2"), attempt())
    outcomes = {step.step: (step.outcome, step.changed) for step in again.steps}
    assert outcomes.pop(Step.INSPECT)[0] is Outcome.DONE
    assert set(outcomes.values()) == {(Outcome.NOT_NEEDED, ())}


@pytest.mark.timeout(900)
def test_what_is_finished_is_not_done_again_until_it_is_discarded(
    converted: tuple[Path, ConvertResult], source: Path
) -> None:
    folder, first = converted
    started = time.monotonic()
    assert convert_guest(order(folder, source), attempt()) == first
    assert time.monotonic() - started < 2
    settings = HostSettings(output_dir=str(folder), work_dir=folder / "work")
    discard = DiscardInput(job_id="job-convert", output_dir=str(folder))
    for _ in range(2):
        ConvertActivities(settings).discard_conversion(discard)
        assert overlays(folder) == []
        assert Staging(folder, "job-convert").finished("convert_guest", ConvertResult) is None


@pytest.mark.timeout(300)
def test_a_cancel_ends_it_within_five_seconds_and_leaves_nothing(tmp_path: Path, source: Path) -> None:
    running = attempt()
    before = source.stat().st_mtime_ns
    cancelled_at: list[float] = []

    def cancel() -> None:
        time.sleep(6)
        cancelled_at.append(time.monotonic())
        running.stop()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(CancelledError):
        convert_guest(order(tmp_path, source), running)
    assert time.monotonic() - cancelled_at[0] < 5
    thread.join()
    assert overlays(tmp_path) == []
    assert source.stat().st_mtime_ns == before
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in listed, "the appliance has ended with its child"


def make_empty(image: Path) -> None:
    with image.open("wb") as file:
        file.truncate(64 << 20)


def make_encrypted(image: Path) -> None:
    make_empty(image)
    _guestfs(image, 'g.luks_format("/dev/sda", "secret", 0)')


def make_bare_system(image: Path) -> None:
    """A Debian by its files, without any kernel."""
    make_empty(image)
    _guestfs(
        image,
        'g.mkfs("ext4", "/dev/sda"); g.mount("/dev/sda", "/")',
        '[g.mkdir(name) for name in ("/etc", "/bin", "/usr", "/boot", "/lib")]',
        'g.write("/etc/debian_version", "12.1"); g.write("/etc/fstab", "")',
        'g.write("/etc/os-release", "ID=debian\\nVERSION_ID=12\\n")',
    )


def _guestfs(image: Path, *statements: str) -> None:
    """Work on a raw image in libguestfs' appliance, `g`."""
    opened = ["import guestfs", "g = guestfs.GuestFS(python_return_dict=True)"]
    opened += [f'g.add_drive_opts("{image}", format="raw")', "g.launch()"]
    script = "; ".join([*opened, *statements, "g.shutdown()"])
    environment = {**os.environ, **libguestfs_environment()}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=300)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_empty, "no operating system was found"),
        (make_encrypted, "encrypted with LUKS"),
        (make_bare_system, "no Linux kernel"),
    ],
)
def test_what_cannot_be_converted_is_refused_with_the_reason(
    make: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    image = tmp_path / "image.raw"
    make(image)
    before = sha256(image)
    with pytest.raises(HyperctlError, match=words) as refused:
        convert_guest(order(tmp_path, image), attempt())
    assert refused.value.code is ErrorCode.GUEST_UNSUPPORTED
    assert GUEST in str(refused.value)
    assert overlays(tmp_path) == []
    assert sha256(image) == before
