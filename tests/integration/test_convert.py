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

from hyperctl.activities.acceleration import libguestfs_environment
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.convert.activity import ConvertActivities, convert_guest
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import ConvertResult, DiscardInput
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.guest import Outcome, Step
from hyperctl.workflows.status import Phase
from tests.integration.conftest import sha256
from tests.integration.source_guest import GUEST, ConvertedGuest, SourceGuest
from tests.processes import is_worked_on

JOB = "job-convert"


def attempt() -> Attempt:
    return Attempt(Phase.CONVERT, logging.getLogger("test"))


def overlays(staging: Staging) -> list[Path]:
    return list(staging.folder.glob("*.qcow2"))


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    staging = Staging(tmp_path, JOB)
    staging.create()
    return staging


@pytest.mark.timeout(900)
def test_what_was_converted_needs_no_conversion(
    converted_guest: ConvertedGuest, source_guest: SourceGuest, staging: Staging
) -> None:
    first = converted_guest.result
    assert {step.step for step in first.steps if step.outcome is not Outcome.DONE} == {Step.REBUILD}
    assert first.guest.distribution == "debian"
    assert first.guest.initramfs_tool == "initramfs-tools"
    order = source_guest.order(staging, Path(first.disks[0].overlay), "qcow2")
    again = convert_guest(order, attempt())
    outcomes = {step.step: (step.outcome, step.changed) for step in again.steps}
    assert outcomes.pop(Step.INSPECT)[0] is Outcome.DONE
    assert set(outcomes.values()) == {(Outcome.NOT_NEEDED, ())}


@pytest.mark.timeout(900)
def test_what_is_finished_is_not_done_again(converted_guest: ConvertedGuest) -> None:
    overlay = Path(converted_guest.result.disks[0].overlay)
    before = overlay.stat()
    assert convert_guest(converted_guest.order, attempt()) == converted_guest.result
    after = overlay.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_is_discarded_is_gone_with_its_record(
    converted_guest: ConvertedGuest, staging: Staging, tmp_path: Path
) -> None:
    staging.overlay(1).touch()
    staging.finish("convert_guest", converted_guest.result)
    settings = HostSettings(output_dir=str(tmp_path), work_dir=tmp_path / "work")
    discard = DiscardInput(job_id=JOB, output_dir=str(tmp_path))
    for _ in range(2):
        ConvertActivities(settings).discard_conversion(discard)
        assert overlays(staging) == []
        assert staging.finished("convert_guest", ConvertResult) is None


@pytest.mark.timeout(300)
def test_a_cancel_ends_it_within_five_seconds_and_leaves_nothing(
    source_guest: SourceGuest, staging: Staging
) -> None:
    running = attempt()
    before = source_guest.disk.stat().st_mtime_ns
    cancelled_at: list[float] = []

    def cancel() -> None:
        while not is_worked_on(staging.folder):
            time.sleep(0.1)
        time.sleep(2)
        cancelled_at.append(time.monotonic())
        running.stop()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(CancelledError):
        convert_guest(source_guest.order(staging, source_guest.disk), running)
    assert time.monotonic() - cancelled_at[0] < 5
    thread.join()
    assert overlays(staging) == []
    assert source_guest.disk.stat().st_mtime_ns == before
    assert not is_worked_on(staging.folder), "the appliance has ended with its child"


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
    make: Callable[[Path], None], words: str, source_guest: SourceGuest, staging: Staging, tmp_path: Path
) -> None:
    image = tmp_path / "image.raw"
    make(image)
    before = sha256(image)
    with pytest.raises(HyperctlError, match=words) as refused:
        convert_guest(source_guest.order(staging, image), attempt())
    assert refused.value.code is ErrorCode.GUEST_UNSUPPORTED
    assert GUEST in str(refused.value)
    assert overlays(staging) == []
    assert sha256(image) == before
