"""Copies by an export lease under kill -9, and copies of each kind whose vCenter restarts under them."""

import random
import threading
from pathlib import Path

import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.activity import export_disks
from hyperctl.activities.export.ledger import read_ledger
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import ExportInput, ExportResult
from hyperctl.workflows.errors import HyperctlError
from tests.integration.orders import export_input
from tests.moments import until
from tests.simulator import USERNAME, VCenterSimulator, running_vcenter

from .conftest import MIB, PASSWORD, make_guest, sha256
from .exporting import kill, start_export

VM = "web-server-01"
SIZES = [24 * MIB + 199 * 1024, 9 * MIB]
RESTARTED = "db-server-01"


@pytest.mark.parametrize("seed", range(20))
def test_a_kill_costs_only_disks_that_were_not_whole(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, seed: int
) -> None:
    argument = export_input(sim, settings, running, VM, "nfc")
    staging = Staging(argument.output_dir, argument.job_id)
    streams = [(sim.guests / VM / f"disk{index}.vmdk").stat().st_size for index in (1, 2)]
    before = sim.sent_bytes()
    sim.fault("slow", vm=VM, bytes_per_second=4 * MIB)
    worker = start_export(argument, settings)
    goal = random.Random(seed).uniform(0.02, 0.98) * sum(streams)
    until(lambda: not worker.is_alive() or sim.sent_bytes() - before >= goal)
    kill(worker)
    assert sim.sent_bytes() - before >= goal, "it had ended before it was killed"
    sim.call("DELETE", "/faults")
    sim.fault("expire_sessions")  # the dead worker's own, and its lease with it
    whole = [
        staging.ledger(index).exists() and read_ledger(staging.ledger(index)).finish is not None
        for index in (1, 2)
    ]
    between = sim.sent_bytes()

    result = export_disks(argument, settings, running)

    for disk in result.disks:
        assert sha256(Path(disk.path)) == sha256(sim.raw_disk(VM, disk.index))
    missing = sum(size for size, done in zip(streams, whole, strict=True) if not done)
    # The simulator may have been writing to the dead worker still when it was asked first.
    assert missing <= sim.sent_bytes() - between < missing + MIB


@pytest.fixture
def guests(tmp_path: Path) -> Path:
    folder = tmp_path / "guests"
    make_guest(folder, RESTARTED, SIZES)
    return folder


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSPHERE_USERNAME", USERNAME)
    monkeypatch.setenv("VSPHERE_PASSWORD", PASSWORD)


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("transport", ["nfc", "datastore"])
def test_a_vcenter_that_restarts_under_a_copy_costs_no_byte(
    guests: Path, tmp_path: Path, settings: HostSettings, running: Attempt, transport: str
) -> None:
    state = tmp_path / "state"
    outcome: list[ExportResult | HyperctlError] = []

    def copy(argument: ExportInput) -> None:
        try:
            outcome.append(export_disks(argument, settings, running))
        except HyperctlError as error:
            outcome.append(error)

    with running_vcenter(guests, state, PASSWORD) as sim:
        argument = export_input(sim, settings, running, RESTARTED, transport)
        sim.fault("slow", vm=RESTARTED, bytes_per_second=2 * MIB)
        copying = threading.Thread(target=copy, args=(argument,))
        copying.start()
        until(lambda: not copying.is_alive() or sim.sent_bytes() >= 3 * MIB)
        assert copying.is_alive(), outcome
    with running_vcenter(guests, state, PASSWORD, listen=sim.server) as again:
        copying.join(120)
        assert not copying.is_alive()
        (first,) = outcome
        if isinstance(first, HyperctlError):
            assert first.code.is_transient, f"it is tried again by itself: {first}"
            planned = export_input(again, settings, running, RESTARTED, transport)
            first = export_disks(planned, settings, running)
        for disk in first.disks:
            assert sha256(Path(disk.path)) == sha256(guests / RESTARTED / f"disk{disk.index}.raw")
        assert again.sessions() == 0
