"""The transport by VMware's library, which is not here: another plugin of nbdkit serves the same disks.

Only the command line of the server differs; that of the library has golden files.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export import disks as export_disks_module
from hyperctl.activities.export.activity import export_disks
from hyperctl.activities.export.ledger import read_ledger
from hyperctl.activities.export.transport import Terms
from hyperctl.activities.export.vddk import VddkMachine
from hyperctl.activities.export.vsphere import opened_machine
from hyperctl.activities.nbd.command import nbdkit
from hyperctl.activities.nbd.server import NbdServer
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.activities.vsphere.certificate import Trust, sha1_thumbprint, trusted_certificate
from hyperctl.activities.vsphere.inventory import find_machine
from hyperctl.activities.vsphere.session import open_session
from hyperctl.workflows.contract import ExportInput, ExportResult
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import MachineDisk
from hyperctl.workflows.request import DiskFormat
from tests.integration.ledgers import known_blocks
from tests.integration.orders import export_input
from tests.moments import until
from tests.simulator import VCenterSimulator

from .conftest import MIB

VM = "web-server-01"


@pytest.fixture(params=list(DiskFormat))
def argument(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, request: pytest.FixtureRequest
) -> ExportInput:
    return export_input(sim, settings, running, VM, "vddk", format=request.param)


@pytest.fixture
def filters(sim: VCenterSimulator, argument: ExportInput, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """nbdkit's file plugin in the library's place, behind the filters that a test names."""
    chosen: list[str] = []
    paths = [str(sim.raw_disk(VM, index)) for index in (1, 2)]
    monkeypatch.setitem(export_disks_module.TRANSPORTS, "vddk", transport_of(paths, chosen))
    return chosen


def transport_of(paths: list[str], filters: list[str]):  # type: ignore[no-untyped-def]
    @contextmanager
    def transport(argument: ExportInput, settings: HostSettings, terms: Terms) -> Iterator[VddkMachine]:
        with opened_machine(argument, settings, terms.attempt) as (session, source):
            keys = [disk.key for disk in source.machine.disks]

            def serve(disk: MachineDisk) -> NbdServer:
                path = paths[keys.index(disk.key)]
                names = [name for name in filters if name.startswith("--")]
                options = [name for name in filters if not name.startswith("--")]
                return NbdServer(
                    lambda place: (*nbdkit(place), *names, "file", f"file={path}", *options),
                    terms.attempt,
                )

            yield VddkMachine(session, source, terms, argument.connections, serve)

    return transport


def assert_right(sim: VCenterSimulator, result: ExportResult) -> None:
    for disk in result.disks:
        raw = str(sim.raw_disk(VM, disk.index))
        compare = ["qemu-img", "compare", "-q", "-f", "raw", "-F", disk.format, raw, disk.path]
        assert subprocess.run(compare).returncode == 0


def test_a_copy_reads_only_what_is_no_hole(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput, filters: list[str]
) -> None:
    result = export_disks(argument, settings, running)
    assert_right(sim, result)
    assert result.disks[0].received_bytes < result.disks[0].capacity_bytes
    assert result.disks[0].source_checksum == ""


def test_a_source_that_fails_for_a_while_is_read_on(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    filters: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every read fails until three of them were told of; the server, with its other connections, stays."""
    trigger = tmp_path / "failing"
    trigger.touch()
    filters += ["--filter=error", "error-pread-rate=100%", f"error-file={trigger}"]

    def mend(record: logging.LogRecord) -> bool:
        if sum("cannot be read" in told for told in (*caplog.messages, record.getMessage())) >= 3:
            trigger.unlink(missing_ok=True)
        return True

    running.log.addFilter(mend)
    try:
        assert_right(sim, export_disks(argument, settings, running))
    finally:
        running.log.removeFilter(mend)
    assert not trigger.exists()
    assert "has ended" not in caplog.text


def test_a_machine_that_was_started_meanwhile_is_not_a_copy(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    filters: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = export_disks_module.Copying.run

    def started_meanwhile(copying: export_disks_module.Copying) -> None:
        for state in ("poweredOn", "poweredOff"):
            sim.call("POST", f"/vms/{VM}/power", {"state": state})
        copy(copying)

    monkeypatch.setattr(export_disks_module.Copying, "run", started_meanwhile)
    with pytest.raises(HyperctlError, match="while its disks were read") as caught:
        export_disks(argument, settings, running)
    assert caught.value.code is ErrorCode.VM_POWERED_ON


WORKER = """
import logging, sys, json
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export import disks, landing
from hyperctl.activities.export.activity import export_disks
from hyperctl.activities.settings import HostSettings
from hyperctl.workflows.contract import ExportInput
from hyperctl.workflows.status import Phase
from tests.integration.test_vddk import transport_of
argument, paths, filters = json.loads(sys.stdin.read())
landing.SYNC_BYTES = 4 << 20
disks.TRANSPORTS["vddk"] = transport_of(paths, filters)
export_disks(ExportInput.model_validate(argument), HostSettings(), Attempt(Phase.EXPORT, logging.getLogger()))
"""


def test_a_killed_worker_is_gone_on_from_within_a_disk(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    filters: list[str],
    staging: Staging,
    tmp_path: Path,
) -> None:
    """A first attempt lands some blocks, by reads that are slow, and is killed."""
    big = tmp_path / "big.raw"
    noise = sim.raw_disk(VM, 1).read_bytes()[MIB : 5 * MIB]
    capacity = argument.machine.disks[0].capacity_bytes
    big.write_bytes((noise * 7)[:capacity])
    paths = [str(big), str(sim.raw_disk(VM, 2))]
    order = [argument.model_dump(mode="json"), paths, ["--filter=delay", "rdelay=1500ms"]]
    environment = {**os.environ, "HYPERCTL_WORK_DIR": str(settings.work_dir)}
    worker = subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, env=environment)
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(order).encode())
    worker.stdin.close()
    ledger = staging.ledger(1)
    until(lambda: known_blocks(ledger) or worker.poll() is not None)
    worker.kill()
    worker.wait()
    known = known_blocks(ledger)
    received = read_ledger(ledger).received_bytes
    sim.fault("expire_sessions")  # the dead worker's own, which would idle out

    export_disks_module.TRANSPORTS["vddk"] = transport_of(paths, [])
    result = export_disks(argument, settings, running)
    compare = ["qemu-img", "compare", "-q", "-f", "raw", "-F", argument.format]
    assert subprocess.run([*compare, str(big), result.disks[0].path]).returncode == 0
    fetched = result.disks[0].received_bytes - received
    assert 0 < known < read_ledger(ledger).header.blocks
    assert fetched <= capacity - known * 4 * MIB + 4 * MIB


def test_the_thumbprint_is_of_the_certificate_that_is_trusted(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt
) -> None:
    with open_session(sim.vcenter(), settings, running) as session:
        certificate = trusted_certificate(session.endpoint, session.trust, 5.0)
        by_authority = trusted_certificate(session.endpoint, Trust(ca_file=sim.ca_file), 5.0)
        assert find_machine(session, VM, None).machine.name == VM
    openssl = ["openssl", "x509", "-in", str(sim.ca_file), "-noout", "-fingerprint", "-sha1"]
    said = subprocess.run(openssl, capture_output=True, text=True, check=True).stdout
    assert said.strip().rpartition("=")[2] == sha1_thumbprint(certificate) == sha1_thumbprint(by_authority)


def test_without_the_library_the_transport_says_so(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    with pytest.raises(HyperctlError, match="not configured") as caught:
        export_disks(argument, settings, running)
    assert caught.value.code is ErrorCode.HOST_INCAPABLE
