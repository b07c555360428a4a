"""The source side of the preflight where the machine is a file on this host."""

import re
from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.file import read_source
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.source.file_machine import FileKind, FileMachine, check_path
from hyperctl.activities.source.images import ImageFormat
from hyperctl.workflows.errors import ErrorCode, Failure, HyperctlError
from hyperctl.workflows.machine import Firmware, Machine
from hyperctl.workflows.plan import SourcePlan
from hyperctl.workflows.request import FileSource, FirmwareChoice, TransportChoice

SUPPORTED_GUESTS = "Debian, Ubuntu and Windows"
_SUPPORTED = re.compile(r"(debian|ubuntu)\w*", re.IGNORECASE)
_OTHERS = re.compile(
    r"(dos|os2|darwin|freebsd|solaris|netware|openserver|unixware|ecomstation|vmkernel|crxpod)\w*",
    re.IGNORECASE,
)
"""vSphere's guest ids (VirtualMachineGuestOsIdentifier) of systems that are neither Linux nor Windows."""


def plan_file(file: FileSource, vm_name: str | None, settings: HostSettings, running: Attempt) -> SourcePlan:
    """Read the machine in a file and judge it; every problem at once."""
    transport = TransportChoice.FILE
    try:
        _require_here(Path(file.path), settings)
        found = read_source(file, running)
    except HyperctlError as error:
        for failure in error.failures:
            running.log.error("%s", failure.message)
        return SourcePlan(host=settings.host, transport=transport, problems=error.failures)
    machine = as_asked(found.machine, file, vm_name)
    problems = guest_problems(machine)
    for problem in problems:
        running.log.error("%s", problem.message)
    return SourcePlan(
        host=settings.host,
        machine=machine,
        transport=transport,
        transport_reason=how_copied(found),
        problems=problems,
        warnings=guest_warnings(machine, found.kind) + found.remarks,
    )


def as_asked(machine: Machine, file: FileSource, vm_name: str | None) -> Machine:
    """The machine with what the request says in place of its descriptor."""
    changes: dict[str, object] = {"name": vm_name or machine.name}
    if file.firmware is not FirmwareChoice.AUTO:
        changes["firmware"] = Firmware(file.firmware.value)
    if file.memory_mib is not None:
        changes["memory_bytes"] = file.memory_mib << 20
    if file.vcpus is not None:
        changes |= {"vcpus": file.vcpus, "cores_per_socket": 1}
    return machine.model_copy(update=changes)


def how_copied(found: FileMachine) -> str:
    """Why the transport is `file`, and how each disk is read, in a sentence."""
    ways = {
        _way(disk.image.is_stream, disk.image.format) if disk.image else "an empty disk is made"
        for disk in found.disks
    }
    return f"the source is a file on this host ({found.kind}): {', '.join(sorted(ways))}"


def _way(is_stream: bool, image_format: ImageFormat) -> str:
    if is_stream:
        return "a streamOptimized VMDK is decoded in one pass"
    if image_format is ImageFormat.RAW:
        return "a raw image is read directly, its holes are not"
    return f"{image_format} is read through qemu, its holes are not"


def guest_problems(machine: Machine) -> tuple[Failure, ...]:
    """Only what is surely neither is refused: who makes a file often says nothing of the guest."""
    if not _OTHERS.fullmatch(machine.guest_id):
        return ()
    guest = machine.guest_full_name or machine.guest_id
    return (
        Failure(
            code=ErrorCode.GUEST_UNSUPPORTED,
            message=f"{machine.name} runs {guest} ({machine.guest_id}), which cannot be converted yet",
            hint=f"Supported now: {SUPPORTED_GUESTS}. Where the descriptor is wrong, name the disk image.",
        ),
    )


def guest_warnings(machine: Machine, kind: FileKind) -> tuple[str, ...]:
    """What a person should know of the guest before its disks are looked into."""
    if _SUPPORTED.fullmatch(machine.guest_id) or machine.runs_windows:
        return ()
    said = f"the descriptor knows the guest only as {machine.guest_id}"
    if kind is FileKind.IMAGE:
        said = "a disk image does not say which guest it holds"
    return (f"{said}: the conversion finds out; supported are {SUPPORTED_GUESTS}",)


def _require_here(path: Path, settings: HostSettings) -> None:
    check_path(path)
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise HyperctlError(
            ErrorCode.SOURCE_NOT_FOUND,
            f"{path} does not exist on {settings.host}",
            "Say with --host which host has it; the path is one of that host.",
        ) from error
    except OSError:
        return  # said by who reads it
