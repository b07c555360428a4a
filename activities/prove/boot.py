"""One trial boot, from its overlays to what the guest showed. Nothing of it stays."""

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from hyperctl.activities.acceleration import Acceleration, probe_acceleration
from hyperctl.activities.appliance import appliance_environment
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.chain import files_of
from hyperctl.activities.convert.disk_keys import read_disk_keys
from hyperctl.activities.overlay import create_overlay
from hyperctl.activities.process import ProcessError, run
from hyperctl.activities.prove import vmware
from hyperctl.activities.prove.console import is_stopped_by_emulator
from hyperctl.activities.prove.dead_end import dead_ends
from hyperctl.activities.prove.inject import Injected, Injection
from hyperctl.activities.prove.life import SignsOfLife, agent_of
from hyperctl.activities.prove.limit import Patience, unit_seconds
from hyperctl.activities.prove.report import GuestReport
from hyperctl.activities.prove.reporter import PORT_NAME
from hyperctl.activities.prove.trial import Ending, TrialFiles, Watch, readable_by, running_domain
from hyperctl.activities.prove.unlock import Unlocking, is_typed, terminal_of
from hyperctl.activities.target.activity import firmware_for
from hyperctl.activities.target.domain import (
    BackingImage,
    DomainDisk,
    DomainSpec,
    Provenance,
    TrialConsole,
    disk_device,
    domain_uuid,
    domain_xml,
)
from hyperctl.activities.target.libvirt_host import connect, qemu_user
from hyperctl.workflows.disk import ConvertedDisk
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.guest import GuestSystem
from hyperctl.workflows.hardware import VIRTIO, Hardware
from hyperctl.workflows.machine import Machine

INJECT_TIMEOUT_SECONDS = 600.0
SHARE_OF_FREE_MEMORY = 0.8


@dataclass(frozen=True, slots=True)
class Trial:
    """What is booted: the converted guest, or what its conversion began with."""

    job_id: str
    machine: Machine
    guest: GuestSystem | None
    disks: tuple[ConvertedDisk, ...]
    files: TrialFiles
    libvirt_uri: str
    patience: Patience | None = None
    """None: what this host needs."""
    disk_keys_file: Path | None = None
    hardware: Hardware = VIRTIO
    unconverted: bool = False
    """The guest as it came, on VMware's hardware as qemu emulates it."""

    def as_it_came(self) -> "Trial":
        """The same machine before its conversion, whose own report comes by a serial port."""
        return replace(self, hardware=vmware.PLAIN, unconverted=True)

    def chain(self, disk: ConvertedDisk) -> tuple[BackingImage, ...]:
        """What lies under a disk's throw-away overlay."""
        base = BackingImage(disk.base, disk.base_format)
        return (base,) if self.unconverted else (BackingImage(disk.overlay, "qcow2"), base)


@dataclass(frozen=True, slots=True)
class Boot:
    """What a guest showed when it was booted."""

    ending: Ending
    acceleration: Acceleration
    serial_log: bytes
    warnings: tuple[str, ...] = ()
    signs: SignsOfLife | None = None
    """Of a guest that has no reporter."""

    @property
    def full_report(self) -> GuestReport | None:
        """The guest's last word, where it had come far enough for all of it."""
        report = self.ending.report
        return report if report is not None and report.full else None


def boot(trial: Trial, satisfies: Callable[[GuestReport], bool] | None, running: Attempt) -> Boot:
    """Boot a guest and listen to it. Neither base nor conversion overlay is written.

    A boot that the emulator has stopped, and not the guest, is made once more. Whatever happens, the domain
    and the overlays are gone afterwards. Raises `PROOF_FAILED` when the guest cannot be asked at all,
    `vmware.NotEmulatedError`, and what libvirt raises.
    """
    booted = _boot(trial, satisfies, running)
    if booted.acceleration is not Acceleration.TCG or not is_stopped_by_emulator(booted.serial_log):
        return booted
    running.log.warning("stopped by the emulator on a busy host: %s; once more", booted.ending.diagnosis)
    return _boot(trial, satisfies, running)


