"""Copying all disks of a machine: what is whole stays, the rest is fetched, several disks at a time."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.landing import Landing
from hyperctl.activities.export.ledger import ALGORITHM, Finish, LedgerHeader, recover_ledger
from hyperctl.activities.export.nfc import nfc_transport
from hyperctl.activities.export.rate import RateMeter, eta_seconds
from hyperctl.activities.export.space import check_space, storage_errors
from hyperctl.activities.export.transport import OpenSource, Received, Stopped, Transport
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.inventory import read_machine
from hyperctl.activities.vsphere.session import open_session
from hyperctl.workflows.contract import CONVERT_GUEST, EXPORT_DISKS, PROVE_BOOT, VERIFY_DISKS, ExportInput
from hyperctl.workflows.disk import LandedDisk
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import Machine, MachineDisk, PowerState
from hyperctl.workflows.status import DiskProgress

DISKS_AT_ONCE = 3
POLL_SECONDS = 0.25
STOP_SECONDS = 4.0
"""How long a copy that was told to stop is waited for."""

FOLLOWING_STEPS = (EXPORT_DISKS.name, VERIFY_DISKS.name, CONVERT_GUEST.name, PROVE_BOOT.name)

TRANSPORTS: dict[str, Transport] = {"nfc": nfc_transport}


def export_machine(argument: ExportInput, settings: HostSettings, running: Attempt) -> tuple[LandedDisk, ...]:
    """Have every disk of the machine as an image with a finished ledger in the job's staging folder.

    A disk that an earlier attempt finished, of the same state of the machine, is kept. Raises
    `HyperctlError`; nothing that is whole is lost by that, and no lease is left behind.
    """
    transport = TRANSPORTS.get(argument.transport)
    if transport is None:
        raise HyperctlError(ErrorCode.INVALID_REQUEST, f"there is no transport {argument.transport!r}")
    staging = Staging(argument.output_dir, argument.job_id)
    with storage_errors(staging.folder, 0):
        staging.create()
    with only_copier(staging, running), open_session(argument.vcenter, settings, running) as session:
        source = read_machine(session, argument.machine.moref)
        _check_unchanged(argument.machine, source)
        copies = [
            DiskCopy(index, disk, staging, _identity(str(session.endpoint), source, disk))
            for index, disk in enumerate(source.machine.disks, start=1)
        ]
        missing = [copy for copy in copies if copy.finish is None]
        for copy in copies:
            if copy.finish is not None:
                running.log.info("disk%d is whole already and is kept", copy.index)
        if missing:
            check_space(staging.folder, sum(copy.expected_bytes - copy.present_bytes for copy in missing))
            # What was made of the disks before is of other disks from now on.
            staging.forget(*FOLLOWING_STEPS)
            for copy in copies:
                staging.overlay(copy.index).unlink(missing_ok=True)
            with transport(session, source, running) as opened:
                copy_disks(opened, copies, running)
    return tuple(copy.landed() for copy in copies)


@contextmanager
def only_copier(staging: Staging, running: Attempt) -> Iterator[None]:
    """Hold the job's copy alone: an attempt that Temporal has given up may still be ending on this host."""
    path = staging.folder / "export.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                running.report(message="waiting for an earlier attempt to end")
                time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


