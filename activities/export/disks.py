"""Copying all disks of a machine: what is whole stays, the rest is fetched, several disks at a time."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.bandwidth import BandwidthOrders, run_id
from hyperctl.activities.export.datastore import datastore_transport
from hyperctl.activities.export.disk_copy import DiskCopy
from hyperctl.activities.export.file import file_transport
from hyperctl.activities.export.nfc import nfc_transport
from hyperctl.activities.export.rate import RateMeter, overall
from hyperctl.activities.export.space import check_space, free_bytes, shown, storage_errors
from hyperctl.activities.export.space_watch import SpaceWatch
from hyperctl.activities.export.throttle import Stopped, Throttle
from hyperctl.activities.export.transport import OpenSource, Terms, Transport
from hyperctl.activities.export.vddk import vddk_transport
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import BOOT_UNCONVERTED, Staging
from hyperctl.workflows.contract import CONVERT_GUEST, EXPORT_DISKS, PROVE_BOOT, VERIFY_DISKS, ExportInput
from hyperctl.workflows.disk import LandedDisk
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.request import TransportChoice

POLL_SECONDS = 0.25
STOP_SECONDS = 4.0
"""How long a copy that was told to stop is waited for."""

FOLLOWING_STEPS = (
    EXPORT_DISKS.name,
    VERIFY_DISKS.name,
    CONVERT_GUEST.name,
    BOOT_UNCONVERTED,
    PROVE_BOOT.name,
)

TRANSPORTS: dict[str, Transport] = {
    TransportChoice.NFC: nfc_transport,
    TransportChoice.DATASTORE: datastore_transport,
    TransportChoice.VDDK: vddk_transport,
    TransportChoice.FILE: file_transport,
}


def export_machine(argument: ExportInput, settings: HostSettings, running: Attempt) -> tuple[LandedDisk, ...]:
    """Have every disk of the machine as an image with a finished ledger in the job's staging folder.

    A disk that an earlier attempt finished, of the same state of the machine, is kept; of an unfinished one,
    what a transport that can read anywhere has landed. Raises `HyperctlError`; nothing that is whole is lost
    by that, and no lease is left behind.
    """
    transport = TRANSPORTS.get(argument.transport)
    if transport is None:
        raise HyperctlError(ErrorCode.INVALID_REQUEST, f"there is no transport {argument.transport!r}")
    staging = Staging(argument.output_dir, argument.job_id)
    staging.create()
    terms = Terms(running, Throttle(), settings.stream_silence_seconds)
    orders = BandwidthOrders(argument, staging, terms.throttle, running, run_id())
    with only_copier(staging, running), transport(argument, settings, terms) as source:
        # Else the transport would take an error of the storage for one of its connection.
        with storage_errors(staging.folder, 0):
            copies = [
                DiskCopy(index, disk, staging, source.identity(disk), argument.format, running)
                for index, disk in enumerate(source.machine.disks, start=1)
            ]
            is_whole = _begin(copies, staging, settings, running)
        if not is_whole:
            with source.open() as opened:
                Copying(opened, copies, orders, settings, staging, running).run()
    return tuple(copy.landed() for copy in copies)


def _begin(copies: Sequence[DiskCopy], staging: Staging, settings: HostSettings, running: Attempt) -> bool:
    """Make everything ready for what is missing; True where nothing is."""
    missing = [copy for copy in copies if copy.finish is None]
    for copy in copies:
        if copy.finish is not None:
            running.log.info("disk%d is whole already and is kept", copy.index)
    if not missing:
        return True
    for copy in missing:
        copy.forget_other_formats()
    _check_space(staging, missing, settings, running)
    # What was made of the disks before is of other disks from now on.
    staging.forget(*FOLLOWING_STEPS)
    for copy in copies:
        staging.overlay(copy.index).unlink(missing_ok=True)
    return False


@contextmanager
def only_copier(staging: Staging, running: Attempt) -> Iterator[None]:
    """Hold the job's copy alone: an attempt that Temporal has given up may still be ending on this host."""
    path = staging.folder / "export.lock"
    descriptor = -1
    try:
        while descriptor < 0 or not _is_open_file(descriptor, path):
            if descriptor >= 0:
                os.close(descriptor)  # the folder was discarded while it was waited for
            staging.create()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _lock(descriptor, running)
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _lock(descriptor: int, running: Attempt) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            running.report(message="waiting for an earlier attempt to end")
            time.sleep(POLL_SECONDS)


