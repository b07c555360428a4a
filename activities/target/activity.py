"""Define the migrated guest as a libvirt domain, and take it back. Disks are never deleted here."""

import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path

import libvirt
from temporalio import activity

from hyperctl.activities.acceleration import Acceleration, probe_acceleration
from hyperctl.activities.attempt import Attempt, attempt
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.target.domain import (
    DomainDisk,
    DomainSpec,
    Provenance,
    domain_name,
    domain_uuid,
    domain_xml,
    runs_on_q35,
    source_uuid,
)
from hyperctl.activities.target.firmware import FirmwareFiles, find_firmware
from hyperctl.activities.target.libvirt_host import connect, disk_files, find_domain, find_network, job_of
from hyperctl.activities.target.network import HostBridge, LibvirtNetwork, libvirt_networks, sources_of
from hyperctl.workflows.contract import (
    IMPORT_DOMAIN,
    REMOVE_DOMAIN,
    DiscardInput,
    ImportInput,
    ImportResult,
    Nothing,
)
from hyperctl.workflows.errors import ErrorCode, Failure, HyperctlError, PreflightError
from hyperctl.workflows.guest import GuestSystem, as_guest_knows
from hyperctl.workflows.machine import Firmware, Machine
from hyperctl.workflows.status import Phase

BRIDGES_FOLDER = Path("/sys/class/net")
NO_TPM_EMULATOR = (
    "the domain gets no TPM, which the VM had, for want of swtpm on this host (apt install swtpm swtpm-tools)"
)
NETWORK_HINT = (
    "Map the VM's networks to others with --network-map 'VSPHERE NETWORK=NAME' or '=bridge:DEVICE'."
)