class DiskCopy:
    """One disk on its way; copied on a thread of its own, the other methods are the caller's."""

    def __init__(self, index: int, disk: MachineDisk, staging: Staging, identity: str) -> None:
        self.index = index
        self.disk = disk
        self.received: Received | None = None
        self.error: BaseException | None = None
        self._image = staging.image(index)
        self._ledger = staging.ledger(index)
        self._header = LedgerHeader(disk.capacity_bytes, identity)
        self._landing: Landing | None = None
        self._thread: threading.Thread | None = None
        self._meter = RateMeter()
        self.finish: Finish | None = self._finished_before()

    @property
    def present_bytes(self) -> int:
        """What an unfinished image of an earlier attempt occupies, which is given back first."""
        return self._image.stat().st_blocks * 512 if self._image.exists() else 0

    @property
    def expected_bytes(self) -> int:
        """The best estimate of what lands."""
        return self.disk.allocated_bytes or self.disk.capacity_bytes

    @property
    def is_started(self) -> bool:
        return self._thread is not None

    @property
    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, source: OpenSource, stop: threading.Event) -> None:
        """Begin to copy. The landing stays open until `close`, for the finish record."""
        self._thread = threading.Thread(
            target=self._run, args=(source, stop), name=f"disk{self.index}", daemon=True
        )
        self._thread.start()

    def join(self, deadline: float) -> bool:
        """Wait for the copy's end until then; whether it has ended."""
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self.is_alive

    def close(self) -> None:
        """Let go of the files, once the copy has ended."""
        landing, self._landing = self._landing, None
        if landing is not None:
            landing.__exit__(None, None, None)

    def confirm(self, source: OpenSource, *, last: bool) -> bool:
        """Compare with what the source states and record the disk as whole; False: not stated yet."""
        if self.received is None or self._landing is None:
            return False
        checksum = source.confirm(self.disk, self.received)
        if checksum is None and not last:
            return False
        with storage_errors(self._ledger, self.expected_bytes):
            self.finish = self._landing.finish(self.received.received_bytes, checksum or "")
        self.close()
        return True

    def progress(self, now: float) -> DiskProgress:
        if self.finish is not None:
            done = total = max(self.finish.allocated_bytes, 1)
        else:
            done = self._landing.landed_bytes if self._landing else 0
            total = max(self.expected_bytes, done, 1)
        rate = self._meter.sample(now, done) if self.is_started and self.finish is None else 0.0
        return DiskProgress(
            index=self.index,
            name=self.disk.name,
            done_bytes=done,
            total_bytes=total,
            rate_bytes_per_second=rate,
            eta_seconds=eta_seconds(total - done, rate) if self.finish is None else None,
            finished=self.finish is not None,
        )

    def landed(self) -> LandedDisk:
        """The disk as the next steps get it; only when it is whole."""
        assert self.finish is not None, "asked of a disk that is not whole"
        return LandedDisk(
            index=self.index,
            source_name=self.disk.name,
            path=str(self._image),
            format="raw",
            ledger=str(self._ledger),
            capacity_bytes=self.disk.capacity_bytes,
            allocated_bytes=self.finish.allocated_bytes,
            received_bytes=self.finish.received_bytes,
            digest_algorithm=ALGORITHM,
            root_digest=self.finish.root_digest,
            source_checksum=self.finish.source_checksum,
        )

    def _finished_before(self) -> Finish | None:
        ledger = recover_ledger(self._ledger)
        if ledger is None or ledger.header != self._header or not self._image.exists():
            return None
        return ledger.finish if self._image.stat().st_size == self.disk.capacity_bytes else None

    def _run(self, source: OpenSource, stop: threading.Event) -> None:
        try:
            with storage_errors(self._image, self.expected_bytes):
                self._landing = Landing(self._image, self._ledger, self._header)
                self.received = source.copy(self.disk, self._landing, stop)
        except BaseException as error:
            self.error = error


def copy_disks(source: OpenSource, copies: Sequence[DiskCopy], running: Attempt) -> None:
    """Copy what is not whole yet, some disks at a time, and confirm each with the source."""
    waiting = [copy for copy in copies if copy.finish is None]
    active: list[DiskCopy] = []
    unconfirmed: list[DiskCopy] = []
    stop = threading.Event()
    try:
        while waiting or active:
            while waiting and len(active) < DISKS_AT_ONCE:
                copy = waiting.pop(0)
                running.log.info("disk%d: %s begins", copy.index, copy.disk.file_name)
                copy.start(source, stop)
                active.append(copy)
            for copy in [copy for copy in active if not copy.is_alive]:
                active.remove(copy)
                if copy.error is not None:
                    _raise_reason(source, copy.error)
                running.log.info("disk%d has landed", copy.index)
                if not copy.confirm(source, last=False):
                    unconfirmed.append(copy)
            source.check()
            _report(source, copies, running)
            if active:
                active[0].join(time.monotonic() + POLL_SECONDS)
        for copy in unconfirmed:
            copy.confirm(source, last=True)
        _report(source, copies, running)
    finally:
        stop.set()
        deadline = time.monotonic() + STOP_SECONDS
        for copy in copies:
            if copy.join(deadline):
                copy.close()
            else:
                running.log.warning("disk%d: the copy has not stopped yet", copy.index)


def _raise_reason(source: OpenSource, error: BaseException) -> None:
    """Raise what ended a copy: the source's own end explains a broken stream better than the stream."""
    if isinstance(error, HyperctlError) and error.code is ErrorCode.TRANSFER_INTERRUPTED:
        source.diagnose()
    if isinstance(error, Stopped):
        raise RuntimeError("a copy stopped without having been told to") from error
    raise error


def _report(source: OpenSource, copies: Sequence[DiskCopy], running: Attempt) -> None:
    now = time.monotonic()
    disks = tuple(copy.progress(now) for copy in copies)
    done = sum(disk.done_bytes for disk in disks)
    source.told(done * 100 // sum(disk.total_bytes for disk in disks))
    running.report(message="copying", disks=disks)


def _identity(server: str, source: SourceMachine, disk: MachineDisk) -> str:
    """Names one disk in one state of its machine: disks copied before and after a change do not mix."""
    machine = source.machine
    return "\n".join(
        (server.lower(), machine.uuid, machine.moref, str(disk.key), disk.file_name, source.state)
    )


def _check_unchanged(planned: Machine, source: SourceMachine) -> None:
    """The machine must still be off and have the disks that were planned with."""
    machine = source.machine
    if machine.power_state is not PowerState.OFF:
        raise HyperctlError(
            ErrorCode.VM_POWERED_ON,
            f"{machine.name} has been powered on since it was planned",
            "Shut it down in the guest, then try again.",
        )
    before = [(disk.key, disk.capacity_bytes) for disk in planned.disks]
    if machine.uuid != planned.uuid or before != [(disk.key, disk.capacity_bytes) for disk in machine.disks]:
        raise HyperctlError(
            ErrorCode.VM_UNSUPPORTED,
            f"the disks of {machine.name} have changed since it was planned",
            "Start the migration again.",
        )
