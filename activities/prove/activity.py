"""The boot proof: booted, judged, recorded."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from temporalio import activity

from hyperctl.activities.attempt import Attempt, attempt
from hyperctl.activities.cleanup import errors_folder
from hyperctl.activities.prove import evidence
from hyperctl.activities.prove.boot import Boot, Trial, boot
from hyperctl.activities.prove.compare import compare
from hyperctl.activities.prove.report import GuestReport
from hyperctl.activities.prove.trial import TrialFiles
from hyperctl.activities.prove.unconverted import UnconvertedBoot, boot_unconverted
from hyperctl.activities.prove.verdict import Judgement, judge, proof_of
from hyperctl.activities.prove.weaker import weaker_proof
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import BOOT_UNCONVERTED, Staging
from hyperctl.workflows.contract import PROVE_BOOT, ConvertResult, ProveInput, ProveResult
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.guest import BootProof, Comparison, Difference, as_guest_knows
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.request import ProveMode
from hyperctl.workflows.status import Phase

STEP = PROVE_BOOT.name


@dataclass(frozen=True, slots=True)
class Proved:
    """A proof, and the boot that it is of."""

    proof: BootProof
    boot: Boot

    @property
    def screenshot(self) -> bytes:
        """The last screen as PNG; empty where there is none."""
        return self.boot.ending.screenshot


class ProveActivities:
    """`prove_boot`."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    @activity.defn(name=PROVE_BOOT.name, no_thread_cancel_exception=True)
    def prove_boot(self, argument: ProveInput) -> ProveResult:
        with attempt(Phase.PROVE, argument.job_id, self._settings.log_dir) as running:
            return prove_and_record(
                argument, self._settings.libvirt_uri, running, self._settings.disk_keys_file
            )


def prove_and_record(
    argument: ProveInput, libvirt_uri: str, running: Attempt, disk_keys_file: Path | None = None
) -> ProveResult:
    """The recorded proof of the same overlays, or a new one, whose evidence is kept in the job's folder.

    One that has found no root device is returned, not recorded, where that may be repaired (`may_rebuild`).
    Raises `PROOF_FAILED` with the problems in its message when it is not passed; the proof, the screen and
    the serial log are then under `OUTPUT_DIR/.errors/JOB`.
    """
    staging = Staging(argument.output_dir, argument.job_id)
    known = _recorded(staging, argument.mode)
    if known is not None:
        running.log.info("proved before")
        return known
    started = time.monotonic()
    converted = staging.finished("convert_guest", ConvertResult)
    guest = converted.guest if converted else None
    mode = ProveMode(argument.mode)
    trial = Trial(
        job_id=argument.job_id,
        machine=as_guest_knows(argument.machine, guest),
        guest=guest,
        disks=argument.disks,
        files=TrialFiles(staging.proof()),
        libvirt_uri=libvirt_uri,
        disk_keys_file=disk_keys_file,
        hardware=argument.hardware,
    )
    before = _before(trial, staging, running) if mode is ProveMode.DIFF else None
    proved = _prove(trial, mode, before, running)

    def result(proof: BootProof) -> ProveResult:
        return ProveResult(proof=proof, duration_seconds=round(time.monotonic() - started, 1))

    if proved.proof.root_missing and argument.may_rebuild:
        proof = _keep(proved, staging.evidence(), evidence.FIRST_PROOF)
        evidence.keep_document(staging.evidence(), evidence.FIRST_PROOF, proved.proof)
        return result(proof)
    if not proved.proof.passed:
        folder = errors_folder(argument.output_dir) / argument.job_id
        proof = _keep(proved, folder, evidence.PROOF)
        evidence.keep_document(folder, evidence.PROOF, proof)
        evidence.copy_others(staging.evidence(), folder)
        raise _failed(argument.machine, proof)
    evidence.keep_boot(staging.evidence(), evidence.PROOF, proved.boot)
    evidence.keep_document(staging.evidence(), evidence.PROOF, proved.proof)
    passed = result(proved.proof)
    staging.finish(STEP, passed)
    return passed


def prove(trial: Trial, mode: ProveMode, running: Attempt) -> Proved:
    """Boot the guest once and judge what it says; in mode `diff` what it was before its conversion, too.

    Raises what `boot` raises.
    """
    before = boot_unconverted(trial, running).found if mode is ProveMode.DIFF else None
    return _prove(trial, mode, before, running)


