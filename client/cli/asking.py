"""From the command line and the user's defaults to a request; every problem at once."""

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from hyperctl.client.cli.options import NetworkMap, parse_bandwidth, parse_length, parse_network_map
from hyperctl.client.cli.session import refuse
from hyperctl.client.config import Configuration
from hyperctl.workflows.rehearsal import RehearsalRequest
from hyperctl.workflows.request import FirmwareChoice, MigrationRequest, WhenRunning, normal_server

RequestT = TypeVar("RequestT", bound=BaseModel)

_FLAGS = {
    "vm_name": "--vm",
    "vcenter.server": "--vcenter",
    "vcenter.username": "--username",
    "vcenter.datacenter": "--datacenter",
    "vcenter.certificate_sha256": "--certificate-sha256",
    "file": "--file",
    "file.path": "--file",
    "file.source_format": "--source-format",
    "file.firmware": "--firmware",
    "file.memory_mib": "--memory-mib",
    "file.vcpus": "--vcpus",
    "output_dir": "--output-dir",
    "transport": "--transport",
    "connections": "--connections",
    "format": "--format",
    "priority": "--priority",
    "initramfs": "--initramfs",
    "guest_packages": "--guest-packages",
    "hardware.disk_bus": "--disk-bus",
    "hardware.nic_model": "--nic-model",
    "verify": "--verify",
    "prove": "--prove",
    "host": "--host",
    "running.shutdown_timeout_seconds": "--shutdown-timeout",
    "tags": "--tags",
    "name": "--name",
    "folder": "--folder",
}

VCenterOption = Annotated[
    str | None, typer.Option("--vcenter", help="HOST, HOST:PORT or https://HOST/sdk.", show_default=False)
]
UsernameOption = Annotated[
    str | None,
    typer.Option(help="Whose credentials the worker uses; it has the password.", show_default=False),
]
DatacenterOption = Annotated[str | None, typer.Option(help="Only what is in there.", show_default=False)]
CertificateOption = Annotated[
    str | None, typer.Option(help="The SHA-256 of the one certificate to trust.", show_default=False)
]
HostOption = Annotated[
    str | None, typer.Option(help="The worker host that looks; any when missing.", show_default=False)
]

