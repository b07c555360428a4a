"""What there is to show, said once and independent of how it is shown."""

from dataclasses import dataclass
from enum import Enum

from hyperctl.workflows.status import DiskProgress, Phase


class Stage(Enum):
    """The five phases that a person sees, with their numbers; what the first two are differs."""

    CONNECT = (1, "Connecting to vSphere")
    EXPORT = (2, "Exporting from vSphere")
    LOOK = (1, "Looking at the source file")
    COPY = (2, "Copying the source file")
    QUEUE = (3, "Queued for conversion")
    CONVERT = (4, "Converting to KVM")
    CLEANUP = (5, "Cleanup")
    REHEARSE = (2, "Rehearsing over its disks where they are")

    @property
    def number(self) -> int:
        return self.value[0]

    @property
    def title(self) -> str:
        return self.value[1]


class Mark(Enum):
    """What kind of line it is: its sign on a terminal, and its word where signs cannot be shown."""

    OK = ("✅", "ok")
    FAILED = ("❌", "FAILED")
    WARNING = ("⚠️ ", "warning")
    WAITING = ("⏳", "waiting")
    GOING = ("▶️ ", "going")
    SKIPPED = ("⏭️ ", "skipped")
    INFO = ("💬", "note")
    DOWNLOAD = ("📥", "copy")
    VERIFY = ("🔎", "verify")
    DETECTED = ("🔍", "found")
    FILESYSTEM = ("🧬", "found")
    DRIVERS = ("💉", "convert")
    BOOTLOADER = ("🥾", "convert")
    NETWORK = ("🌐", "convert")
    MOUNTS = ("🗂️ ", "convert")
    TOOLS = ("🔧", "convert")
    PROOF = ("🔌", "prove")
    PACKAGE = ("📦", "finish")
    BROOM = ("🧹", "clean up")

    @property
    def sign(self) -> str:
        return self.value[0]

    @property
    def word(self) -> str:
        return self.value[1]


@dataclass(frozen=True, slots=True)
class StageBegun:
    """A phase's headline."""

    stage: Stage


@dataclass(frozen=True, slots=True)
class Line:
    """A fact, said once. Its text may hold anything; whoever prints it makes it safe."""

    mark: Mark
    text: str
    detail: bool = False
    """Belongs to the line before it."""


@dataclass(frozen=True, slots=True)
class DisksMoved:
    """How far the disks are that are being worked on."""

    phase: Phase
    disks: tuple[DiskProgress, ...]
    overall: DiskProgress | None = None
    """All of them together; not shown where there is only one."""


@dataclass(frozen=True, slots=True)
class Working:
    """What is being done right now; replaced by the next, and by nothing when it is empty."""

    text: str


Event = StageBegun | Line | DisksMoved | Working
