"""Reading landed images again and comparing every block with the ledger."""

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from temporalio import activity

from hyperctl.activities.attempt import Attempt, attempt
from hyperctl.activities.commit import commit_begun
from hyperctl.activities.export.image_reader import ImageReader, open_image
from hyperctl.activities.export.ledger import Ledger, LedgerError, read_ledger
from hyperctl.activities.export.rate import RateMeter, eta_seconds
from hyperctl.activities.export.space import shown
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import EXPORT_DISKS, VERIFY_DISKS, VerifyInput, VerifyResult
from hyperctl.workflows.disk import LandedDisk
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.request import VerifyMode
from hyperctl.workflows.status import DiskProgress, Phase

THREADS = min(4, os.cpu_count() or 1)
EXTENTS_NAMED = 8
ZERO_BLOCKS_AT_ONCE = 4096
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
class Extent:
    """A piece of a disk that is not what the ledger says."""

    offset_bytes: int
    length_bytes: int

    def __str__(self) -> str:
        return f"{self.length_bytes} bytes at {self.offset_bytes}"


def verify_disks(argument: VerifyInput, running: Attempt) -> VerifyResult:
    """Verify all disks of a job.

    Raises `HyperctlError` (`verification_failed`) that names every disk and extent that differs. The
    records of a disk that differs are dropped before, so that a retry fetches it anew, and only it.
    """
    staging = Staging(argument.output_dir, argument.job_id)
    before = staging.finished(VERIFY_DISKS.name, VerifyResult)
    if commit_begun(staging) is not None:
        # The images hold the conversion by now: they differ from their ledgers, as they should.
        running.log.info("the images are final")
        return before or VerifyResult(proved=(), duration_seconds=0.0)
    if before is not None and all(Path(disk.path).exists() for disk in argument.disks):
        running.log.info("verified already")
        return before
    started = time.monotonic()
    if argument.mode is VerifyMode.NONE:
        return VerifyResult(proved=(), duration_seconds=0.0)
    proved: list[str] = []
    complaints: list[str] = []
    board = _Board(argument.disks, running)
    for disk in argument.disks:
        complaint = _complaint(disk, board, running)
        if complaint:
            running.log.error("%s", complaint)
            complaints.append(complaint)
            staging.forget(EXPORT_DISKS.name)
            Path(disk.ledger).unlink(missing_ok=True)
        else:
            proved.append(_statement(disk))
            running.log.info("%s", proved[-1])
    if complaints:
        raise HyperctlError(
            ErrorCode.VERIFICATION_FAILED,
            "; ".join(complaints),
            "A retry fetches the disk anew. If it happens again, suspect the target host's disk or memory.",
        )
    result = VerifyResult(proved=tuple(proved), duration_seconds=time.monotonic() - started)
    staging.finish(VERIFY_DISKS.name, result)
    return result


def differing_extents(
    image: ImageReader, disk: LandedDisk, ledger: Ledger, board: "_Board | None" = None
) -> list[Extent]:
    """The blocks of an image that are not what the ledger says; neighbours are one extent."""
    header = ledger.header
    found: list[Extent] = []
    window: deque[tuple[range, Future[list[int]]]] = deque()

    def settle() -> None:
        blocks, future = window.popleft()
        for block in future.result():
            offset, length = block * header.block_bytes, header.length(block)
            last = found[-1] if found else None
            if last is not None and last.offset_bytes + last.length_bytes == offset:
                found[-1] = Extent(last.offset_bytes, last.length_bytes + length)
            else:
                found.append(Extent(offset, length))
        if board is not None:
            board.advance(disk, sum(header.length(block) for block in blocks))

    with ThreadPoolExecutor(THREADS, "verify") as pool:
        try:
            for blocks in _portions(ledger):
                window.append((blocks, pool.submit(_wrong, image, ledger, blocks)))
                if len(window) >= 2 * THREADS:
                    settle()
            while window:
                settle()
        finally:
            for _, future in window:
                future.cancel()
    return found


def _portions(ledger: Ledger) -> Iterator[range]:
    """The blocks one by one, but runs of zeroes together: a hole costs a system call, however wide it is."""
    start = 0
    for block in range(ledger.header.blocks):
        if not ledger.blocks.is_zero(block):
            if start < block:
                yield range(start, block)
            yield range(block, block + 1)
            start = block + 1
        elif block - start + 1 == ZERO_BLOCKS_AT_ONCE:
            yield range(start, block + 1)
            start = block + 1
    if start < ledger.header.blocks:
        yield range(start, ledger.header.blocks)


