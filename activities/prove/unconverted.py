"""What the guest did before its conversion, on VMware's hardware as qemu emulates it."""

from dataclasses import dataclass

import libvirt
from pydantic import BaseModel, ConfigDict

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.prove.boot import Boot, Trial, boot
from hyperctl.activities.prove.report import GuestReport, reports_in
from hyperctl.activities.prove.verdict import judge
from hyperctl.activities.prove.vmware import NotEmulatedError, hardware_words
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.guest import Comparison, Difference
from hyperctl.workflows.request import ProveMode

_NO_SUCH_HARDWARE = (
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_INTERNAL_ERROR,  # qemu has refused its command line
)
"""How libvirt says that this host's qemu does not have it."""


class UnconvertedBoot(BaseModel):
    """How it went, recorded so that it is booted once for a job."""

    model_config = ConfigDict(frozen=True)

    hardware: str
    obstacle: str = ""
    """Why it says nothing; empty where it has come as far as multi-user."""
    report_text: str = ""
    """The guest's last report as it wrote it."""
    boot_seconds: float = 0.0

    @property
    def report(self) -> GuestReport | None:
        return next(iter(reports_in(self.report_text)), None) if not self.obstacle else None

    def comparison(self, differences: tuple[Difference, ...]) -> Comparison:
        report = self.report
        return Comparison(
            hardware=self.hardware,
            obstacle=self.obstacle,
            boot_seconds=round(self.boot_seconds, 1),
            kernel=report.kernel[:200] if report else "",
            failed_units=report.failed_units if report else (),
            differences=differences,
        )


@dataclass(frozen=True, slots=True)
class Before:
    """The unconverted guest's boot, and what is kept of it."""

    found: UnconvertedBoot
    boot: Boot | None = None


def boot_unconverted(trial: Trial, running: Attempt) -> Before:
    """Boot what the conversion of `trial` began with. Its base images are not written.

    Raises what `boot` raises, but for that which has to do with this hardware: that is an obstacle.
    """
    before = _booted(trial, running)
    if before.found.obstacle:
        running.log.warning("the unconverted guest says nothing: %s", before.found.obstacle)
    return before


def _booted(trial: Trial, running: Attempt) -> Before:
    machine = trial.machine
    running.log.info("booting the unconverted guest")

    def satisfies(report: GuestReport) -> bool:
        return not judge(report, machine, ProveMode.FULL).problems

    hardware = ", ".join(
        dict.fromkeys([*(disk.controller for disk in machine.disks), *(nic.adapter for nic in machine.nics)])
    )
    try:
        hardware = hardware_words(machine)
        booted = boot(trial.as_it_came(), satisfies, running)
    except NotEmulatedError as error:
        return Before(UnconvertedBoot(hardware=hardware, obstacle=f"{error}, which is not emulated here"))
    except HyperctlError as error:
        if error.code is not ErrorCode.PROOF_FAILED and not _is_no_such_hardware(error.__cause__):
            raise
        return Before(UnconvertedBoot(hardware=hardware, obstacle=error.failure.message))
    ending, report = booted.ending, booted.full_report
    obstacle = ""
    if report is None or not report.multi_user or ending.reason:
        mode = report.emergency if report else ""
        told = f"it ended in {mode} mode" if mode else f"{ending.reason}: {ending.diagnosis}"
        obstacle = f"it does not come up there ({told})"
    found = UnconvertedBoot(
        hardware=hardware,
        obstacle=obstacle,
        report_text=report.text if report else "",
        boot_seconds=ending.boot_seconds,
    )
    return Before(found, booted)


def _is_no_such_hardware(cause: BaseException | None) -> bool:
    """Distributions leave VMware's devices out of their qemu; a libvirt that is gone is something else."""
    return isinstance(cause, libvirt.libvirtError) and cause.get_error_code() in _NO_SUCH_HARDWARE
