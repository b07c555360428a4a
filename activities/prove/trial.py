"""One trial boot: a transient domain on throw-away overlays, watched until it has said enough."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import libvirt

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.prove.console import Diagnosis, diagnose, last_line, readable
from hyperctl.activities.prove.life import SignsOfLife
from hyperctl.activities.prove.limit import Patience
from hyperctl.activities.prove.report import LIMIT_CHARACTERS, GuestReport, reports_in
from hyperctl.activities.prove.screen import (
    VGA_TEXT_ADDRESS,
    VGA_TEXT_BYTES,
    png_of,
    take_picture,
    text_from_vga,
)
from hyperctl.activities.prove.units import NETWORK_UNITS, WAITING_UNITS, is_any
from hyperctl.activities.prove.unlock import Unlocking
from hyperctl.activities.target.libvirt_host import QemuUser, find_domain, job_of
from hyperctl.workflows.errors import ErrorCode, HyperctlError

POLL_SECONDS = 0.5
LOOK_SECONDS = 2.0
LARGEST_OUTPUT_BYTES = 64 << 20
LEAST_FREE_BYTES = 64 << 20
"""What a trial leaves to others on the disk of its overlays."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a trial boot ended."""

    report: GuestReport | None
    """The last report of the guest, if there was any."""
    boot_seconds: float
    """Until multi-user, or until we gave up."""
    reason: str = ""
    """Why we gave up; empty when the guest had said enough."""
    diagnosis: str = ""
    root_missing: bool = False
    screen_text: str = ""
    screenshot: bytes = b""
    """PNG; empty where there is none."""


@dataclass(frozen=True, slots=True)
class TrialFiles:
    """The trial's own folder and the files in it. All of it is thrown away at the end."""

    folder: Path

    @property
    def serial(self) -> Path:
        return self.folder / "serial.log"

    @property
    def report(self) -> Path:
        return self.folder / "report.txt"

    @property
    def nvram(self) -> Path:
        return self.folder / "nvram.fd"

    def overlay(self, index: int) -> Path:
        return self.folder / f"disk{index}.qcow2"

    def create(self) -> None:
        self.remove()
        self.folder.mkdir(mode=0o711)
        for path in (self.serial, self.report):
            path.touch(mode=0o600)

    def give_to(self, user: QemuUser) -> None:
        """Let qemu write what is thrown away anyway; nothing else becomes its own."""
        for path in self.folder.iterdir():
            os.chown(path, user.uid, user.gid)

    def remove(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)


@contextmanager
def readable_by(user: QemuUser | None, paths: Sequence[Path]) -> Iterator[None]:
    """Let qemu's group read the images below the overlays, and take that back afterwards.

    libvirt itself would make qemu their owner, who can write them, and would not give them back.
    """
    if user is None or os.geteuid() != 0:
        yield
        return
    before = [(path, path.stat()) for path in paths]
    try:
        for path, was in before:
            os.chown(path, -1, user.gid)
            os.chmod(path, (was.st_mode & 0o707) | 0o040)
        yield
    finally:
        for path, was in before:
            if path.exists():
                os.chown(path, was.st_uid, was.st_gid)
                os.chmod(path, was.st_mode & 0o777)


@contextmanager
def running_domain(
    connection: libvirt.virConnect, xml: str, name: str, job_id: str
) -> Iterator[libvirt.virDomain]:
    """A transient domain for the length of a `with`; libvirt ends it too when our connection ends."""
    left = find_domain(connection, name)
    if left is not None and job_of(left) == job_id:
        left.destroy()
    domain = connection.createXML(xml, libvirt.VIR_DOMAIN_START_AUTODESTROY)
    try:
        yield domain
    finally:
        try:
            domain.destroy()
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                raise