def _is_open_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _check_space(
    staging: Staging, missing: Sequence[DiskCopy], settings: HostSettings, running: Attempt
) -> None:
    """Refuse what does not fit as the disks are now; the worst case is only worth a line."""
    check_space(staging.folder, sum(copy.bytes_to_come for copy in missing), settings.space_reserve_bytes)
    worst = sum(max(0, copy.disk.capacity_bytes - copy.present_bytes) for copy in missing)
    free = free_bytes(staging.folder)
    if worst + settings.space_reserve_bytes > free:
        running.log.warning(
            "%s has %s free; disks that are fuller than vSphere says could take up to %s",
            staging.folder,
            shown(free),
            shown(worst),
        )


class Copying:
    """Copies what is not whole yet, some disks at a time, and confirms each with the source."""

    def __init__(
        self,
        source: OpenSource,
        copies: Sequence[DiskCopy],
        orders: BandwidthOrders,
        settings: HostSettings,
        staging: Staging,
        running: Attempt,
    ) -> None:
        self._source = source
        self._copies = copies
        self._orders = orders
        self._at_once = settings.disks_at_once
        self._running = running
        self._meter = RateMeter()
        self._is_held = False
        self._watch = SpaceWatch(
            staging.folder,
            settings.space_reserve_bytes,
            settings.space_patience_seconds,
            lambda: sum(copy.bytes_to_come for copy in copies),
        )

    def run(self) -> None:
        """The largest disk begins: what is left at the end, when connections idle, is small then."""
        waiting = [copy for copy in self._copies if copy.finish is None]
        waiting.sort(key=lambda copy: copy.expected_bytes, reverse=True)
        active: list[DiskCopy] = []
        unconfirmed: list[DiskCopy] = []
        stop = threading.Event()
        try:
            while waiting or active:
                while waiting and len(active) < self._at_once:
                    copy = waiting.pop(0)
                    self._running.log.info("disk%d: %s begins", copy.index, copy.disk.file_name)
                    copy.start(self._source, self._watch, stop)
                    active.append(copy)
                for copy in [copy for copy in active if not copy.is_alive]:
                    active.remove(copy)
                    if copy.error is not None:
                        _raise_reason(self._source, copy.error)
                    self._running.log.info("disk%d has landed", copy.index)
                    if not copy.confirm(self._source, last=False):
                        unconfirmed.append(copy)
                self._source.check()
                self._orders.obey()
                self._report()
                if active:
                    active[0].join(time.monotonic() + POLL_SECONDS)
            for copy in unconfirmed:
                copy.confirm(self._source, last=True)
            self._report()
        finally:
            stop.set()
            deadline = time.monotonic() + STOP_SECONDS
            for copy in self._copies:
                if copy.join(deadline):
                    copy.close()
                else:
                    self._running.log.warning("disk%d: the copy has not stopped yet", copy.index)
                    copy.abandon()

    def _report(self) -> None:
        now = time.monotonic()
        disks = tuple(copy.progress(now) for copy in self._copies)
        whole = overall(disks, self._meter.sample(now, sum(copy.moved_bytes for copy in self._copies)))
        if whole is not None:
            self._source.told(whole.done_bytes * 100 // max(1, whole.total_bytes))
        held = self._watch.message
        if bool(held) != self._is_held:
            self._is_held = bool(held)
            self._running.log.warning("%s", held or "there is room again, going on")
        self._running.report(message=held or "copying", disks=disks, overall=whole)


def _raise_reason(source: OpenSource, error: BaseException) -> None:
    """Raise what ended a copy: the source's own end explains a broken stream better than the stream."""
    if isinstance(error, HyperctlError) and error.code is ErrorCode.TRANSFER_INTERRUPTED:
        source.diagnose()
    if isinstance(error, Stopped):
        raise RuntimeError("a copy stopped without having been told to") from error
    raise error
