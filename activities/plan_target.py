"""Preflight on the target host: everything that would stand in the way, found at once, nothing touched."""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import libvirt
from temporalio import activity

from hyperctl.activities.acceleration import Acceleration, probe_acceleration
from hyperctl.activities.attempt import Attempt, attempt
from hyperctl.activities.commit import commit_begun
from hyperctl.activities.convert.windows.parts import WindowsParts
from hyperctl.activities.doctor import PROGRAMMES
from hyperctl.activities.export.move import earlier_copies, final_elsewhere
from hyperctl.activities.export.space import shown
from hyperctl.activities.output import choose_folder, nearest
from hyperctl.activities.places import JobPlaces
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging, occupied_bytes, used_bytes
from hyperctl.activities.target.activity import (
    NO_TPM_EMULATOR,
    domain_exists,
    domain_of_earlier_migration,
    firmware_for,
    has_tpm_emulator,
    networks_missing,
)
from hyperctl.activities.target.domain import LARGEST_DISK_COUNT, MOST_WITHOUT_REMAPPING, domain_name
from hyperctl.activities.target.libvirt_host import (
    QemuUser,
    connect,
    find_domain,
    find_network,
    job_of,
    most_processors,
    qemu_user,
)
from hyperctl.activities.target.network import libvirt_networks, networks_of, sources_of
from hyperctl.workflows.contract import PLAN_TARGET, PlanTargetInput
from hyperctl.workflows.errors import ErrorCode, Failure, HyperctlError
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.plan import TargetPlan
from hyperctl.workflows.request import MigrationRequest, ProveMode
from hyperctl.workflows.status import Phase

FIXED_OVERHEAD_BYTES = 256 << 20
OVERHEAD_PER_DISK_BYTES = 64 << 20
"""Overlays of the conversion and the trial boot, ledgers."""


