"""What a way of fetching disks must offer; the modules beside this one are the ways."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.landing import Landing
from hyperctl.activities.export.ranges import DiskReader
from hyperctl.activities.export.throttle import Throttle
from hyperctl.activities.settings import HostSettings
from hyperctl.workflows.contract import ExportInput
from hyperctl.workflows.machine import Machine, MachineDisk


@dataclass(frozen=True, slots=True)
class Terms:
    """What every copy of a job has to keep to."""

    attempt: Attempt
    throttle: Throttle
    """Everything that crosses the network is taken from it."""
    silence_seconds: float
    """How long a stream may send nothing."""


@dataclass(frozen=True, slots=True)
class Received:
    """What crossed the network for one disk in this attempt."""

    received_bytes: int
    sha1: str
    """Of the stream, hex; empty where the source states none to compare with."""


class OpenSource(Protocol):
    """A machine whose disks can be fetched now."""

    def version(self, disk: MachineDisk) -> str:
        """What the source calls the state of the disk's file; empty where it says nothing of it."""

    def copy(self, disk: MachineDisk, landing: Landing, stop: threading.Event) -> Received:
        """Fetch what is missing of one disk into its landing; blocks, on a thread of its own.

        Everything is synced on return. Raises `Stopped` within a second of `stop`, and `HyperctlError` for
        what goes wrong.
        """

    def confirm(self, disk: MachineDisk, received: Received) -> str | None:
        """The source's own checksum of what it sent, after comparing; empty where it states none.

        None: not stated yet, ask again when every disk is copied. Raises `HyperctlError`
        (`transfer_corrupt`) on a difference.
        """

    def told(self, percent: int) -> None:
        """How far all disks are together."""

    def check(self) -> None:
        """Raise when the source has become unusable."""

    def diagnose(self) -> None:
        """After a copy failed: raise where the source as a whole is the reason."""


class ReadableSource(OpenSource, Protocol):
    """One whose disks can be read here and there, too."""

    def reader(self, disk: MachineDisk, stop: threading.Event) -> AbstractContextManager[DiskReader]:
        """A disk for the length of a `with`; `stop` ends every read. Raises `HyperctlError`."""


class Source(Protocol):
    """A machine as a transport sees it, before anything is fetched."""

    @property
    def machine(self) -> Machine:
        """As it is now, with its disks in the planned order."""

    def identity(self, disk: MachineDisk) -> str:
        """Names one disk in one state of its machine: copies from before and after a change do not mix."""

    def open(self) -> AbstractContextManager[OpenSource]:
        """Open it for copying. The block's end says whether the copy was good."""


class Readable(Source, Protocol):
    """The same of one whose disks can be read anywhere."""

    def open(self) -> AbstractContextManager[ReadableSource]:
        """Open it for reading or copying."""


Transport = Callable[[ExportInput, HostSettings, Terms], AbstractContextManager[Source]]
"""Looks at the machine that was planned. Raises `HyperctlError`, also where it has changed since."""
ReadableTransport = Callable[[ExportInput, HostSettings, Terms], AbstractContextManager[Readable]]
