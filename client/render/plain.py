"""Plain lines, one an event, without a terminal's codes: for pipes, files, CI and dumb terminals."""

import time
from collections.abc import Callable
from typing import TextIO

from hyperctl.client.render.ending import Ending
from hyperctl.client.render.events import DisksMoved, Event, Line, Mark, StageBegun, Working
from hyperctl.client.render.text import duration, safe, safe_lines, size
from hyperctl.workflows.status import DiskProgress, Phase

QUIET_SECONDS = 15.0
"""Nothing new for so long: say what is going on, so that no minute is silent."""
STEP_PERCENT = 10


class PlainScreen:
    """Prints to a stream and flushes every line."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._encoding = stream.encoding or "utf-8"
        self._last_printed = clock()
        self._shown: dict[tuple[Phase, int], int] = {}

    def __enter__(self) -> "PlainScreen":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.flush()

    def show(self, event: Event) -> None:
        match event:
            case StageBegun(stage):
                self._print(f"Phase {stage.number}: {stage.title}")
            case Line(mark, text):
                self._line(mark, text)
            case DisksMoved(phase, disks, overall):
                for disk in disks:
                    self._disk(phase, disk, len(disks))
                if overall is not None and len(disks) > 1:
                    self._disk(phase, overall, len(disks))
            case Working(text):
                if text and self._clock() - self._last_printed >= QUIET_SECONDS:
                    self._line(Mark.WAITING, text)

    def say(self, text: str) -> None:
        for line in safe_lines(text):
            self._print(line)

    def end(self, ending: Ending) -> None:
        self._print("")
        self._print(ending.title)
        width = max((len(label) for label, _ in ending.rows), default=0) + 1
        for label, value in ending.rows:
            self._print(f"{label + ':':{width}} {safe(value)}")
        for number, problem in enumerate(ending.problems, 1):
            first, *rest = safe_lines(problem.message)
            self._print(f"{number}. {first}")
            for line in rest + (safe_lines(problem.hint) if problem.hint else []):
                self._print(f"   {line}")
        for remark in ending.remarks:
            self._print(safe(remark))
        if ending.next_steps:
            self._print("")
            self._print("Next steps:")
        for number, step in enumerate(ending.next_steps, 1):
            self._print(f"{number}. {step.title}:")
            self._print("   " + " ".join(safe(line) for line in step.command))

    def _disk(self, phase: Phase, disk: DiskProgress, count: int) -> None:
        """A line whenever another tenth is done."""
        percent = percent_of(disk)
        tenth = percent // STEP_PERCENT
        if tenth <= self._shown.get((phase, disk.index), 0) or (disk.finished and phase is Phase.EXPORT):
            return
        self._shown[(phase, disk.index)] = tenth
        self._line(
            Mark.DOWNLOAD if phase is Phase.EXPORT else Mark.VERIFY, describe_disk(disk, count, percent)
        )

    def _line(self, mark: Mark, text: str) -> None:
        self._print(f"  {mark.word:8} {safe(text)}")

    def _print(self, text: str) -> None:
        text = text.encode(self._encoding, "backslashreplace").decode(self._encoding)
        self._stream.write(text + "\n")
        self._stream.flush()
        self._last_printed = self._clock()


def describe_disk(disk: DiskProgress, count: int, percent: int) -> str:
    """`disk 1/3 40% (34.1 GiB of 85.2 GiB, 110.0 MiB/s, ETA 3m 02s)`."""
    about = "about " if disk.total_is_estimate else ""
    facts = [f"{size(disk.done_bytes)} of {about}{size(disk.total_bytes)}"]
    if disk.rate_bytes_per_second:
        facts.append(f"{size(disk.rate_bytes_per_second)}/s")
    if disk.eta_seconds is not None:
        facts.append(f"ETA {duration(disk.eta_seconds)}")
    name = f"disk {disk.index}/{count}" if disk.index else f"all {count} disks"
    return f"{name} {percent}% ({', '.join(facts)})"


def percent_of(disk: DiskProgress) -> int:
    """Never 100 while the end is not known: that as much has come as was expected is not the end."""
    most = 99 if disk.total_is_estimate else 100
    return 100 if disk.finished else min(most, disk.done_bytes * 100 // max(1, disk.total_bytes))