class PlanTargetActivities:
    """`plan_target`."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    @activity.defn(name=PLAN_TARGET.name, no_thread_cancel_exception=True)
    def plan_target(self, argument: PlanTargetInput) -> TargetPlan:
        with attempt(Phase.PLAN, argument.job_id, self._settings.log_dir) as running:
            plan = TargetPreflight(argument, self._settings, running).plan()
            for failure in plan.problems:
                running.log.warning("%s: %s", failure.code, failure.message)
            return plan


class TargetPreflight:
    """Looks at one host on behalf of one migration."""

    def __init__(self, argument: PlanTargetInput, settings: HostSettings, running: Attempt) -> None:
        self._job_id = argument.job_id
        self._request: MigrationRequest = argument.request
        self._machine = argument.machine
        self._settings = settings
        self._running = running
        self._output_dir = Path(argument.request.output_dir or settings.output_dir)
        self._staging = Staging(self._output_dir, argument.job_id)
        self._places = JobPlaces(settings, argument.job_id)
        self._problems: list[Failure] = []
        self._warnings: list[str] = []

    def plan(self) -> TargetPlan:
        """Never raises for what it finds; problems come back together."""
        free_bytes = needed_bytes = most_bytes = staged_bytes = 0
        acceleration = self._check_programmes()
        if self._check_folder():
            self._check_output()
            continued = self._check_earlier_copies()
            staged_bytes = used_bytes(continued)
            free_bytes, needed_bytes, most_bytes = self._check_space(continued)
        if self._machine is not None:
            self._check_machine(self._machine)
        self._check_packages()
        if self._needs_libvirt:
            self._check_libvirt(acceleration)
        return TargetPlan(
            output_dir=str(self._output_dir),
            acceleration=acceleration,
            free_bytes=free_bytes,
            needed_bytes=needed_bytes,
            most_bytes=most_bytes,
            staged_bytes=staged_bytes,
            domain_name=domain_name(self._machine_name) if self._request.to_libvirt else "",
            networks=networks_of(self._machine, self._request.network_map) if self._machine else {},
            problems=tuple(self._problems),
            warnings=tuple(self._warnings),
        )

    @property
    def _needs_libvirt(self) -> bool:
        return self._request.to_libvirt or self._request.prove is not ProveMode.NONE

    def _problem(self, code: ErrorCode, message: str, hint: str = "") -> None:
        self._problems.append(Failure(code=code, message=message, hint=hint))

    def _check_programmes(self) -> str:
        missing = [name for name in PROGRAMMES if shutil.which(name) is None]
        for name in missing:
            hint = f"Install it (apt install {PROGRAMMES[name]})."
            self._problem(ErrorCode.HOST_INCAPABLE, f"this host has no {name}", hint)
        if importlib.util.find_spec("guestfs") is None:
            self._problem(
                ErrorCode.HOST_INCAPABLE,
                "this host has no libguestfs for Python",
                "Install it (apt install python3-guestfs libguestfs-tools).",
            )
        if "qemu-system-x86_64" in missing:
            return ""
        acceleration = probe_acceleration(self._running)
        if acceleration is not Acceleration.KVM and self._needs_libvirt:
            self._warnings.append(
                "KVM does not work on this host: guests run in software emulation, ten times slower"
            )
        return acceleration

    def _check_machine(self, machine: Machine) -> None:
        if len(machine.disks) > LARGEST_DISK_COUNT:
            self._problem(
                ErrorCode.VM_UNSUPPORTED,
                f"{machine.name} has {len(machine.disks)} disks; a domain takes {LARGEST_DISK_COUNT}",
            )
        if machine.runs_windows and self._request.fix.virtio:
            self._problems += WindowsParts.of(self._settings).missing(self._request.hardware)
        if machine.tpm and self._request.to_libvirt and not has_tpm_emulator():
            self._warnings.append(NO_TPM_EMULATOR)
        if self._needs_libvirt:
            try:
                firmware_for(machine, None)
            except HyperctlError as error:
                self._problems += error.failures

    def _check_packages(self) -> None:
        """Which of them a guest can take is not known before its disks are here."""
        folder = self._request.guest_packages
        if folder is not None and not Path(folder).is_dir():
            self._problem(
                ErrorCode.INVALID_REQUEST,
                f"there is no folder {folder} on this host to take guest packages from",
                "Put qemu-guest-agent's package there, or leave --guest-packages out.",
            )

    # --- the output folder ----------------------------------------------------------------------------

    def _check_folder(self) -> bool:
        """Whether the folder is there, or can be made, and can be written."""
        existing = nearest(self._output_dir)
        hint = "Give another --output-dir, or make it usable for the worker."
        if not existing.is_dir():
            self._problem(ErrorCode.OUTPUT_UNUSABLE, f"{existing} is in the way: it is not a folder", hint)
            return False
        try:
            with tempfile.TemporaryFile(dir=existing):
                return True
        except OSError as error:
            self._problem(ErrorCode.OUTPUT_UNUSABLE, f"{existing} cannot be written: {error.strerror}", hint)
            return False

    def _check_output(self) -> None:
        """There must be a place for the images, unless this very migration has one already and goes on."""
        if commit_begun(self._staging) is not None:
            return
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        try:
            choose_folder(str(self._output_dir), today, self._machine_name, self._job_id)
        except HyperctlError as error:
            self._problems += error.failures

    def _check_earlier_copies(self) -> Staging:
        """The working folder to go on from; what lies below another output folder is said."""
        continued = self._staging
        for earlier in earlier_copies(self._staging, self._places):
            size = shown(used_bytes(earlier.staging))
            where = f"{size} of an earlier try of this job, in {earlier.staging.folder}"
            if earlier.is_final:
                self._problems += final_elsewhere(earlier.staging).failures
            elif earlier.can_move and continued is self._staging:
                continued = earlier.staging
                self._warnings.append(f"{where}, will be moved to {self._output_dir} and gone on from")
            else:
                self._warnings.append(
                    f"{where}, cannot be gone on from here; it is deleted with this job "
                    f"(hyperctl discard --job {self._job_id}) or when this migration has completed"
                )
        return continued

    def _check_space(self, continued: Staging) -> tuple[int, int, int]:
        """Free, needed and at worst needed bytes; what this job has landed before is not needed again."""
        existing = nearest(self._output_dir)
        free = shutil.disk_usage(existing).free
        if self._machine is None:
            return free, 0, 0
        overhead = FIXED_OVERHEAD_BYTES + OVERHEAD_PER_DISK_BYTES * len(self._machine.disks)
        landed = sum(map(occupied_bytes, self._staged_images(continued)))
        needed = max(0, self._machine.allocated_bytes - landed) + overhead
        worst = max(0, self._machine.capacity_bytes - landed) + overhead
        if needed > free:
            self._problem(
                ErrorCode.NO_SPACE,
                f"{self._output_dir} needs {_gib(needed)} and has {_gib(free)} free: "
                f"{_gib(needed - free)} are missing",
                f"Make room on the filesystem of {existing}, or give another --output-dir.",
            )
        elif worst > free:
            self._warnings.append(
                f"{self._output_dir} has {_gib(free)} free: enough for what the disks hold now, but not for "
                f"disks that fill up ({_gib(worst)})"
            )
        return free, needed, worst

    def _staged_images(self, staging: Staging) -> Iterator[Path]:
        for index in range(1, len(self._machine.disks) + 1 if self._machine else 1):
            yield staging.image(index, self._request.format)

    # --- libvirt --------------------------------------------------------------------------------------

    def _check_libvirt(self, acceleration: str) -> None:
        try:
            with connect(self._settings.libvirt_uri) as connection:
                self._check_way_for_qemu(qemu_user(connection))
                if self._request.to_libvirt:
                    self._check_domain(connection)
                    self._check_networks(connection)
                    self._check_processors(connection, acceleration)
        except HyperctlError as error:
            self._problems += error.failures

    @property
    def _machine_name(self) -> str:
        return self._machine.name if self._machine else self._request.name

    def _check_domain(self, connection: libvirt.virConnect) -> None:
        name = domain_name(self._machine_name)
        domain = find_domain(connection, name)
        if domain is None:
            return
        if job_of(domain) != self._job_id:
            self._problems += domain_exists(name).failures
        elif commit_begun(self._staging) is None:
            self._problems += domain_of_earlier_migration(name).failures

    def _check_networks(self, connection: libvirt.virConnect) -> None:
        if self._machine is None:
            return
        sources = sources_of(self._machine, self._request.network_map)
        self._problems += networks_missing(connection, sources)
        for name in libvirt_networks(sources):
            network = find_network(connection, name)
            if network is not None and not network.isActive():
                self._warnings.append(f"the libvirt network {name!r} is down: virsh net-start {name}")

    def _check_processors(self, connection: libvirt.virConnect, acceleration: str) -> None:
        machine = self._machine
        if machine is None or not acceleration:
            return
        most = most_processors(connection, "q35", Acceleration(acceleration).domain_type)
        if most and machine.vcpus > most:
            self._problem(
                ErrorCode.VM_UNSUPPORTED,
                f"{machine.name} has {machine.vcpus} processors; a domain on this host takes {most}",
                f"Give it {most} at most in vSphere, or migrate it to a host with a newer QEMU.",
            )
        elif machine.vcpus > MOST_WITHOUT_REMAPPING and acceleration != Acceleration.KVM:
            self._warnings.append(
                f"more than {MOST_WITHOUT_REMAPPING} processors, as {machine.name} has, start with KVM only"
            )

    def _check_way_for_qemu(self, user: QemuUser | None) -> None:
        """qemu runs as a user of its own, who must be able to pass through every folder above the images."""
        if user is None or user.uid == os.geteuid():
            return
        existing = nearest(self._output_dir)
        if not existing.is_dir():
            return  # which has been said
        for folder in (existing, *existing.parents):
            if not _may_pass(folder, user):
                self._problem(
                    ErrorCode.OUTPUT_UNUSABLE,
                    f"qemu, which libvirt runs as user {user.uid}, cannot pass through {folder}",
                    f"Allow it (chmod o+x {folder}), or give another --output-dir.",
                )


def _may_pass(folder: Path, user: QemuUser) -> bool:
    status = folder.stat()
    if status.st_uid == user.uid:
        return bool(status.st_mode & 0o100)
    if status.st_gid == user.gid:
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