_OF_VCENTERS = ("vcenter", "username", "datacenter", "certificate_sha256")
_OF_FILES = ("source_format", "firmware", "memory_mib", "vcpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedAlike:
    """What was typed of the options that a migration and its rehearsal share, one field each.

    None where the user's configuration decides.
    """

    vm: Annotated[
        str | None,
        typer.Option(
            "--vm", help="The VM's name in vSphere; with --file, what to call it.", show_default=False
        ),
    ] = None
    vcenter: VCenterOption = None
    username: UsernameOption = None
    datacenter: Annotated[
        str | None, typer.Option(help="Where two hold a VM of that name.", show_default=False)
    ] = None
    certificate_sha256: CertificateOption = None
    file: Annotated[
        str | None,
        typer.Option(
            help="In place of a vCenter: an OVA, OVF or disk image on the target host.", show_default=False
        ),
    ] = None
    source_format: Annotated[
        str | None,
        typer.Option(
            metavar="raw", help="With --file: it is a raw disk, whatever it looks like.", show_default=False
        ),
    ] = None
    firmware: Annotated[
        str | None,
        typer.Option(metavar="auto|bios|efi", help="With --file: what it boots with.", show_default=False),
    ] = None
    memory_mib: Annotated[
        int | None, typer.Option(help="With --file: in place of what it says.", show_default=False)
    ] = None
    vcpus: Annotated[
        int | None, typer.Option(help="With --file: in place of what it says.", show_default=False)
    ] = None
    snapshot: Annotated[
        bool, typer.Option("--snapshot", help="Read a snapshot of a running VM, which goes on running.")
    ] = False
    quiesce: Annotated[
        bool, typer.Option("--quiesce", help="With --snapshot: its tools quiesce the filesystems first.")
    ] = False
    output_dir: Annotated[
        str | None, typer.Option(help="Where images go on the target host.", show_default=False)
    ] = None
    priority: Annotated[str, typer.Option(metavar="low|normal|high", help="How urgent it is.")] = "normal"
    fix_virtio: Annotated[bool | None, typer.Option("--fix-virtio/--skip-virtio", show_default=False)] = None
    fix_grub: Annotated[bool | None, typer.Option("--fix-grub/--skip-grub", show_default=False)] = None
    fix_network: Annotated[
        bool | None, typer.Option("--fix-network/--skip-network", " /--skip-network-fix", show_default=False)
    ] = None
    fix_fstab: Annotated[bool | None, typer.Option("--fix-fstab/--skip-fstab", show_default=False)] = None
    fix_tools: Annotated[bool | None, typer.Option("--fix-tools/--skip-tools", show_default=False)] = None
    fix_agent: Annotated[bool | None, typer.Option("--fix-agent/--skip-agent", show_default=False)] = None
    initramfs: Annotated[
        str,
        typer.Option(
            metavar="auto|append|rebuild", help="How drivers get in; rebuild: by the guest's own tool."
        ),
    ] = "auto"
    disk_bus: Annotated[
        str, typer.Option(metavar="virtio|sata|scsi", help="sata: for kernels without virtio.")
    ] = "virtio"
    nic_model: Annotated[
        str, typer.Option(metavar="virtio|e1000e|e1000", help="Others: for kernels without virtio.")
    ] = "virtio"
    serial_console: Annotated[
        bool, typer.Option("--serial-console", help="Kernels and GRUB speak on the serial port, too.")
    ] = False
    guest_packages: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Put qemu-guest-agent in from there, on the target host.", show_default=False
        ),
    ] = None
    prove: Annotated[
        str,
        typer.Option(
            metavar="full|diff|boot|none",
            help="What the trial boot must show. diff: no less than the unconverted guest's.",
        ),
    ] = "full"
    tags: Annotated[str, typer.Option(help="Words to find it by, a,b,c.", show_default=False)] = ""
    host: Annotated[
        str | None, typer.Option(help="The target host; any when missing.", show_default=False)
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(AskedAlike):
    """The options of every command that makes a request for a migration."""

    transport: Annotated[
        str, typer.Option(metavar="auto|nfc|datastore|vddk", help="How the disks are copied.")
    ] = "auto"
    connections: Annotated[int, typer.Option(help="A disk, where the transport can use several.")] = 4
    format: Annotated[
        str, typer.Option(metavar="raw|qcow2", help="The format of the images that are left.")
    ] = "raw"
    shutdown: Annotated[
        bool, typer.Option("--shutdown", help="Have a running VM's guest shut down first; it stays off.")
    ] = False
    force_off: Annotated[
        bool, typer.Option("--force-off", help="With --shutdown: power it off when it does not in time.")
    ] = False
    shutdown_timeout: Annotated[
        str | None,
        typer.Option(help="With --shutdown: what its guest is given, 10m when missing.", show_default=False),
    ] = None
    to_libvirt: Annotated[
        bool, typer.Option("--to-libvirt", help="Define the guest as a libvirt domain.")
    ] = False
    start: Annotated[bool, typer.Option("--start", help="Start the domain; needs --to-libvirt.")] = False
    verify: Annotated[
        str, typer.Option(metavar="full|sample|none", help="How much of the images is read again.")
    ] = "full"
    bandwidth: Annotated[
        str | None,
        typer.Option(help="At most so much a second for the whole copy, 200MiB.", show_default=False),
    ] = None
    network_map: NetworkMap = None


def make_request(asked: Asked, configuration: Configuration) -> MigrationRequest:
    """The request, or every problem on the screen and the end."""
    problems: list[str] = []
    source = _source(asked, configuration, problems)
    if asked.start and not asked.to_libvirt:
        problems.append("--start needs --to-libvirt: only a defined domain can be started")
    running = _running(asked, problems)
    network_map = parse_network_map(asked.network_map or [], problems)
    bandwidth = parse_bandwidth(asked.bandwidth, problems) if asked.bandwidth is not None else None
    document = {
        **source,
        **_alike(asked, configuration),
        "transport": asked.transport,
        "connections": asked.connections,
        "format": asked.format,
        "running": running,
        "to_libvirt": asked.to_libvirt,
        "start": asked.start,
        "verify": asked.verify,
        "bandwidth_bytes_per_second": bandwidth,
        "network_map": network_map,
    }
    return validated(MigrationRequest, document, problems)


def make_rehearsal(asked: AskedAlike, configuration: Configuration) -> RehearsalRequest:
    """The same for the rehearsal of one VM."""
    problems: list[str] = []
    document = {
        **_source(asked, configuration, problems, "--file: an OVA, OVF or disk image; or --batch: many VMs"),
        **_alike(asked, configuration),
        "running": _snapshot(asked, problems),
    }
    return validated(RehearsalRequest, document, problems)


def rehearsal_defaults(
    asked: AskedAlike, configuration: Configuration, problems: list[str]
) -> dict[str, Any]:
    """A rehearsal's request as the options have it, but for the VM's name."""
    problems += [f"{flag} does not go with --batch" for flag in _given(asked, _OF_FILES)]
    return {
        "vcenter": vcenter_of(asked, configuration, problems),
        **_alike(asked, configuration),
        "running": _snapshot(asked, problems),
    }


def validated(kind: type[RequestT], document: Mapping[str, Any], problems: list[str]) -> RequestT:
    """The request of this kind; or on the screen what was found before and is wrong with it, and the end."""
    try:
        request = kind.model_validate(document)
    except ValidationError as error:
        refuse([*problems, *explain(error)])
    if problems:
        refuse(problems)
    return request


def explain(error: ValidationError) -> list[str]:
    """What is wrong with a request, each with the option that it comes from."""
    found = []
    for problem in error.errors(include_input=False):
        key = ".".join(str(part) for part in problem["loc"])
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            text = "there is no such field"
        found.append(f"{_FLAGS.get(key, key)}: {text}")
    return found


def _alike(asked: AskedAlike, configuration: Configuration) -> dict[str, Any]:
    conversion = configuration.conversion
    return {
        "output_dir": asked.output_dir or conversion.output_dir,
        "priority": asked.priority,
        "fix": {
            "virtio": _first(asked.fix_virtio, conversion.fix_virtio),
            "grub": _first(asked.fix_grub, conversion.fix_grub),
            "network": _first(asked.fix_network, conversion.fix_network),
            "fstab": _first(asked.fix_fstab, conversion.fix_fstab),
            "tools": _first(asked.fix_tools, conversion.fix_tools),
            "agent": _first(asked.fix_agent, conversion.fix_agent),
        },
        "initramfs": asked.initramfs,
        "serial_console": asked.serial_console,
        "guest_packages": asked.guest_packages,
        "hardware": {"disk_bus": asked.disk_bus, "nic_model": asked.nic_model},
        "prove": asked.prove,
        "host": asked.host,
        "tags": [tag.strip() for tag in asked.tags.split(",") if tag.strip()],
        "requested_by": os.environ.get("SUDO_USER") or _user(),
    }


def _running(asked: Asked, problems: list[str]) -> dict[str, object]:
    """What may be done to a source that runs."""
    if asked.shutdown and asked.snapshot:
        problems.append("--shutdown and --snapshot exclude each other: choose what is done to a running VM")
    if asked.force_off and not asked.shutdown:
        problems.append("--force-off needs --shutdown")
    if asked.shutdown_timeout and not asked.shutdown:
        problems.append("--shutdown-timeout needs --shutdown")
    found = _snapshot(asked, problems)
    if asked.shutdown:
        found = {"action": WhenRunning.SHUTDOWN, "force_off": asked.force_off}
    if asked.shutdown and asked.shutdown_timeout:
        seconds = parse_length("--shutdown-timeout", asked.shutdown_timeout, problems)
        if seconds is not None:
            found["shutdown_timeout_seconds"] = seconds
    return found


def _snapshot(asked: AskedAlike, problems: list[str]) -> dict[str, object]:
    if asked.quiesce and not asked.snapshot:
        problems.append("--quiesce needs --snapshot")
    return {"action": WhenRunning.SNAPSHOT, "quiesce": asked.quiesce} if asked.snapshot else {}


def _same_server(one: str, other: str | None) -> bool:
    try:
        return other is not None and normal_server(one) == normal_server(other)
    except ValueError:
        return False  # which is said of the request


def _source(
    asked: AskedAlike,
    configuration: Configuration,
    problems: list[str],
    others: str = "--file: an OVA, OVF or disk image",
) -> dict[str, Any]:
    """The part of the request that says which machine."""
    if asked.file is not None:
        return _file(asked, problems)
    return _vcenter(asked, configuration, problems, others)


def _vcenter(
    asked: AskedAlike, configuration: Configuration, problems: list[str], others: str
) -> dict[str, Any]:
    """Which VM of which vCenter."""
    if not asked.vm:
        problems.append(f"--vm is missing: the name of the VM in vSphere; or {others}")
    server = vcenter_of(asked, configuration, problems)
    problems += [f"{flag} goes with --file only" for flag in _given(asked, _OF_FILES)]
    return {"vm_name": asked.vm or "missing", "vcenter": server}


def vcenter_of(asked: AskedAlike, configuration: Configuration, problems: list[str]) -> dict[str, Any]:
    """A request's `vcenter`, from the options and the user's defaults for that server."""
    vsphere = configuration.vsphere
    server = asked.vcenter or vsphere.server
    if not server:
        problems.append("--vcenter is missing, and vsphere.server is not in the configuration either")
    same_server = asked.vcenter is None or _same_server(asked.vcenter, vsphere.server)
    return {
        "server": server or "missing",
        "username": asked.username or (vsphere.username if same_server else None),
        "datacenter": asked.datacenter or (vsphere.datacenter if same_server else None),
        "certificate_sha256": asked.certificate_sha256
        or (vsphere.certificate_sha256 if same_server else None),
    }


def _file(asked: AskedAlike, problems: list[str]) -> dict[str, Any]:
    """Which file. A path that is not absolute is one of where we are."""
    foreign = _given(asked, _OF_VCENTERS)
    problems += [f"{flag} does not go with --file: a file has no vCenter" for flag in foreign]
    file = {
        "path": os.path.abspath(asked.file) if asked.file else "",
        "source_format": asked.source_format,
        "firmware": asked.firmware or FirmwareChoice.AUTO,
        "memory_mib": asked.memory_mib,
        "vcpus": asked.vcpus,
    }
    return {"vm_name": asked.vm, "file": file}


def _given(asked: AskedAlike, names: tuple[str, ...]) -> list[str]:
    """Those of the options that were typed."""
    return [f"--{name.replace('_', '-')}" for name in names if getattr(asked, name) is not None]


def _first(given: bool | None, default: bool) -> bool:
    return default if given is None else given


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"  # a container without an entry for its user
