"""What an earlier attempt of a job has copied, and of which state of its machine."""

from pathlib import Path

from hyperctl.activities.export.ledger import Ledger, recover_ledger
from hyperctl.activities.export.vsphere import disk_identity
from hyperctl.activities.staging import Staging
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.session import Session
from hyperctl.workflows.contract import EXPORT_DISKS, ExportResult
from hyperctl.workflows.request import DiskFormat
from hyperctl.workflows.source import Snapshot


def holds_all_of(staging: Staging, snapshot: Snapshot, image_format: DiskFormat) -> bool:
    """Whether every disk of this snapshot is there, in this format and whole as its ledger says."""
    result = staging.finished(EXPORT_DISKS.name, ExportResult)
    if result is None or not all(
        disk.format == image_format and Path(disk.path).exists() for disk in result.disks
    ):
        return False
    return all(
        ledger is not None and ledger.finish is not None and _is_of(ledger, snapshot)
        for ledger in _ledgers(staging)
    )


def is_of_present_state(staging: Staging, session: Session, source: SourceMachine) -> bool:
    """Whether the copy is of the machine as it is now: it has not been running since."""
    present = {disk_identity(session, source, disk) for disk in source.machine.disks}
    ledgers = _ledgers(staging)
    return bool(ledgers) and all(ledger is not None and ledger.header.source in present for ledger in ledgers)


def _ledgers(staging: Staging) -> list[Ledger | None]:
    """The ledgers of a finished copy; none where there is no such copy."""
    result = staging.finished(EXPORT_DISKS.name, ExportResult)
    return [recover_ledger(staging.ledger(disk.index)) for disk in result.disks] if result else []


def _is_of(ledger: Ledger, snapshot: Snapshot) -> bool:
    return snapshot.state in ledger.header.source.splitlines()
