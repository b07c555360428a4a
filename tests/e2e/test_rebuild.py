"""A guest whose initramfs takes what is appended, and yet does not boot until its own tool makes it anew."""

import os
import subprocess
from pathlib import Path

import guestfs
import pytest

from deploy.dev.guest.build import make_guest
from deploy.dev.guest.recipe import DEMO
from hyperctl.activities.acceleration import libguestfs_environment
from hyperctl.activities.convert.linux.cpio import Entry, padding, write_segment
from hyperctl.workflows.guest import Outcome, Step
from hyperctl.workflows.status import MigrationResult
from tests.e2e.conftest import Running
from tests.found_out import AGAIN

BOOT = "/dev/sda1"
LOADS_NOTHING = write_segment(
    [
        Entry("usr/sbin/modprobe", 0o100755, b"#!/bin/sh\nexit 0\n"),
        Entry("usr/lib/udev/rules.d/80-drivers.rules", 0o100644, b""),
    ]
)
"""Whoever made it put the drivers of VMware's disks into the kernel, and left no way to load any other."""


def make_disk(folder: Path) -> Path:
    """The demo's guest, every initramfs of which loads no module, whatever it holds and lists."""
    image = folder / "stubborn.raw"
    disk = make_guest(DEMO) / DEMO.name / "disk1.raw"
    subprocess.run(["cp", "--reflink=auto", "--sparse=always", str(disk), str(image)], check=True)
    os.environ.update(libguestfs_environment())
    guest = guestfs.GuestFS(python_return_dict=True)
    try:
        guest.add_drive_opts(str(image), format="raw")
        guest.launch()
        guest.mount(BOOT, "/")
        for path in guest.glob_expand("/initrd.img-*"):
            size = guest.filesize(path)
            guest.pwrite(path, padding(size) + LOADS_NOTHING, size)
        guest.shutdown()
    finally:
        guest.close()
    return image


@pytest.mark.timeout(2400)
@pytest.mark.skipif(not AGAIN, reason="three boots of minutes: make test-guests")
def test_an_appended_initramfs_that_does_not_boot_is_made_anew(stack: Running, tmp_path: Path) -> None:
    image = make_disk(tmp_path)
    asked = ("--file", str(image), "--source-format", "raw", "--prove", "full")
    done = stack.hyperctl("convert", *asked, timeout_seconds=2200)
    assert done.returncode == 0, done.stdout + done.stderr
    (document,) = stack.output_dir.glob("????-??-??/stubborn/migration.json")
    result = MigrationResult.model_validate_json(document.read_text())
    steps = {step.step: step for step in result.steps}
    assert steps[Step.REBUILD].outcome is Outcome.DONE
    assert "mkinitramfs" in steps[Step.REBUILD].detail
    assert result.proof is not None
    assert result.proof.passed, result.proof.problems
    (warning,) = [one for one in result.warnings if "rebuilt" in one]
    assert "root device not found" in warning
    evidence = document.parent / "evidence"
    assert (evidence / "first-proof.png").read_bytes().startswith(b"\x89PNG"), "what the first boot showed"
    assert b"does not exist" in (evidence / "first-proof.serial.log").read_bytes()
    assert b"HYPERCTL-PROOF-BEGIN full" in (evidence / "proof.report.txt").read_bytes()