class TargetActivities:
    """`import_domain` and its undo."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    @activity.defn(name=IMPORT_DOMAIN.name, no_thread_cancel_exception=True)
    def import_domain(self, argument: ImportInput) -> ImportResult:
        with attempt(Phase.IMPORT, argument.job_id, self._settings.log_dir) as running:
            return import_domain(argument, self._settings.libvirt_uri, running)

    @activity.defn(name=REMOVE_DOMAIN.name, no_thread_cancel_exception=True)
    def remove_domain(self, argument: DiscardInput) -> Nothing:
        with attempt(Phase.IMPORT, argument.job_id, self._settings.log_dir) as running:
            remove_domain(argument.job_id, argument.domain_name, self._settings.libvirt_uri, running)
            return Nothing()


def import_domain(argument: ImportInput, libvirt_uri: str, running: Attempt) -> ImportResult:
    """Define the domain, and start it if asked.

    A domain of that name which this job defined over these images before is taken as it is. All is checked
    before anything is defined, and what was defined goes again when it cannot be started. Raises
    `DOMAIN_EXISTS` for any other of that name and for another one over the same images, `INVALID_REQUEST` for
    networks that are not there, `LIBVIRT_UNREACHABLE`, `LIBVIRT_REFUSED` and `HOST_INCAPABLE` (no firmware).
    """
    running.report(message=f"defining the domain {argument.domain_name}")
    name = domain_name(argument.domain_name)
    sources = sources_of(argument.machine, argument.network_map)
    acceleration = probe_acceleration(running)
    with connect(libvirt_uri) as connection:
        domain = find_domain(connection, name)
        if domain is not None and job_of(domain) != argument.job_id:
            raise domain_exists(name)
        if domain is not None and not disk_files(domain) & {disk.path for disk in argument.disks}:
            raise domain_of_earlier_migration(name)
        _refuse_second_domain(connection, name, argument)
        _refuse_missing_networks(connection, sources)
        is_new = domain is None
        if domain is None:
            identity = _free_uuid(connection, argument, name)
            xml = domain_xml(_specification(argument, name, sources, identity, acceleration))
            running.log.info("domain:\n%s", xml)
            running.checkpoint()
            domain = connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
        try:
            warnings = _prepare_networks(connection, libvirt_networks(sources), start=argument.start)
            running.checkpoint()
            if argument.start and not domain.isActive():
                domain.create()
        except BaseException:
            if is_new:
                _take_back(domain, running)
            raise
        if argument.machine.tpm and not has_tpm_emulator():
            warnings += (NO_TPM_EMULATOR,)
        return ImportResult(
            domain=name,
            domain_uuid=domain.UUIDString(),
            started=bool(domain.isActive()),
            warnings=warnings,
        )


def remove_domain(job_id: str, name: str, libvirt_uri: str, running: Attempt) -> None:
    """Stop and undefine the domain that this job defined, with its firmware variables.

    One that it did not define is left alone, and one that is gone is no error.
    """
    with connect(libvirt_uri) as connection:
        domain = find_domain(connection, domain_name(name))
        if domain is None:
            return
        if job_of(domain) != job_id:
            running.log.info("the domain %s was not made by this job and stays", name)
            return
        if domain.isActive():
            domain.destroy()
        _undefine(domain)


def _take_back(domain: libvirt.virDomain, running: Attempt) -> None:
    """After a failure, which is what counts: one that cannot be undefined is only noted."""
    try:
        _undefine(domain)
    except libvirt.libvirtError as error:
        running.log.warning("the domain stays defined: %s", error.get_error_message())


def _undefine(domain: libvirt.virDomain) -> None:
    domain.undefineFlags(
        libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    )


def domain_exists(name: str) -> HyperctlError:
    return HyperctlError(
        ErrorCode.DOMAIN_EXISTS,
        f"libvirt already has a domain {name!r} that is not this migration's",
        f"Rename it (virsh domrename {name!r} NEW-NAME) or remove it, then try again.",
    )


def domain_of_earlier_migration(name: str) -> HyperctlError:
    return HyperctlError(
        ErrorCode.DOMAIN_EXISTS,
        f"libvirt's domain {name!r} is of an earlier migration of this VM, with the images of then",
        f"Rename it (virsh domrename {name!r} NEW-NAME) or remove it (virsh undefine --nvram {name!r}), "
        "which leaves its images; then try again.",
    )


def firmware_for(machine: Machine, guest: GuestSystem | None) -> FirmwareFiles | None:
    """The firmware that the machine needs on this host; None for BIOS. Raises `HOST_INCAPABLE`."""
    if machine.firmware is not Firmware.EFI:
        return None
    files = find_firmware(secure_boot=machine.secure_boot, q35=runs_on_q35(machine, guest))
    if files is None:
        kind = "UEFI firmware with Secure Boot" if machine.secure_boot else "UEFI firmware"
        raise HyperctlError(
            ErrorCode.HOST_INCAPABLE,
            f"{machine.name} boots by UEFI and this host has no {kind} for virtual machines",
            "Install it (Debian, Ubuntu: apt install ovmf; Fedora, RHEL: dnf install edk2-ovmf).",
        )
    return files


def _specification(
    argument: ImportInput,
    name: str,
    sources: tuple[LibvirtNetwork | HostBridge, ...],
    identity: uuid.UUID,
    acceleration: Acceleration,
) -> DomainSpec:
    disks = sorted(argument.disks, key=lambda disk: disk.index)
    return DomainSpec(
        name=name,
        uuid=identity,
        machine=as_guest_knows(argument.machine, argument.guest),
        guest=argument.guest,
        disks=tuple(DomainDisk(disk.path, disk.format) for disk in disks),
        nic_sources=sources,
        domain_type=acceleration.domain_type,
        provenance=Provenance(argument.job_id, datetime.now(UTC)),
        firmware=firmware_for(argument.machine, argument.guest),
        hardware=argument.hardware,
        tpm=argument.machine.tpm and has_tpm_emulator(),
    )


def has_tpm_emulator() -> bool:
    """Whether libvirt can give a domain a TPM; it runs swtpm(8) for it."""
    return shutil.which("swtpm") is not None


def _refuse_second_domain(connection: libvirt.virConnect, name: str, argument: ImportInput) -> None:
    """Two domains over one image would destroy it as soon as both run."""
    paths = {disk.path for disk in argument.disks}
    for other in connection.listAllDomains():
        if other.name() != name and disk_files(other) & paths:
            raise HyperctlError(
                ErrorCode.DOMAIN_EXISTS,
                f"the libvirt domain {other.name()!r} has these images as its disks already; "
                f"{name!r} over them, too, would destroy them",
                f"Rename that one (virsh domrename {other.name()!r} {name!r}), undefine it "
                f"(virsh undefine --nvram {other.name()!r}), or import a copy of the images.",
            )


def _refuse_missing_networks(
    connection: libvirt.virConnect, sources: tuple[LibvirtNetwork | HostBridge, ...]
) -> None:
    """Every network at once."""
    problems = networks_missing(connection, sources)
    if problems:
        raise PreflightError(problems)


def networks_missing(
    connection: libvirt.virConnect, sources: tuple[LibvirtNetwork | HostBridge, ...]
) -> tuple[Failure, ...]:
    """The networks and bridges that this host does not have."""
    names = [name for name in libvirt_networks(sources) if find_network(connection, name) is None]
    devices = dict.fromkeys(source.device for source in sources if isinstance(source, HostBridge))
    missing = [device for device in devices if not (BRIDGES_FOLDER / device / "bridge").is_dir()]
    messages = [f"libvirt has no network {name!r}" for name in names]
    messages += [f"this host has no bridge {device!r}" for device in missing]
    return tuple(
        Failure(code=ErrorCode.INVALID_REQUEST, message=message, hint=NETWORK_HINT) for message in messages
    )


def _free_uuid(connection: libvirt.virConnect, argument: ImportInput, name: str) -> uuid.UUID:
    """The source's own, which its guest has seen as its hardware's, unless a clone has it already."""
    original = source_uuid(argument.machine)
    if original is not None and str(original) not in {
        domain.UUIDString() for domain in connection.listAllDomains()
    }:
        return original
    return domain_uuid(argument.job_id, name)


def _prepare_networks(
    connection: libvirt.virConnect, names: tuple[str, ...], *, start: bool
) -> tuple[str, ...]:
    """Start the networks that a started domain needs; otherwise say which are down."""
    warnings: list[str] = []
    for name in names:
        network = find_network(connection, name)
        if network is None:
            continue  # it went after it had been looked for; libvirt says so when the domain starts
        if not network.isActive() and start:
            network.create()
            warnings.append(f"the libvirt network {name!r} was down and has been started")
        elif not network.isActive():
            warnings.append(f"the libvirt network {name!r} is down: virsh net-start {name}")
    return tuple(warnings)
