"""Reading landed images again against their ledgers, so that only what is wrong is fetched again."""

import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

from temporalio import activity

from hyperctl.activities.attempt import Attempt, attempt
from hyperctl.activities.commit import commit_begun
from hyperctl.activities.export.disks import only_copier
from hyperctl.activities.export.ledger import Ledger, LedgerError, read_ledger, record_lost
from hyperctl.activities.export.rate import RateMeter, eta_seconds, overall
from hyperctl.activities.export.space import storage_errors
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.activities.verify.compare import data_blocks, differing
from hyperctl.activities.verify.landed import LandedReader, open_landed
from hyperctl.activities.verify.sample import choose
from hyperctl.activities.verify.statement import verified
from hyperctl.activities.verify.structure import StructureError
from hyperctl.workflows.contract import EXPORT_DISKS, VERIFY_DISKS, VerifyInput, VerifyResult
from hyperctl.workflows.disk import LandedDisk, VerifiedDisk
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.request import VerifyMode
from hyperctl.workflows.status import DiskProgress, Phase

EXTENTS_NAMED = 8
REPORT_SECONDS = 0.5


class VerifyActivities:
    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    @activity.defn(name=VERIFY_DISKS.name, no_thread_cancel_exception=True)
    def verify_disks(self, argument: VerifyInput) -> VerifyResult:
        """Prove that what is on disk is what was received."""
        with attempt(Phase.VERIFY, argument.job_id, self._settings.log_dir) as running:
            return verify_disks(argument, running)


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with a disk."""

    disk: LandedDisk
    text: str
    lost: tuple[range, ...] = ()
    """The blocks to fetch again; none where nothing of the disk can be used."""

    def __str__(self) -> str:
        return f"disk{self.disk.index} ({self.disk.source_name}): {self.text}"


def verify_disks(argument: VerifyInput, running: Attempt) -> VerifyResult:
    """Verify all disks of a job.

    Raises `HyperctlError` (`verification_failed`) that names every disk and extent that differs. What
    differs is recorded as lost before, so that a retry fetches it anew, and only it; a disk whose ledger or
    size is wrong loses its ledger, and is fetched as a whole.
    """
    staging = Staging(argument.output_dir, argument.job_id)
    with storage_errors(staging.folder, 0):
        return _verify_disks(argument, staging, running)


def _verify_disks(argument: VerifyInput, staging: Staging, running: Attempt) -> VerifyResult:
    before = staging.finished(VERIFY_DISKS.name, VerifyResult)
    if commit_begun(staging) is not None:
        # The images hold the conversion by now: they differ from their ledgers, as they should.
        running.log.info("the images are final")
        return before or VerifyResult(duration_seconds=0.0)
    if before is not None and _covers(before, argument):
        running.log.info("verified already")
        return before
    started = time.monotonic()
    if argument.mode is VerifyMode.NONE:
        return VerifyResult(duration_seconds=0.0)
    proved: list[VerifiedDisk] = []
    complaints: list[Complaint] = []
    board = _Board(argument.disks, running)
    for disk in argument.disks:
        outcome = _verify(disk, argument.mode, board, running)
        if isinstance(outcome, Complaint):
            running.log.error("%s", outcome)
            complaints.append(outcome)
        else:
            running.log.info("%s", outcome.statement)
            proved.append(outcome)
    if complaints:
        _lose(complaints, staging, running)
        raise HyperctlError(
            ErrorCode.VERIFICATION_FAILED,
            "; ".join(map(str, complaints)),
            "A retry fetches what is wrong. If it happens again, suspect the target host's disk or memory.",
        )
    result = VerifyResult(disks=tuple(proved), duration_seconds=time.monotonic() - started)
    staging.finish(VERIFY_DISKS.name, result)
    return result


def _covers(before: VerifyResult, argument: VerifyInput) -> bool:
    """Whether an earlier verification was of these very disks, as thorough, and they are still there."""
    done = {(disk.index, disk.root_digest): disk for disk in before.disks}
    for disk in argument.disks:
        earlier = done.get((disk.index, disk.root_digest))
        if earlier is None or not Path(disk.path).exists():
            return False
        if argument.mode is VerifyMode.FULL and not earlier.is_whole:
            return False
    return True


def _verify(
    disk: LandedDisk, mode: VerifyMode, board: "_Board", running: Attempt
) -> VerifiedDisk | Complaint:
    try:
        ledger = read_ledger(Path(disk.ledger))
        _check_ledger(disk, ledger)
        with open_landed(disk, running) as reader:
            return _compare(disk, ledger, reader, mode, board)
    except (LedgerError, StructureError) as error:
        return Complaint(disk, str(error))
    except FileNotFoundError as error:
        if error.filename not in (disk.path, disk.ledger):
            raise  # a programme of this host
        return Complaint(disk, f"{error.filename} is gone")
    except OSError as error:
        raise HyperctlError(
            ErrorCode.STORAGE_FAILED,
            f"cannot read {disk.path}: {error.strerror or error}",
            "Check the target host's disk and file system (dmesg).",
        ) from error


def _check_ledger(disk: LandedDisk, ledger: Ledger) -> None:
    """Raises `LedgerError` unless it is the whole, undamaged ledger that the export made of this disk."""
    if ledger.finish is None or ledger.valid_bytes != os.stat(disk.ledger).st_size:
        raise LedgerError("its ledger is damaged or unfinished")
    if ledger.finish.root_digest != disk.root_digest:
        raise LedgerError("its ledger is not the one that the export made")
    if ledger.header.capacity_bytes != disk.capacity_bytes:
        raise LedgerError(
            f"its ledger is of a disk of {ledger.header.capacity_bytes} bytes, not {disk.capacity_bytes}"
        )


def _compare(
    disk: LandedDisk, ledger: Ledger, reader: LandedReader, mode: VerifyMode, board: "_Board"
) -> VerifiedDisk | Complaint:
    with_data = data_blocks(ledger)
    chosen = choose(with_data, random.SystemRandom()) if mode is VerifyMode.SAMPLE else with_data
    board.expect(disk, sum(ledger.header.length(block) for block in chosen))
    extents = differing(reader, ledger, chosen, lambda size: board.advance(disk, size))
    board.finish(disk)
    if not extents:
        return verified(disk, ledger, mode, len(with_data), len(chosen), reader.structure)
    if len(chosen) < len(with_data):
        # Damage seldom comes alone: now that there is some, all of it is looked for.
        board.expect(disk, sum(ledger.header.length(block) for block in with_data))
        extents = differing(reader, ledger, with_data, lambda size: board.advance(disk, size))
        board.finish(disk)
    named = ", ".join(map(str, extents[:EXTENTS_NAMED]))
    more = f" and {len(extents) - EXTENTS_NAMED} more" if len(extents) > EXTENTS_NAMED else ""
    lost = tuple(extent.blocks for extent in extents)
    return Complaint(disk, f"the image differs from what was received: {named}{more}", lost)


def _lose(complaints: list[Complaint], staging: Staging, running: Attempt) -> None:
    """Have a retry fetch what is wrong, and nothing that is right."""
    with only_copier(staging, running):
        staging.forget(EXPORT_DISKS.name)
        for complaint in complaints:
            ledger = Path(complaint.disk.ledger)
            try:
                if complaint.lost:
                    record_lost(ledger, complaint.lost)
                    continue
            except (LedgerError, OSError) as error:
                running.log.warning("%s: %s", ledger, error)
            ledger.unlink(missing_ok=True)


class _Board:
    """Tells how far the reading is, in bytes of data: holes cost nothing."""

    def __init__(self, disks: tuple[LandedDisk, ...], running: Attempt) -> None:
        self._disks = disks
        self._done = {disk.index: 0 for disk in disks}
        self._total = {disk.index: disk.allocated_bytes for disk in disks}
        self._read = 0
        self._known: set[int] = set()
        self._finished: set[int] = set()
        self._running = running
        self._meter = RateMeter()
        self._last = 0.0

    def expect(self, disk: LandedDisk, size: int) -> None:
        """So much of a disk will be read, from its beginning."""
        self._done[disk.index], self._total[disk.index] = 0, size
        self._known.add(disk.index)
        self._finished.discard(disk.index)
        self._report(disk)

    def advance(self, disk: LandedDisk, size: int) -> None:
        self._done[disk.index] += size
        self._read += size
        if time.monotonic() - self._last < REPORT_SECONDS:
            self._running.checkpoint()
        else:
            self._report(disk)

    def finish(self, disk: LandedDisk) -> None:
        self._finished.add(disk.index)
        self._report(disk)

    def _report(self, disk: LandedDisk) -> None:
        now = self._last = time.monotonic()
        rate = self._meter.sample(now, self._read)
        disks = tuple(self._progress(each, rate if each is disk else 0.0) for each in self._disks)
        self._running.report(message="reading the images again", disks=disks, overall=overall(disks, rate))

    def _progress(self, disk: LandedDisk, rate: float) -> DiskProgress:
        done, total = self._done[disk.index], self._total[disk.index]
        return DiskProgress(
            index=disk.index,
            name=disk.source_name,
            done_bytes=done,
            total_bytes=total,
            total_is_estimate=disk.index not in self._known,
            rate_bytes_per_second=rate,
            eta_seconds=eta_seconds(total - done, rate),
            finished=disk.index in self._finished,
        )
