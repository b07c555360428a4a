"""The boot proof from its overlays to its verdict."""

import os
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from temporalio import activity

from hyperctl.activities.acceleration import Acceleration, libguestfs_environment, probe_acceleration
from hyperctl.activities.attempt import Attempt, attempt
from hyperctl.activities.chain import files_of
from hyperctl.activities.cleanup import errors_folder
from hyperctl.activities.overlay import create_overlay
from hyperctl.activities.process import ProcessError, run
from hyperctl.activities.prove.dead_end import dead_ends
from hyperctl.activities.prove.inject import Injected, Injection
from hyperctl.activities.prove.reporter import PORT_NAME
from hyperctl.activities.prove.trial import (
    Ending,
    Patience,
    TrialFiles,
    Watch,
    readable_by,
    running_domain,
)
from hyperctl.activities.prove.verdict import judge, proof_of
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging, write_atomically
from hyperctl.activities.target.activity import firmware_for
from hyperctl.activities.target.domain import (
    BackingImage,
    DomainDisk,
    DomainSpec,
    Provenance,
    TrialConsole,
    domain_uuid,
    domain_xml,
)
from hyperctl.activities.target.libvirt_host import connect, qemu_user
from hyperctl.workflows.contract import PROVE_BOOT, ConvertResult, ProveInput, ProveResult
from hyperctl.workflows.disk import ConvertedDisk
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.guest import BootProof, GuestSystem
from hyperctl.workflows.hardware import VIRTIO, Hardware
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.request import ProveMode
from hyperctl.workflows.status import Phase

STEP = PROVE_BOOT.name
INJECT_TIMEOUT_SECONDS = 600.0
SHARE_OF_FREE_MEMORY = 0.8
SLOW_PATIENCE_SECONDS = 300
"""systemd's own 90 s are short for a guest in software emulation on a busy host."""


