"""The target's preflight, with libvirt's own test driver for libvirt."""

import logging
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import libvirt
import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.commit import MARKER, Begun
from hyperctl.activities.output import RESULT_FILE, output_folder
from hyperctl.activities.plan_target import TargetPreflight
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.activities.target.domain import METADATA_NAMESPACE
from hyperctl.activities.target.libvirt_host import connect
from hyperctl.workflows.contract import PlanTargetInput
from hyperctl.workflows.errors import ErrorCode
from hyperctl.workflows.hardware import DiskBus, Hardware, NicModel
from hyperctl.workflows.machine import Firmware, Machine
from hyperctl.workflows.plan import TargetPlan
from hyperctl.workflows.request import Fixers, MigrationRequest, ProveMode, VCenter
from hyperctl.workflows.status import Phase
from tests.unit.machines import GIB, disk, machine, nic

LIBVIRT = "test:///default"
"""libvirt's driver for tests: in this process, with a running domain `test` and a network `default`."""


def plan(folder: Path, about: Machine | None = None, uri: str = LIBVIRT, **request: Any) -> TargetPlan:
    request = {"to_libvirt": True, "output_dir": str(folder), **request}
    argument = PlanTargetInput(
        job_id="job-1",
        request=MigrationRequest(vm_name="web-server-01", vcenter=VCenter(server="vc"), **request),
        machine=about or machine(),
    )
    settings = HostSettings(libvirt_uri=uri, work_dir=folder / "work")
    return TargetPreflight(argument, settings, Attempt(Phase.PLAN, logging.getLogger("test"))).plan()


def codes(found: TargetPlan) -> list[ErrorCode]:
    return [failure.code for failure in found.problems if failure.code is not ErrorCode.HOST_INCAPABLE]


def test_a_host_with_everything_is_fine(tmp_path: Path) -> None:
    found = plan(tmp_path / "made" / "later")
    assert codes(found) == []
    assert found.output_dir == str(tmp_path / "made" / "later")
    assert found.free_bytes > found.needed_bytes > GIB
    assert not (tmp_path / "made").exists(), "a preflight leaves nothing behind"


def test_every_problem_at_once(tmp_path: Path) -> None:
    today = output_folder(str(tmp_path), f"{datetime.now(UTC):%Y-%m-%d}", "test")
    today.mkdir(parents=True)
    huge = machine(
        name="test",
        allocated_bytes=1 << 60,
        disks=(disk(1, 1 << 60),),
        nics=(nic(1, network="Storage"), nic(2, network="Lab")),
    )
    found = plan(tmp_path, huge, network_map={"Storage": "bridge:no-such-bridge", "Lab": "no-such-network"})
    assert codes(found) == [
        ErrorCode.OUTPUT_EXISTS,
        ErrorCode.NO_SPACE,
        ErrorCode.DOMAIN_EXISTS,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_REQUEST,
    ]
    messages = [failure.message for failure in found.problems]
    assert any("GiB are missing" in message and str(tmp_path) in message for message in messages)
    assert any("'no-such-network'" in message for message in messages)
    assert any("'no-such-bridge'" in message for message in messages)
    assert all(failure.hint for failure in found.problems)


def test_a_domain_of_an_earlier_migration_is_not_this_ones(tmp_path: Path) -> None:
    with connect(LIBVIRT) as connection:
        element = f'<migration job="job-1" xmlns="{METADATA_NAMESPACE}"/>'
        kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
        connection.lookupByName("test").setMetadata(kind, element, "hyperctl", METADATA_NAMESPACE)
        found = plan(tmp_path, machine(name="test"))
        assert codes(found) == [ErrorCode.DOMAIN_EXISTS]
        assert "earlier migration" in found.problems[-1].message
        staging = Staging(tmp_path, "job-1")
        staging.create()
        (staging.folder / MARKER).write_text(Begun(folder=str(tmp_path / "out")).model_dump_json())
        assert codes(plan(tmp_path, machine(name="test"))) == [], "a retry goes on with what it defined"


def test_libvirt_is_asked_only_where_it_is_needed(tmp_path: Path) -> None:
    nowhere = "test:///no/such/file"
    found = plan(tmp_path, uri=nowhere)
    assert codes(found) == [ErrorCode.LIBVIRT_UNREACHABLE]
    assert nowhere in found.problems[-1].message
    assert "systemctl start libvirtd" in found.problems[-1].hint
    assert codes(plan(tmp_path, uri=nowhere, to_libvirt=False)) == [ErrorCode.LIBVIRT_UNREACHABLE], (
        "for the proof"
    )
    assert codes(plan(tmp_path, uri=nowhere, to_libvirt=False, prove=ProveMode.NONE)) == []