def _before(trial: Trial, staging: Staging, running: Attempt) -> UnconvertedBoot:
    """The unconverted guest's boot; one that says something is not done twice for the same images."""
    known = staging.finished(BOOT_UNCONVERTED, UnconvertedBoot)
    if known is not None:
        running.log.info("the unconverted guest was booted before")
        return known
    before = boot_unconverted(trial, running)
    evidence.keep_boot(staging.evidence(), evidence.UNCONVERTED, before.boot)
    evidence.keep_document(staging.evidence(), evidence.UNCONVERTED, before.found)
    if not before.found.obstacle:
        staging.finish(BOOT_UNCONVERTED, before.found)
    return before.found


def _prove(trial: Trial, mode: ProveMode, before: UnconvertedBoot | None, running: Attempt) -> Proved:
    unconverted = before.report if before else None

    def differences(report: GuestReport) -> tuple[Difference, ...] | None:
        return compare(unconverted, report, trial.machine) if unconverted else None

    def judged(report: GuestReport) -> Judgement:
        return judge(report, trial.machine, mode, differences=differences(report))

    booted = boot(
        trial, None if mode is ProveMode.BOOT else lambda report: not judged(report).problems, running
    )
    report = booted.full_report
    warnings = booted.warnings
    if before and before.obstacle:
        warnings += (
            f"the unconverted guest is no measure, so all is asked of the converted: {before.obstacle}",
        )
    comparison = before.comparison((differences(report) if report else None) or ()) if before else None
    judgement = judged(report) if report else None
    return Proved(proof_from(booted, trial.machine, mode, judgement, comparison, warnings), booted)


def proof_from(
    booted: Boot,
    machine: Machine,
    mode: ProveMode,
    judgement: Judgement | None,
    comparison: Comparison | None = None,
    warnings: tuple[str, ...] = (),
) -> BootProof:
    """What a boot proves; `judgement` is of its full report, where there is one."""
    ending, report = booted.ending, booted.ending.report
    if booted.signs is not None and not ending.reason:
        return weaker_proof(booted, booted.signs, machine, mode, comparison, warnings)
    if report is not None and judgement is not None:
        if ending.reason:
            problem = f"{ending.reason}: {ending.diagnosis}"
            judgement = replace(judgement, problems=(problem, *judgement.problems))
        proof = proof_of(
            judgement,
            report,
            mode,
            acceleration=booted.acceleration,
            boot_seconds=ending.boot_seconds,
            comparison=comparison,
            warnings=warnings,
        )
        return proof.model_copy(update={"diagnosis": ending.diagnosis})
    return BootProof(
        passed=False,
        mode=mode,
        acceleration=booted.acceleration,
        multi_user=False,
        boot_seconds=round(ending.boot_seconds, 1),
        kernel=report.kernel if report else "",
        failed_units=report.failed_units if report else (),
        comparison=comparison,
        problems=(f"{ending.reason}: {ending.diagnosis}",),
        warnings=warnings,
        diagnosis=ending.diagnosis,
        root_missing=ending.root_missing,
    )


def _keep(proved: Proved, folder: Path, name: str) -> BootProof:
    """Put away what a failed proof is of; returns the proof with the paths of its screen and serial log."""
    kept = evidence.keep_boot(folder, name, proved.boot)
    return proved.proof.model_copy(update={"screenshot": kept.screenshot, "serial_log": kept.serial_log})


def failure_text(machine: Machine, proof: BootProof) -> str:
    """Of a proof that is not passed, in a sentence."""
    return f"{machine.name} did not pass its boot proof: {'; '.join(proof.problems)}"


def _failed(machine: Machine, proof: BootProof) -> HyperctlError:
    where = ", ".join(path for path in (proof.screenshot, proof.serial_log) if path)
    return HyperctlError(
        ErrorCode.PROOF_FAILED,
        failure_text(machine, proof),
        f"What it showed: {where}. The copied disks are kept; `--prove none` migrates without a proof.",
    )


def _recorded(staging: Staging, mode: str) -> ProveResult | None:
    """A proof made since the last conversion, in the mode that is asked for."""
    known = staging.finished(STEP, ProveResult)
    if known is None or known.proof.mode != mode:
        return None
    proved, converted = (staging.folder / f"{step}.done.json" for step in (STEP, "convert_guest"))
    if converted.exists() and converted.stat().st_mtime_ns > proved.stat().st_mtime_ns:
        return None
    return known