@dataclass(frozen=True, slots=True)
class Proved:
    """A proof, and what is kept of a boot that went wrong."""

    proof: BootProof
    screenshot: bytes = b""
    serial_log: bytes = b""


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
    """The recorded proof of the same overlays, or a new one.

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
    proved = prove(
        job_id=argument.job_id,
        machine=argument.machine,
        guest=converted.guest if converted else None,
        disks=argument.disks,
        mode=ProveMode(argument.mode),
        files=TrialFiles(staging.proof()),
        libvirt_uri=libvirt_uri,
        running=running,
        disk_keys_file=disk_keys_file,
        hardware=argument.hardware,
    )
    if proved.proof.root_missing and argument.may_rebuild:
        return ProveResult(proof=proved.proof, duration_seconds=round(time.monotonic() - started, 1))
    if not proved.proof.passed:
        proof = _keep_failure(proved, errors_folder(argument.output_dir) / argument.job_id)
        raise _failed(argument.machine, proof)
    result = ProveResult(proof=proved.proof, duration_seconds=round(time.monotonic() - started, 1))
    staging.finish(STEP, result)
    return result


def prove(
    *,
    job_id: str,
    machine: Machine,
    guest: GuestSystem | None,
    disks: tuple[ConvertedDisk, ...],
    mode: ProveMode,
    files: TrialFiles,
    libvirt_uri: str,
    running: Attempt,
    patience: Patience | None = None,
    disk_keys_file: Path | None = None,
    hardware: Hardware = VIRTIO,
) -> Proved:
    """Boot the guest once and judge what it says. Neither base nor conversion overlay is written.

    Whatever happens, the domain and the overlays are gone afterwards. Raises `PROOF_FAILED` when the guest
    cannot be asked at all, and what libvirt raises.
    """
    disks = tuple(sorted(disks, key=lambda disk: disk.index))
    acceleration = probe_acceleration(running)
    firmware = firmware_for(machine, guest)
    with ExitStack() as resources:
        connection = resources.enter_context(connect(libvirt_uri))
        user = qemu_user(connection) if os.geteuid() == 0 else None
        resources.callback(files.remove)
        files.create()
        for disk in disks:
            create_overlay(files.overlay(disk.index), disk.overlay, "qcow2", running)
        injection = Injection(
            disks=tuple(str(files.overlay(disk.index)) for disk in disks),
            patience_seconds=SLOW_PATIENCE_SECONDS if acceleration is Acceleration.TCG else 0,
            machine_name=machine.name,
            disk_keys_file=disk_keys_file,
        )
        patience = patience or Patience.under(acceleration)
        if _inject(injection, acceleration, running).relabels:
            running.log.info("the guest labels its files for SELinux first, and then boots once more")
            patience = patience.with_relabelling()
        if firmware:
            shutil.copyfile(firmware.variables_template, files.nvram)
            files.nvram.chmod(0o600)
        if user:
            files.give_to(user)
        resources.enter_context(readable_by(user, tuple(files_of(disks))))
        sources = resources.enter_context(dead_ends(len(machine.nics)))
        memory_bytes, memory_warnings = _memory(machine)
        name = f"hyperctl-proof-{job_id}"
        specification = DomainSpec(
            name=name,
            uuid=domain_uuid(job_id, "proof"),
            machine=machine,
            guest=guest,
            disks=tuple(_chain(disk, files) for disk in disks),
            nic_sources=sources,
            domain_type=acceleration.domain_type,
            provenance=Provenance(job_id, datetime.now(UTC)),
            firmware=firmware,
            nvram=str(files.nvram) if firmware else "",
            vcpus=_processors(machine, acceleration),
            memory_bytes=memory_bytes,
            trial=TrialConsole(
                serial_file=str(files.serial),
                report_file=str(files.report),
                report_channel=PORT_NAME,
                qemu_label=user.label if user else "",
            ),
            hardware=hardware,
        )
        xml = domain_xml(specification)
        running.log.info("trial domain:\n%s", xml)
        domain = resources.enter_context(running_domain(connection, xml, name, job_id))
        watch = Watch(domain, files, machine, mode, patience, running)
        ending = watch.until_end()
        serial_log = files.serial.read_bytes()
    return Proved(
        proof=_proof(ending, machine, mode, acceleration, memory_warnings),
        screenshot=ending.screenshot,
        serial_log=serial_log,
    )


def _processors(machine: Machine, acceleration: Acceleration) -> int:
    """One in emulation: a kernel patches its own code while it runs, and of several emulated processors one
    may still execute the old, which ends in a panic (`Oops: int3`)."""
    return 1 if acceleration is Acceleration.TCG else min(machine.vcpus, os.cpu_count() or 1)


def _recorded(staging: Staging, mode: str) -> ProveResult | None:
    """A proof made since the last conversion, in the mode that is asked for."""
    known = staging.finished(STEP, ProveResult)
    if known is None or known.proof.mode != mode:
        return None
    proved, converted = (staging.folder / f"{step}.done.json" for step in (STEP, "convert_guest"))
    if converted.exists() and converted.stat().st_mtime_ns > proved.stat().st_mtime_ns:
        return None
    return known


def _chain(disk: ConvertedDisk, files: TrialFiles) -> DomainDisk:
    return DomainDisk(
        str(files.overlay(disk.index)),
        "qcow2",
        (BackingImage(disk.overlay, "qcow2"), BackingImage(disk.base, disk.base_format)),
    )


def _inject(injection: Injection, acceleration: Acceleration, running: Attempt) -> Injected:
    """Put the reporter in. Raises `PROOF_FAILED` where there is no system to put it in."""
    running.report(message="putting the reporter into a throw-away overlay")
    try:
        completed = run(
            [sys.executable, "-m", "hyperctl.activities.prove.inject"],
            running,
            timeout_seconds=INJECT_TIMEOUT_SECONDS,
            stdin=injection.model_dump_json().encode(),
            environment=libguestfs_environment(acceleration),
        )
    except ProcessError as error:
        raise HyperctlError(
            ErrorCode.PROOF_FAILED,
            f"the boot proof's reporter could not be put into the guest: {error}",
            "The job's log has libguestfs' own words; `--prove none` migrates without a proof.",
        ) from error
    injected = Injected.model_validate_json(completed.stdout)
    running.log.info("reporter: %s", injected.model_dump_json())
    if not injected.roots:
        found = "has no systemd" if injected.without_systemd else "has no root filesystem that can be read"
        raise HyperctlError(
            ErrorCode.PROOF_FAILED,
            f"the converted guest cannot be asked how it boots: it {found}",
            "`--prove none` migrates it without a proof.",
        )
    return injected


def _memory(machine: Machine) -> tuple[int, tuple[str, ...]]:
    """The machine's own memory, or what the host can spare of it."""
    with open("/proc/meminfo", encoding="ascii") as file:
        facts = dict(line.split(":", 1) for line in file)
    spare = int(int(facts["MemAvailable"].split()[0]) * 1024 * SHARE_OF_FREE_MEMORY)
    if machine.memory_bytes <= spare:
        return machine.memory_bytes, ()
    spare -= spare % (1 << 20)
    warning = f"the trial boot had {spare >> 20} MiB of memory instead of {machine.memory_bytes >> 20} MiB"
    return spare, (warning,)


def _proof(
    ending: Ending, machine: Machine, mode: ProveMode, acceleration: Acceleration, warnings: tuple[str, ...]
) -> BootProof:
    if ending.report is not None and ending.report.full:
        judgement = judge(ending.report, machine, mode)
        return proof_of(
            judgement,
            ending.report,
            mode,
            acceleration=acceleration,
            boot_seconds=ending.boot_seconds,
            warnings=warnings,
        )
    report = ending.report
    return BootProof(
        passed=False,
        mode=mode,
        acceleration=acceleration,
        multi_user=False,
        boot_seconds=round(ending.boot_seconds, 1),
        kernel=report.kernel if report else "",
        failed_units=report.failed_units if report else (),
        problems=(f"{ending.reason}: {ending.diagnosis}",),
        warnings=warnings,
        diagnosis=ending.diagnosis,
        root_missing=ending.root_missing,
    )


def _keep_failure(proved: Proved, folder: Path) -> BootProof:
    """Put proof, screen and serial log where they outlast the job; returns the proof with their paths."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    screenshot, serial_log = folder / "screenshot.png", folder / "serial.log"
    write_atomically(serial_log, proved.serial_log)
    if proved.screenshot:
        write_atomically(screenshot, proved.screenshot)
    else:
        screenshot.unlink(missing_ok=True)
    proof = proved.proof.model_copy(
        update={
            "screenshot": str(screenshot) if proved.screenshot else "",
            "serial_log": str(serial_log),
        }
    )
    write_atomically(folder / "proof.json", proof.model_dump_json(indent=1).encode())
    return proof


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
