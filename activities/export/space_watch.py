"""Holding a copy while its file system is full, until there is room again or nobody makes any."""

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hyperctl.activities.export.image import DiskImage
from hyperctl.activities.export.landing import Hold
from hyperctl.activities.export.ledger import Content
from hyperctl.activities.export.space import free_bytes, no_space, shown
from hyperctl.activities.export.throttle import Stopped

POLL_SECONDS = 0.25
LOOK_SECONDS = 0.5
"""How old what is known of the free space may be: at 1 GiB/s this is less than the reserve."""
TRY_AGAIN_SECONDS = 2.0
"""After a write that was refused although there seems to be room: a quota, or somebody else was faster."""
ENOUGH_BYTES = 256 << 20
"""So much above the reserve, or what is still to come where that is less, lets a held copy go on."""
QUOTA = "quota used up"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class SpaceWatch:
    """One folder's room, for all disks of a job that land in it. Safe to use from several threads."""

    def __init__(
        self, folder: Path, reserve_bytes: int, patience_seconds: float, needed: Callable[[], int]
    ) -> None:
        """`needed` is how many bytes are still to come, as far as one knows."""
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._patience_seconds = patience_seconds
        self._needed = needed
        self._lock = threading.Lock()
        self._held_since: float | None = None
        self._holding = 0
        self._reason = ""
        self._looked_at = 0.0

    @property
    def message(self) -> str:
        """What is missing and where, while something is held; empty while nothing is."""
        with self._lock:
            if not self._holding:
                return ""
            reason = self._reason
        # Of a quota nobody tells how much of it is missing.
        missing = "" if reason == QUOTA else f": {shown(self._missing_bytes)} are missing"
        return f"holding, {reason} in {self._folder}{missing}; goes on by itself once there is room"

    def guard(self, image: DiskImage, stop: threading.Event) -> DiskImage:
        """The image, held back before every write while the reserve is touched."""
        return _GuardedImage(image, self, stop)

    def hold(self, stop: threading.Event) -> Hold:
        """For a landing: wait where the storage is full, raise every other error."""

        def held(error: OSError) -> None:
            if error.errno not in _FULL:
                raise error
            self._wait(QUOTA if error.errno == errno.EDQUOT else "no space left", stop, error)

        return held

    def before_write(self, stop: threading.Event) -> None:
        """Wait while less than the reserve is free."""
        now = time.monotonic()
        with self._lock:
            if self._held_since is None and now - self._looked_at < LOOK_SECONDS:
                return
            self._looked_at = now
        if free_bytes(self._folder) < self._reserve_bytes:
            self._wait("no space left", stop)

    def wrote(self) -> None:
        """There is room again: the patience begins anew."""
        if self._held_since is not None:
            with self._lock:
                self._held_since = None

    def _wait(self, reason: str, stop: threading.Event, error: OSError | None = None) -> None:
        """Until there is room. Raises `Stopped`, and `HyperctlError` (`no_space`) after too long a time."""
        began = time.monotonic()
        with self._lock:
            self._held_since = since = self._held_since or began
            self._holding += 1
            self._reason = reason
        try:
            while True:
                now = time.monotonic()
                if now - since > self._patience_seconds:
                    raise no_space(self._folder, self._missing_bytes, error) from error
                if stop.wait(POLL_SECONDS):
                    raise Stopped
                if error is not None and now - began < TRY_AGAIN_SECONDS:
                    continue
                if free_bytes(self._folder) >= self._enough_bytes:
                    return
        finally:
            with self._lock:
                self._holding -= 1

    @property
    def _enough_bytes(self) -> int:
        return self._reserve_bytes + min(ENOUGH_BYTES, self._needed())

    @property
    def _missing_bytes(self) -> int:
        return max(1, self._needed() + self._reserve_bytes - free_bytes(self._folder))


class _GuardedImage:
    """A `DiskImage` that is written only while there is room."""

    def __init__(self, image: DiskImage, watch: SpaceWatch, stop: threading.Event) -> None:
        self._image = image
        self._watch = watch
        self._stop = stop

    def write(self, offset: int, data: Content) -> None:
        self._watch.before_write(self._stop)
        self._image.write(offset, data)
        self._watch.wrote()

    def zero(self, offset: int, length: int) -> None:
        self._image.zero(offset, length)

    def expect_rewrites(self) -> None:
        self._image.expect_rewrites()

    def read(self, offset: int, size: int) -> bytes:
        return self._image.read(offset, size)

    def sync(self) -> None:
        self._image.sync()

    @property
    def allocated_bytes(self) -> int:
        return self._image.allocated_bytes

    def close(self) -> None:
        self._image.close()