def _wrong(image: ImageReader, ledger: Ledger, blocks: range) -> list[int]:
    """The blocks of a portion that are not what the ledger says."""
    header = ledger.header
    size = header.block_bytes
    if not ledger.blocks.is_zero(blocks.start):
        content = image.read(blocks.start * size, header.length(blocks.start))
        right = header.digest(content) == ledger.blocks.digest(blocks.start)
        return [] if right else [blocks.start]
    end = min(blocks.stop * size, header.capacity_bytes)
    wrong: set[int] = set()
    for start, stop in image.data_extents(blocks.start * size, end - blocks.start * size):
        for at in range(start - start % size, stop, size):
            if _has_data(image, max(at, start), min(at + size, stop)):
                wrong.add(at // size)
    return sorted(wrong)


def _has_data(image: ImageReader, start: int, end: int) -> bool:
    data = image.read(start, end - start)
    return data.count(0) != len(data)


def _complaint(disk: LandedDisk, board: "_Board", running: Attempt) -> str:
    """What is wrong with a disk, in words; empty where nothing is."""
    name = f"disk{disk.index} ({disk.source_name})"
    try:
        ledger = read_ledger(Path(disk.ledger))
    except (LedgerError, OSError) as error:
        return f"{name}: its ledger cannot be read: {error}"
    if ledger.finish is None or ledger.valid_bytes != Path(disk.ledger).stat().st_size:
        return f"{name}: its ledger is damaged or unfinished"
    if ledger.finish.root_digest != disk.root_digest:
        return f"{name}: its ledger is not the one that the export made"
    if ledger.header.capacity_bytes != disk.capacity_bytes:
        return f"{name}: its ledger is of a disk of another size"
    try:
        with open_image(Path(disk.path), disk.format, disk.capacity_bytes, running) as image:
            extents = differing_extents(image, disk, ledger, board)
    except (FileNotFoundError, ValueError) as error:
        return f"{name}: its image cannot be opened: {error}"
    except OSError as error:
        # That says nothing of what is in the image: it is not thrown away for it.
        raise HyperctlError(
            ErrorCode.STORAGE_FAILED,
            f"{name}: {disk.path} cannot be read: {error}",
            "Check the target host's disk and file system (dmesg).",
        ) from error
    if not extents:
        return ""
    named = ", ".join(map(str, extents[:EXTENTS_NAMED]))
    more = f" and {len(extents) - EXTENTS_NAMED} more" if len(extents) > EXTENTS_NAMED else ""
    return f"{name}: the image differs from what was received: {named}{more}"


def _statement(disk: LandedDisk) -> str:
    source = (
        f"; the stream it came from has the checksum that the source states ({disk.source_checksum})"
        if disk.source_checksum
        else "; the source states no checksum of its own"
    )
    return (
        f"disk{disk.index} ({disk.source_name}): all {shown(disk.capacity_bytes)} were read again and equal "
        f"what was received, block by block ({disk.digest_algorithm}, root {disk.root_digest}){source}"
    )


class _Board:
    """Tells how far the reading is."""

    def __init__(self, disks: tuple[LandedDisk, ...], running: Attempt) -> None:
        self._disks = disks
        self._done = {disk.index: 0 for disk in disks}
        self._running = running
        self._meter = RateMeter()
        self._last = 0.0

    def advance(self, disk: LandedDisk, size: int) -> None:
        self._done[disk.index] += size
        now = time.monotonic()
        if now - self._last < REPORT_SECONDS and self._done[disk.index] < disk.capacity_bytes:
            self._running.checkpoint()
            return
        self._last = now
        rate = self._meter.sample(now, sum(self._done.values()))
        self._running.report(
            message="reading the images again",
            disks=tuple(self._progress(each, rate if each is disk else 0.0) for each in self._disks),
        )

    def _progress(self, disk: LandedDisk, rate: float) -> DiskProgress:
        done = self._done[disk.index]
        return DiskProgress(
            index=disk.index,
            name=disk.source_name,
            done_bytes=done,
            total_bytes=disk.capacity_bytes,
            rate_bytes_per_second=rate,
            eta_seconds=eta_seconds(disk.capacity_bytes - done, rate),
            finished=done >= disk.capacity_bytes,
        )
