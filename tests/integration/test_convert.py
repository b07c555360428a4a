"""The conversion of a real guest: cancelled, done twice, discarded."""

import json
import logging
import subprocess
import time
from pathlib import Path

import pytest
from temporalio.exceptions import CancelledError

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.convert.activity import ConvertActivities, convert_guest
from hyperctl.activities.convert.linux.deb import installed_packages
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import ConvertResult, DiscardInput
from hyperctl.workflows.guest import Outcome, Step
from hyperctl.workflows.status import Phase
from tests.integration.source_guest import ConvertedGuest, SourceGuest
from tests.moments import SOON_SECONDS, once, until
from tests.processes import is_worked_on

JOB = "job-convert"
SECTOR_BYTES = 512


def attempt() -> Attempt:
    return Attempt(Phase.CONVERT, logging.getLogger("test"))


def guest_file(converted: ConvertedGuest, path: str, folder: Path) -> str:
    """A file of the converted guest's root filesystem; empty where there is none."""
    image = folder / "converted.raw"
    if not image.exists():
        flat = [
            "qemu-img",
            "convert",
            "-f",
            "qcow2",
            "-O",
            "raw",
            converted.result.disks[0].overlay,
            str(image),
        ]
        subprocess.run(flat, check=True, timeout=120)
    table = subprocess.run(
        ["/sbin/sfdisk", "--json", str(image)], check=True, capture_output=True, timeout=30
    )
    start = json.loads(table.stdout)["partitiontable"]["partitions"][1]["start"]
    argv = ["/sbin/debugfs", "-R", f"cat {path}", f"{image}?offset={start * SECTOR_BYTES}"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


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
    not_done = {step.step for step in first.steps if step.outcome is not Outcome.DONE}
    assert not_done == {Step.REBUILD, Step.LABELS}
    assert first.guest.distribution == "debian"
    assert first.guest.initramfs_tool == "initramfs-tools"
    order = source_guest.order(staging, Path(first.disks[0].overlay), "qcow2")
    again = convert_guest(order, attempt())
    outcomes = {step.step: (step.outcome, step.changed) for step in again.steps}
    assert outcomes.pop(Step.INSPECT)[0] is Outcome.DONE
    assert set(outcomes.values()) == {(Outcome.NOT_NEEDED, ())}


@pytest.mark.timeout(300)
def test_the_agents_package_is_put_in_by_the_guests_own_dpkg(
    converted_guest: ConvertedGuest, tmp_path: Path
) -> None:
    agent = next(step for step in converted_guest.result.steps if step.step is Step.AGENT)
    assert {"/usr/sbin/qemu-ga", "/lib/systemd/system/qemu-guest-agent.service"} <= set(agent.changed)
    assert "starts with its port" in agent.detail
    status = guest_file(converted_guest, "/var/lib/dpkg/status", tmp_path)
    installed = {one.name for one in installed_packages(status)}
    assert {"qemu-guest-agent", "liburing2", "libnuma1", "open-vm-tools"} <= installed
    assert guest_file(converted_guest, "/usr/sbin/policy-rc.d", tmp_path) == "", "nor is the ban left"
    assert len(guest_file(converted_guest, "/lib/udev/rules.d/60-qemu-guest-agent.rules", tmp_path)) > 0


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
def test_a_cancel_ends_it_soon_and_leaves_nothing(source_guest: SourceGuest, staging: Staging) -> None:
    running = attempt()
    before = source_guest.disk.stat().st_mtime_ns

    def cancel() -> None:
        time.sleep(2)
        running.stop()

    with once(lambda: is_worked_on(staging.folder), cancel) as worked_on, pytest.raises(CancelledError):
        convert_guest(source_guest.order(staging, source_guest.disk), running)
    assert worked_on.seconds < 2 + SOON_SECONDS
    assert overlays(staging) == []
    assert source_guest.disk.stat().st_mtime_ns == before
    # What was killed has memory to give back.
    until(lambda: not is_worked_on(staging.folder), "the appliance has outlived its child", SOON_SECONDS)
