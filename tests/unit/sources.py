"""A source whose disks are in memory and can be read anywhere, for the tests of what copies them."""

import threading
from dataclasses import dataclass, field

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.landing import Landing
from hyperctl.activities.export.ranges import copy_ranges
from hyperctl.activities.export.throttle import Throttle
from hyperctl.activities.export.transport import Received
from hyperctl.workflows.machine import MachineDisk
from tests.moments import LONGEST_SECONDS

from .machines import disk
from .test_ranges import CONTENT, DiskInMemory


def disk_in_memory(number: int, capacity_bytes: int = len(CONTENT)) -> MachineDisk:
    """A disk of no more than `CONTENT`."""
    return disk(number).model_copy(
        update={"capacity_bytes": capacity_bytes, "allocated_bytes": capacity_bytes}
    )


@dataclass
class SourceInMemory:
    """An `OpenSource`, by the name that a disk has in its machine."""

    attempt: Attempt
    disks: dict[str, DiskInMemory]
    throttle: Throttle = field(default_factory=Throttle)
    meeting: threading.Barrier | None = None
    """Copies end together with as many others as it takes."""
    begun: list[str] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    percents: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def version(self, disk: MachineDisk) -> str:
        return ""

    def copy(self, disk: MachineDisk, landing: Landing, stop: threading.Event) -> Received:
        with self.lock:
            self.begun.append(disk.name)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            fetched = copy_ranges(self.disks[disk.name], landing, self.throttle, self.attempt, stop)
            if self.meeting is not None:
                self.meeting.wait(LONGEST_SECONDS)
        finally:
            with self.lock:
                self.running -= 1
        return Received(fetched, "")

    def confirm(self, disk: MachineDisk, received: Received) -> str | None:
        return ""

    def told(self, percent: int) -> None:
        self.percents.append(percent)

    def check(self) -> None:
        pass

    def diagnose(self) -> None:
        pass