def _boot(trial: Trial, satisfies: Callable[[GuestReport], bool] | None, running: Attempt) -> Boot:
    disks = tuple(sorted(trial.disks, key=lambda disk: disk.index))
    files, machine = trial.files, trial.machine
    acceleration = probe_acceleration(running)
    firmware = firmware_for(machine, trial.guest)
    with ExitStack() as resources:
        connection = resources.enter_context(connect(trial.libvirt_uri))
        user = qemu_user(connection) if os.geteuid() == 0 else None
        resources.callback(files.remove)
        files.create()
        for disk in disks:
            lower = trial.chain(disk)[0]
            create_overlay(files.overlay(disk.index), lower.address, lower.format, running)
        injection = Injection(
            disks=tuple(str(files.overlay(disk.index)) for disk in disks),
            patience_seconds=unit_seconds(acceleration),
            machine_name=machine.name,
            disk_keys_file=trial.disk_keys_file,
        )
        # Into Windows nothing of ours can be put without its leave.
        is_windows = trial.guest is not None and trial.guest.is_windows
        injected = Injected() if is_windows else _inject(injection, acceleration, running)
        has_reporter = bool(injected.roots)
        keys = [key.content for key in read_disk_keys(trial.disk_keys_file, machine.name)]
        passphrases = [keys[place] for place in injected.keys_used if is_typed(keys[place])]
        if trial.unconverted and not has_reporter:
            raise HyperctlError(ErrorCode.PROOF_FAILED, "it has no systemd, and cannot tell what works in it")
        if firmware:
            shutil.copyfile(firmware.variables_template, files.nvram)
            files.nvram.chmod(0o600)
        if user:
            files.give_to(user)
        resources.enter_context(readable_by(user, tuple(files_of(disks))))
        sources = resources.enter_context(dead_ends(len(machine.nics)))
        memory_bytes, memory_warnings = _memory(machine)
        purpose = "unconverted" if trial.unconverted else "proof"
        name = f"hyperctl-{purpose}-{trial.job_id}"
        xml = domain_xml(
            DomainSpec(
                name=name,
                uuid=domain_uuid(trial.job_id, purpose),
                machine=machine,
                guest=trial.guest,
                disks=tuple(
                    DomainDisk(str(files.overlay(disk.index)), "qcow2", trial.chain(disk)) for disk in disks
                ),
                nic_sources=sources,
                domain_type=acceleration.domain_type,
                provenance=Provenance(trial.job_id, datetime.now(UTC)),
                firmware=firmware,
                nvram=str(files.nvram) if firmware else "",
                vcpus=_processors(machine, acceleration),
                memory_bytes=memory_bytes,
                trial=TrialConsole(
                    serial_file=str(files.serial),
                    report_file=str(files.report),
                    report_channel=PORT_NAME,
                    qemu_label=user.label if user else "",
                    asks_agent=not has_reporter,
                    can_be_typed_at=bool(passphrases),
                ),
                hardware=trial.hardware,
            )
        )
        if trial.unconverted:
            xml = vmware.on_vmware(xml, machine)
        running.log.info("trial domain:\n%s", xml)
        domain = resources.enter_context(running_domain(connection, xml, name, trial.job_id))
        patience = trial.patience or Patience.under(acceleration)
        subject = "the unconverted guest" if trial.unconverted else "the guest"
        if injected.relabels:
            patience = patience.with_relabelling(injected.relabels)
            subject += ", which labels its files for SELinux first and boots again,"
        signs = None
        if not has_reporter:
            agent = resources.enter_context(agent_of(domain))
            names = tuple(disk_device(number, trial.hardware.disk_bus) for number in range(len(disks)))
            signs = SignsOfLife(domain, names, agent, patience, running)
        unlocking = Unlocking(terminal_of(domain), passphrases, running)
        ending = Watch(domain, files, satisfies, patience, running, unlocking, subject, signs).until_end()
        serial_log = unlocking.hidden(files.serial.read_bytes())
    return Boot(ending, acceleration, serial_log, (*memory_warnings, *unlocking.warnings), signs)


def _processors(machine: Machine, acceleration: Acceleration) -> int:
    """One in emulation: a kernel patches its own code while it runs, and of several emulated processors one
    may still execute the old, which ends in a panic (`Oops: int3`)."""
    return 1 if acceleration is Acceleration.TCG else min(machine.vcpus, os.cpu_count() or 1)


def _inject(injection: Injection, acceleration: Acceleration, running: Attempt) -> Injected:
    """Put the reporter in. Raises `PROOF_FAILED` where there is no system, of whatever kind."""
    running.report(message="putting the reporter into a throw-away overlay")
    try:
        with appliance_environment(acceleration) as environment:
            completed = run(
                [sys.executable, "-m", "hyperctl.activities.prove.inject"],
                running,
                timeout_seconds=INJECT_TIMEOUT_SECONDS,
                stdin=injection.model_dump_json().encode(),
                environment=environment,
            )
    except ProcessError as error:
        raise HyperctlError(
            ErrorCode.PROOF_FAILED,
            f"the boot proof's reporter could not be put into the guest: {error}",
            "The job's log has libguestfs' own words; `--prove none` migrates without a proof.",
        ) from error
    injected = Injected.model_validate_json(completed.stdout)
    running.log.info("reporter: %s", injected.model_dump_json())
    if not injected.roots and not injected.without_systemd:
        raise HyperctlError(
            ErrorCode.PROOF_FAILED,
            "the converted guest cannot be asked how it boots: it has no root filesystem that can be read",
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
