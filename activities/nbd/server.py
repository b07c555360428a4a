"""An NBD server of our own: on a Unix socket in a folder that only we may enter, gone when we are.

The kernel kills the server when this process ends, however it ends (see `process.Service`). The folder is
held by a lock on itself, which goes with the process too, so that one that was left behind is known as such
by whoever starts the next server, and removed.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.chain import nbd_address
from hyperctl.activities.held_folder import new_held_folder
from hyperctl.activities.process import END_SECONDS, Service

FOLDER_PREFIX = "hyperctl-nbd-"
START_SECONDS = 60.0
POLL_SECONDS = 0.01
_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""mallopt(3): the C library is to keep the buffers of requests. By itself it returns each to the kernel, and
that the next one is mapped and cleared costs more than twice what the request does."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is to listen, and to say that it does."""

    socket: Path
    pid_file: Path


Command = Callable[[Place], tuple[str, ...]]
"""The command line of a server that stays in the foreground and serves until it is told to end."""


class NbdServerError(Exception):
    """A server did not start, or has ended."""


class NbdServer:
    """A running server. Safe to use from several threads."""

    def __init__(
        self,
        command: Command,
        attempt: Attempt,
        descriptors: Sequence[int] = (),
        end_seconds: float = END_SECONDS,
    ) -> None:
        """Start it and return when it listens; it inherits the `descriptors` under their own numbers.

        At its end it is given so many seconds before it is killed.
        Raises `NbdServerError`, and what `Attempt.checkpoint` does.
        """
        self._command = command
        self._attempt = attempt
        self._descriptors = tuple(descriptors)
        self._end_seconds = end_seconds
        self._lock = threading.Lock()
        self._service: Service | None = None
        self._folder, self._held = new_held_folder(Path(tempfile.gettempdir()), FOLDER_PREFIX)
        self._place = Place(self._folder / "socket", self._folder / "pid")
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "NbdServer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def socket(self) -> Path:
        return self._place.socket

    @property
    def uri(self) -> str:
        """The address as any NBD client takes it."""
        return nbd_address(self.socket)

    @property
    def complaint(self) -> str:
        """Why it has ended, in its own words; empty while it runs."""
        service = self._service
        return service.complaint if service is not None and service.has_ended else ""

    def ends_within(self, seconds: float) -> bool:
        """Whether it has ended by itself, or does so within that time: a connection may break before."""
        deadline = time.monotonic() + seconds
        while (service := self._service) is not None and not service.has_ended:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    @property
    def pid(self) -> int:
        """Of its process; 0 once it is closed."""
        return self._service.pid if self._service is not None else 0

    def revive(self) -> None:
        """Start it anew where it has ended by itself. Raises `NbdServerError`."""
        with self._lock:
            if self.complaint and self._service is not None:
                self._attempt.log.warning("%s has ended: %s", self._command(self._place)[0], self.complaint)
                self._service.close(self._end_seconds)
                self._start()

    def close(self) -> None:
        """End it and remove its folder."""
        with self._lock:
            service, self._service = self._service, None
        if service is not None:
            service.close(self._end_seconds)
        if self._held >= 0:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._held)
            self._held = -1

    def _start(self) -> None:
        self._place.socket.unlink(missing_ok=True)
        self._place.pid_file.unlink(missing_ok=True)
        argv = self._command(self._place)
        try:
            self._service = service = Service(
                argv, self._attempt, descriptors=self._descriptors, environment=_ENVIRONMENT
            )
        except FileNotFoundError as error:
            raise NbdServerError(f"there is no {argv[0]} on this host") from error
        deadline = time.monotonic() + START_SECONDS
        # Both kinds of servers write it when they listen.
        while not (self._place.pid_file.exists() and self._place.pid_file.stat().st_size):
            if service.has_ended:
                raise NbdServerError(f"{argv[0]} did not start: {service.complaint}")
            if time.monotonic() > deadline:
                raise NbdServerError(f"{argv[0]} was not ready in {START_SECONDS:.0f} s")
            self._attempt.checkpoint()
            time.sleep(POLL_SECONDS)
