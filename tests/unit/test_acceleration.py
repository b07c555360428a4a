"""Acceleration: the probe tells a host where a guest runs from one where none does."""

import logging
import os
from pathlib import Path

import pytest

from hyperctl.activities import acceleration
from hyperctl.activities.acceleration import (
    Acceleration,
    libguestfs_environment,
    probe_acceleration,
    runs_a_guest,
)
from hyperctl.activities.attempt import Attempt
from hyperctl.workflows.status import Phase

KVM_ABORTS = """#!/bin/sh
echo 'qemu: error: failed to set MSR 0x10a to 0x0' >&2
exit 134
"""
GUEST_RUNS = """#!/bin/sh
exit 33
"""


@pytest.fixture
def attempt() -> Attempt:
    return Attempt(Phase.PLAN, logging.getLogger("test"))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with a KVM device, and a folder in front of its PATH for a qemu of the test's choice."""
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(acceleration, "KVM_DEVICE", device)
    monkeypatch.setattr(acceleration, "_found", None)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def _install_qemu(host: Path, script: str) -> None:
    qemu = host / acceleration.QEMU
    qemu.write_text(script)
    qemu.chmod(0o755)


def test_a_device_on_which_qemu_aborts_is_not_acceleration(host: Path) -> None:
    _install_qemu(host, KVM_ABORTS)
    assert probe_acceleration() is Acceleration.TCG


def test_a_guest_that_ran_is_acceleration(host: Path) -> None:
    _install_qemu(host, GUEST_RUNS)
    assert probe_acceleration() is Acceleration.KVM


def test_without_a_device_nothing_is_run(host: Path) -> None:
    _install_qemu(host, GUEST_RUNS)
    (host / "kvm").unlink()
    assert probe_acceleration() is Acceleration.TCG


def test_the_answer_is_kept(host: Path) -> None:
    _install_qemu(host, GUEST_RUNS)
    assert probe_acceleration() is Acceleration.KVM
    _install_qemu(host, KVM_ABORTS)
    assert probe_acceleration() is Acceleration.KVM


def test_a_host_without_qemu_runs_no_guest(
    host: Path, monkeypatch: pytest.MonkeyPatch, attempt: Attempt
) -> None:
    monkeypatch.setenv("PATH", str(host))
    assert not runs_a_guest(Acceleration.TCG, attempt)


def test_libguestfs_is_kept_from_a_broken_kvm() -> None:
    assert libguestfs_environment(Acceleration.TCG)["LIBGUESTFS_BACKEND_SETTINGS"] == "force_tcg"
    assert libguestfs_environment(Acceleration.KVM)["LIBGUESTFS_BACKEND_SETTINGS"] == ""


def test_libvirt_has_its_own_word() -> None:
    assert (Acceleration.KVM.domain_type, Acceleration.TCG.domain_type) == ("kvm", "qemu")