class Watch:
    """Looks at a booting guest until it has answered, has gone wrong for good, or the time is up."""

    def __init__(
        self,
        domain: libvirt.virDomain,
        files: TrialFiles,
        satisfies: Callable[[GuestReport], bool] | None,
        patience: Patience,
        running: Attempt,
        unlocking: Unlocking,
        subject: str = "the guest",
        signs: SignsOfLife | None = None,
    ) -> None:
        """`satisfies`: whether a report of a guest that has settled needs no waiting for a better one; None
        where multi-user is all that is asked for. `signs`: what a guest without a reporter is judged by."""
        self._domain = domain
        self._files = files
        self._satisfies = satisfies
        self._patience = patience
        self._running = running
        self._subject = subject
        self._signs = signs
        self._unlocking = unlocking
        self._started = time.monotonic()
        self._report: GuestReport | None = None
        self._report_size = 0
        self._heard_at = 0.0
        self._restarts = 0
        self._multi_user_at: float | None = None
        self._settled_at: float | None = None
        self._serial_text = ""
        self._serial_size = 0
        self._screen_text = ""
        self._changed_at = 0.0
        self._looked_at = 0.0

    def until_end(self) -> Ending:
        """Raises what `checkpoint` raises, and `NO_SPACE`."""
        while True:
            if shutil.disk_usage(self._files.folder).free < LEAST_FREE_BYTES:
                raise HyperctlError(
                    ErrorCode.NO_SPACE,
                    f"a trial boot has left no room in {self._files.folder}, where what it writes goes",
                    "Make room there; what the trial has written is gone again.",
                )
            self._running.report(message=self._message())
            time.sleep(POLL_SECONDS)
            now = time.monotonic() - self._started
            self._read_report(now)
            if self._has_answered(now):
                return self._ending(now)
            diagnosis = self._look_at_console(now)
            if self._signs and self._signs.suffice(now, self._serial_text, self._screen_text):
                return self._ending(now)
            reason = self._reason_to_give_up(now, diagnosis)
            if reason:
                return self._ending(now, reason, diagnosis)

    def _message(self) -> str:
        seconds = time.monotonic() - self._started
        if self._multi_user_at is not None:
            reached = f"{self._subject} reached multi-user after {self._multi_user_at:.0f} s"
            return f"{reached}; waiting for it to settle"
        if self._report is not None:
            return f"{self._subject} starts its services ({seconds:.0f} s)"
        return f"{self._subject} is booting ({seconds:.0f} s)"

    def _read_report(self, now: float) -> None:
        size = self._files.report.stat().st_size
        if size == self._report_size:
            return
        self._report_size = size
        with self._files.report.open("rb") as file:
            file.seek(max(0, size - LIMIT_CHARACTERS))
            found = reports_in(file.read(LIMIT_CHARACTERS).decode("utf-8", "replace"))
        if found:
            self._heard_at = now
            if self._report is None:
                self._running.log.info("the guest's reporter speaks")
            elif found[-1].uptime_seconds < self._report.uptime_seconds:
                self._running.log.warning("the guest has restarted after %.1f s", now)
                self._restarts += 1
                self._multi_user_at = self._settled_at = None
            self._report = found[-1]

    def _has_answered(self, now: float) -> bool:
        report = self._report
        if report is None or not report.full:
            return False
        if report.emergency:
            return True
        if self._multi_user_at is None:
            self._multi_user_at = now
            self._running.log.info("multi-user reached after %.1f s", now)
        if self._satisfies is None:
            return True
        if report.settled and self._settled_at is None:
            self._settled_at = now
        if self._settled_at is not None:
            return self._satisfies(report) or now - self._settled_at > self._patience.grace
        return now - self._multi_user_at > self._patience.settle

    def _look_at_console(self, now: float) -> Diagnosis | None:
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            size = self._files.serial.stat().st_size
            screen = self._vga_text()
            if (size, screen) != (self._serial_size, self._screen_text):
                self._changed_at = now
                self._serial_size, self._screen_text = size, screen
                shown = self._files.serial.read_bytes()
                self._unlocking.look(shown)
                self._serial_text = readable(self._unlocking.hidden(shown[-LIMIT_CHARACTERS:]))
        return diagnose(*map(self._unlocking.unanswered, (self._serial_text, self._screen_text)))

    def _vga_text(self) -> str:
        try:
            memory = self._domain.memoryPeek(VGA_TEXT_ADDRESS, VGA_TEXT_BYTES, libvirt.VIR_MEMORY_PHYSICAL)
        except libvirt.libvirtError as error:
            if not self._is_active():
                return self._screen_text
            self._running.log.warning("the screen's memory could not be read: %s", error)
            return ""
        return text_from_vga(bytes(memory))

    def _reason_to_give_up(self, now: float, diagnosis: Diagnosis | None) -> str:
        quiet = now - self._changed_at
        if not self._is_active():
            return f"the guest switched itself off after {now:.0f} s"
        if self._report_size + self._serial_size > LARGEST_OUTPUT_BYTES:
            return "the guest floods its consoles"
        if self._multi_user_at is not None and now - self._heard_at > self._patience.standstill:
            return f"the guest fell silent after {self._heard_at:.0f} s, in multi-user"
        is_silent = self._report is None or now - self._heard_at > self._patience.standstill
        if self._multi_user_at is None and is_silent and diagnosis is not None:
            if diagnosis.final and quiet > LOOK_SECONDS * 1.5:
                return f"the boot stopped after {now:.0f} s"
            if quiet > self._patience.standstill:
                return f"the boot stood still after {now - quiet:.0f} s"
        limit = self._patience.boot + (self._patience.network if self._waits_for_network else 0)
        if (self._multi_user_at is None and now > limit) or now > self._patience.longest:
            asked = "no sign of a system that runs" if self._signs else "multi-user was not reached"
            times = f", in {self._restarts + 1} boots one after the other" if self._restarts else ""
            return f"{asked} in {now:.0f} s{times}"
        return ""

    @property
    def _waits_for_network(self) -> bool:
        jobs = self._report.jobs_at_work if self._report else ()
        return any(is_any(job, NETWORK_UNITS + WAITING_UNITS) for job in jobs)

    def _is_active(self) -> bool:
        try:
            return bool(self._domain.isActive())
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return False
            raise

    def _ending(self, now: float, reason: str = "", diagnosis: Diagnosis | None = None) -> Ending:
        words = ""
        if reason:
            said = last_line(self._serial_text, self._screen_text)
            words = diagnosis.words if diagnosis else ""
            if not words and self._report is not None and self._report.jobs:
                words = "still waiting for " + ", ".join(self._report.jobs[:8])
            words = words or (f"the console's last line is {said!r}" if said else "the console said nothing")
        return Ending(
            report=self._report,
            boot_seconds=now if self._multi_user_at is None else self._multi_user_at,
            reason=reason,
            diagnosis=words,
            root_missing=diagnosis is not None and diagnosis.root_missing,
            screen_text=self._screen_text,
            screenshot=self._screenshot(),
        )

    def _screenshot(self) -> bytes:
        if not self._is_active():
            return b""
        try:
            return png_of(take_picture(self._domain))
        except (libvirt.libvirtError, ValueError) as error:
            self._running.log.warning("no picture of the screen: %s", error)
            return b""