def test_disks_that_may_fill_up_are_a_warning(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    found = plan(tmp_path, machine(disks=(disk(1, 2 * free),)))
    assert codes(found) == []
    assert any("not for disks that fill up" in warning for warning in found.warnings)


def test_what_has_landed_is_not_needed_again(tmp_path: Path) -> None:
    before = plan(tmp_path).needed_bytes
    staging = Staging(tmp_path, "job-1")
    staging.create()
    staging.image(1).write_bytes(b"x" * (8 << 20))
    assert before - plan(tmp_path).needed_bytes >= 8 << 20


def test_the_jobs_own_output_is_not_in_its_way(tmp_path: Path) -> None:
    today = output_folder(str(tmp_path), f"{datetime.now(UTC):%Y-%m-%d}", "web-server-01")
    today.mkdir(parents=True)
    assert codes(plan(tmp_path)) == [ErrorCode.OUTPUT_EXISTS]
    staging = Staging(tmp_path, "job-1")
    staging.create()
    (staging.folder / MARKER).write_text(Begun(folder=str(today)).model_dump_json())
    assert codes(plan(tmp_path)) == []


def test_an_earlier_result_of_the_job_is_not_in_its_way(tmp_path: Path) -> None:
    today = output_folder(str(tmp_path), f"{datetime.now(UTC):%Y-%m-%d}", "web-server-01")
    today.mkdir(parents=True)
    for owner, expected in (("job-2", [ErrorCode.OUTPUT_EXISTS]), ("job-1", [])):
        (today / RESULT_FILE).write_text(f'{{"job_id": "{owner}"}}')
        assert codes(plan(tmp_path)) == expected


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert codes(plan(tmp_path / "file" / "output")) == [ErrorCode.OUTPUT_UNUSABLE]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    assert codes(plan(Path("/proc/hyperctl/output"))) == [ErrorCode.OUTPUT_UNUSABLE]


def test_without_a_machine_the_host_is_checked_all_the_same(tmp_path: Path) -> None:
    argument = PlanTargetInput(
        job_id="job-1",
        request=MigrationRequest(
            vm_name="test", vcenter=VCenter(server="vc"), to_libvirt=True, output_dir=str(tmp_path)
        ),
        machine=None,
    )
    settings = HostSettings(libvirt_uri=LIBVIRT, work_dir=tmp_path)
    found = TargetPreflight(argument, settings, Attempt(Phase.PLAN, logging.getLogger("test"))).plan()
    assert codes(found) == [ErrorCode.DOMAIN_EXISTS]
    assert found.needed_bytes == 0


def test_uefi_needs_firmware_or_says_what_to_install(tmp_path: Path) -> None:
    found = plan(tmp_path, machine(firmware=Firmware.EFI, secure_boot=True))
    for failure in found.problems:
        assert failure.code is ErrorCode.HOST_INCAPABLE
        assert "Install" in failure.hint


def test_a_folder_of_packages_that_is_not_there(tmp_path: Path) -> None:
    found = plan(tmp_path, guest_packages=str(tmp_path / "packages"))
    assert codes(found) == [ErrorCode.INVALID_REQUEST]
    assert str(tmp_path / "packages") in found.problems[-1].message
    (tmp_path / "packages").mkdir()
    assert codes(plan(tmp_path, guest_packages=str(tmp_path / "packages"))) == []


def test_a_windows_machine_needs_more_of_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERCTL_VIRT_TOOLS_DIR", str(tmp_path))
    monkeypatch.setenv("HYPERCTL_VIRTIO_WIN", str(tmp_path / "gone.iso"))
    windows = machine(guest_id="windows2019srv_64Guest")

    def lacks(about: Machine, **request: Any) -> str:
        found = plan(tmp_path, about, **request).problems
        return "; ".join(one.message for one in found if "Windows" in one.message)

    assert lacks(machine()) == ""
    assert "no rhsrvany.exe" in lacks(windows)
    assert "gone.iso" in lacks(windows)
    without = Hardware(disk_bus=DiskBus.SATA, nic_model=NicModel.E1000E)
    assert "gone.iso" not in lacks(windows, hardware=without)
    assert lacks(windows, fix=Fixers(virtio=False)) == ""


def test_a_tpm_needs_its_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert any("swtpm" in warning for warning in plan(tmp_path, machine(tpm=True)).warnings)
    assert not any("swtpm" in warning for warning in plan(tmp_path, machine()).warnings)
