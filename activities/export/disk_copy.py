"""One disk on its way into its image."""

import threading
import time

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.copy_attempt import CopyAttempt
from hyperctl.activities.export.image import DiskImage, RawImage
from hyperctl.activities.export.landing import Landing, open_landing
from hyperctl.activities.export.ledger import Finish, LedgerHeader, recover_ledger
from hyperctl.activities.export.qcow2_image import Qcow2Image, table_bytes
from hyperctl.activities.export.rate import RateMeter, eta_seconds
from hyperctl.activities.export.space import storage_errors
from hyperctl.activities.export.space_watch import SpaceWatch
from hyperctl.activities.export.throttle import Stopped
from hyperctl.activities.export.transport import OpenSource, Received
from hyperctl.activities.image_file import image_info
from hyperctl.activities.staging import Staging, occupied_bytes
from hyperctl.workflows.disk import LandedDisk
from hyperctl.workflows.errors import HyperctlError
from hyperctl.workflows.machine import MachineDisk
from hyperctl.workflows.request import DiskFormat
from hyperctl.workflows.status import DiskProgress


class DiskCopy:
    """One disk; copied on a thread of its own, the other methods are the caller's."""

    def __init__(
        self,
        index: int,
        disk: MachineDisk,
        staging: Staging,
        identity: str,
        image_format: DiskFormat,
        attempt: Attempt,
    ) -> None:
        self.index = index
        self.disk = disk
        self.received: Received | None = None
        self.error: BaseException | None = None
        self._format = image_format
        self._attempt = attempt
        self._image = staging.image(index, image_format)
        self._others = [staging.image(index, other) for other in DiskFormat if other is not image_format]
        self._ledger = staging.ledger(index)
        self._header = LedgerHeader.of(disk.capacity_bytes, identity)
        self._landing: Landing | None = None
        self._thread: threading.Thread | None = None
        self._is_abandoned = threading.Event()
        self._meter = RateMeter()
        self._done_bytes = self._moved_bytes = 0
        """What the landing had come to when it was closed."""
        self.finish: Finish | None = self._finished_before()

    @property
    def present_bytes(self) -> int:
        """What the image of an earlier attempt occupies."""
        return occupied_bytes(self._image)

    @property
    def expected_bytes(self) -> int:
        """The best estimate of what lands."""
        return self.disk.allocated_bytes or self.disk.capacity_bytes

    @property
    def bytes_to_come(self) -> int:
        """The best estimate of what the image will still take of its file system."""
        if self.finish is not None:
            return 0
        tables = table_bytes(self.disk.capacity_bytes) if self._format is DiskFormat.QCOW2 else 0
        return max(0, self.expected_bytes + tables - self.present_bytes)

    @property
    def moved_bytes(self) -> int:
        """What this attempt has done of the disk: without what was there before it."""
        landing = self._landing
        return max(0, landing.done_bytes - landing.resumed_bytes) if landing else self._moved_bytes

    @property
    def is_started(self) -> bool:
        return self._thread is not None

    @property
    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, source: OpenSource, watch: SpaceWatch, stop: threading.Event) -> None:
        """Begin to copy. The landing stays open until `close`, for the finish record."""
        self._thread = threading.Thread(
            target=self._run, args=(source, watch, stop), name=f"disk{self.index}", daemon=True
        )
        self._thread.start()

    def join(self, deadline: float) -> bool:
        """Wait for the copy's end until then; whether it has ended."""
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self.is_alive

    def abandon(self) -> None:
        """Let the copy let go of the files by itself: it does not end in time."""
        self._is_abandoned.set()
        if not self.is_alive:
            self.close()

    def forget_other_formats(self) -> None:
        """Remove what an earlier attempt has landed as an image of another format."""
        for path in self._others:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the files, once the copy has ended."""
        landing = self._landing
        if landing is not None:
            self._done_bytes, self._moved_bytes = landing.done_bytes, self.moved_bytes
            self._landing = None
            landing.close()

    def confirm(self, source: OpenSource, *, last: bool) -> bool:
        """Compare with what the source states and record the disk as whole; False: not stated yet."""
        if self.received is None or self._landing is None:
            return False
        checksum = source.confirm(self.disk, self.received)
        if checksum is None and not last:
            return False
        with storage_errors(self._ledger, self.expected_bytes):
            self.finish = self._landing.finish(checksum or "")
        self.close()
        return True

    def progress(self, now: float) -> DiskProgress:
        """How far it is, in bytes of the disk that land; a disk that is whole is at its end."""
        landing = self._landing
        done = landing.done_bytes if landing else self._done_bytes
        known = landing.total_bytes if landing else 0
        has_ended = self.finish is not None or self.received is not None
        if self.finish is not None:
            done = done or self.finish.allocated_bytes
        total = max(done if has_ended else known or self.expected_bytes, done)
        rate = self._meter.sample(now, self.moved_bytes) if self.is_started and not has_ended else 0.0
        return DiskProgress(
            index=self.index,
            name=self.disk.name,
            done_bytes=done,
            total_bytes=total,
            total_is_estimate=not (has_ended or known),
            rate_bytes_per_second=rate,
            eta_seconds=None if has_ended else eta_seconds(total - done, rate),
            finished=self.finish is not None,
        )

    def landed(self) -> LandedDisk:
        """The disk as the next steps get it; only when it is whole."""
        assert self.finish is not None, "asked of a disk that is not whole"
        return LandedDisk(
            index=self.index,
            source_name=self.disk.name,
            path=str(self._image),
            format=self._format,
            ledger=str(self._ledger),
            capacity_bytes=self.disk.capacity_bytes,
            allocated_bytes=self.finish.allocated_bytes,
            received_bytes=self.finish.received_bytes,
            digest_algorithm=self._header.algorithm,
            root_digest=self.finish.root_digest,
            source_checksum=self.finish.source_checksum,
        )

    def _finished_before(self) -> Finish | None:
        ledger = recover_ledger(self._ledger)
        if ledger is None or ledger.header != self._header or not self._image.exists():
            return None
        return ledger.finish if self._image_capacity() == self.disk.capacity_bytes else None

    def _image_capacity(self) -> int:
        """Of the disk in the image; -1 where it is none."""
        if self._format is DiskFormat.RAW:
            return self._image.stat().st_size
        try:
            return image_info(self._image, self._format, self._attempt).virtual_bytes
        except ValueError:
            return -1

    def _open_image(self, fresh: bool, stop: threading.Event) -> DiskImage:
        if self._format is DiskFormat.QCOW2:
            attempt = CopyAttempt(self._attempt, stop)
            return Qcow2Image(self._image, self.disk.capacity_bytes, attempt, fresh=fresh)
        return RawImage(self._image, self.disk.capacity_bytes, fresh=fresh)

    def _run(self, source: OpenSource, watch: SpaceWatch, stop: threading.Event) -> None:
        def open_image(fresh: bool) -> DiskImage:
            try:
                image = self._open_image(fresh, stop)
            except ValueError as error:
                self._attempt.log.warning("disk%d cannot be gone on with: %s", self.index, error)
                raise
            return watch.guard(image, stop)

        try:
            with storage_errors(self._image, self.expected_bytes):
                version = source.version(self.disk)
                self._landing = landing = open_landing(
                    open_image, self._ledger, self._header, version, watch.hold(stop)
                )
                try:
                    self.received = source.copy(self.disk, landing, stop)
                except (HyperctlError, Stopped):
                    landing.sync()  # what has landed by now need not be fetched again
                    raise
        except BaseException as error:
            self.error = error
        if self._is_abandoned.is_set():
            self.close()
