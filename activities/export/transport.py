"""What a way of fetching disks must offer; `nfc` is one."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.landing import Landing
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.session import Session
from hyperctl.workflows.machine import MachineDisk


class Stopped(Exception):
    """A copy ended because it was told to."""


@dataclass(frozen=True, slots=True)
class Received:
    """What crossed the network for one disk."""

    received_bytes: int
    sha1: str
    """Of the stream, hex; empty where the source states none to compare with."""


class OpenSource(Protocol):
    """A machine whose disks can be fetched now."""

    def copy(self, disk: MachineDisk, landing: Landing, stop: threading.Event) -> Received:
        """Fetch one disk into its landing; blocks, on a thread of its own.

        Raises `Stopped` within a second of `stop`, and `HyperctlError` for what goes wrong.
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


Transport = Callable[[Session, SourceMachine, Attempt], AbstractContextManager[OpenSource]]
"""Opens a machine for copying. The block's end says whether the copy was good."""
