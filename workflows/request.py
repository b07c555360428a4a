"""What a user asks for: the one argument of `MigrationWorkflow`, plain JSON for every client."""

from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hyperctl.workflows.bandwidth import HIGHEST_BYTES_PER_SECOND, LOWEST_BYTES_PER_SECOND
from hyperctl.workflows.hardware import Hardware
from hyperctl.workflows.identity import derive_file_job_id, derive_job_id
from hyperctl.workflows.retry import RetryPolicy

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]


def _absolute(path: str) -> str:
    if not PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError("must be an absolute path without '..'")
    return path


def normal_server(server: str) -> str:
    """`HOST[:PORT]` in one spelling; `https://HOST[:PORT][/sdk]`, as other tools write it, means the same.

    Raises ValueError, without repeating what it was given: it may hold a password.
    """
    scheme, separator, rest = server.rpartition("://")
    if separator and scheme.lower() != "https":
        raise ValueError("must be HOST, HOST:PORT or https://HOST[:PORT][/sdk]")
    host, _, path = rest.strip().rstrip("/").partition("/")
    if "@" in host:
        raise ValueError("must hold no user and no password; the worker has the credentials")
    if not host or path.lower() not in ("", "sdk") or any(char.isspace() or char in "?#" for char in rest):
        raise ValueError("must be HOST, HOST:PORT or https://HOST[:PORT][/sdk]")
    return host.lower().removesuffix(":443")


Server = Annotated[Name, AfterValidator(normal_server)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]

DEFAULT_OUTPUT_DIR = "/var/lib/hyper2kvm/output"


class Priority(StrEnum):
    """How urgent a migration is to its owner."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"

    @property
    def temporal_key(self) -> int:
        """Temporal's own priority key: 1 is served first, 5 last."""
        return {Priority.HIGH: 2, Priority.NORMAL: 3, Priority.LOW: 4}[self]


class DiskFormat(StrEnum):
    """The format of the images that are left in the output folder."""

    RAW = "raw"
    QCOW2 = "qcow2"


class TransportChoice(StrEnum):
    """How the disks come from the source."""

    AUTO = "auto"
    """The best that the source offers; the plan says which and why."""
    NFC = "nfc"
    """An export lease: every vSphere has it, one stream a disk, holes are not sent."""
    DATASTORE = "datastore"
    """HTTPS from the datastore: several connections a disk, resumes inside a disk; the VM must be off."""
    VDDK = "vddk"
    """VMware's own library by nbdkit: reads a snapshot of a running VM; the library must be on the worker."""
    FILE = "file"
    """An OVA, OVF or disk image that is a file on the target host."""


class WhenRunning(StrEnum):
    """What to do about a source that is powered on."""

    REFUSE = "refuse"
    SHUTDOWN = "shutdown"
    """Ask its guest to shut down, and leave it off when the migration succeeds."""
    SNAPSHOT = "snapshot"
    """Copy a snapshot while it goes on; what it writes after that is not moved."""


class RunningSource(BaseModel):
    """What may be done to a source that is powered on.

    What was switched off is powered on again when the migration fails or is cancelled; a snapshot is removed
    as soon as its copy is verified.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: WhenRunning = WhenRunning.REFUSE
    force_off: bool = False
    """With `shutdown`: power it off when its guest has not shut down in time."""
    shutdown_timeout_seconds: float = Field(default=600.0, gt=0, le=86400)
    quiesce: bool = False
    """With `snapshot`: have the guest's tools quiesce its filesystems first."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.force_off and self.action is not WhenRunning.SHUTDOWN:
            raise ValueError("force_off goes with the action shutdown")
        if self.quiesce and self.action is not WhenRunning.SNAPSHOT:
            raise ValueError("quiesce goes with the action snapshot")
        return self


class ProveMode(StrEnum):
    """What must be true of the converted guest's trial boot."""

    FULL = "full"
    """Multi-user reached, every fstab entry mounted, every address on its NIC, no boot unit failed."""
    DIFF = "diff"
    """Nothing fails that works in the unconverted guest, booted on VMware's hardware as qemu emulates it."""
    BOOT = "boot"
    """Multi-user reached."""
    NONE = "none"


class InitramfsWay(StrEnum):
    """How the drivers get into a guest's initramfs."""

    AUTO = "auto"
    """Appended; rebuilt where that cannot serve, and when the appended one's boot finds no root device."""
    APPEND = "append"
    """As one more cpio segment. None of the guest's programmes is run."""
    REBUILD = "rebuild"
    """Made anew by the guest's own tool, in libguestfs' appliance."""


class VerifyMode(StrEnum):
    """How much of the landed image is read again and compared with the ledger."""

    FULL = "full"
    """All of it."""
    SAMPLE = "sample"
    """Blocks chosen at random over the whole disk, with its first and last: finds damage, proves nothing."""
    NONE = "none"


class VCenter(BaseModel):
    """Where the VM is. Holds no secret: the worker has the password, from its environment or a 0600 file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    server: Server
    """Host name or address, with `:PORT` where it is not 443; a URL of it is taken, too."""
    username: Name | None = None
    """Whose credentials the worker is to use; the worker's own default when missing."""
    datacenter: Name | None = None
    """Needed only where two datacenters hold a VM of the same name."""
    certificate_sha256: Annotated[str, StringConstraints(pattern=r"^([0-9A-Fa-f]{2}:?){32}$")] | None = None
    """The exact certificate to trust, as its SHA-256 fingerprint; otherwise the worker's trust decides."""


class FirmwareChoice(StrEnum):
    """What a machine that comes as a file boots with."""

    AUTO = "auto"
    """What its descriptor says; of a bare disk image, whether it has an EFI system partition."""
    BIOS = "bios"
    EFI = "efi"


class FileSource(BaseModel):
    """A machine that is a file on the target host: an OVA, an OVF with its files, or one disk image."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    path: AbsolutePath
    """Of the archive, the descriptor or its folder, or the image. What it is, its content says."""
    source_format: Literal["raw"] | None = None
    """Take the whole file for a raw disk, even where it begins like something else."""
    firmware: FirmwareChoice = FirmwareChoice.AUTO
    memory_mib: Annotated[int, Field(ge=64, le=64 << 20)] | None = None
    """In place of what the descriptor says; a bare disk image gets 2048 otherwise."""
    vcpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    """In place of what the descriptor says; a bare disk image gets 2 otherwise."""

    @property
    def name(self) -> str:
        """What the machine is called as long as its descriptor has not been read."""
        return PurePosixPath(self.path).stem[:255] or "machine"


class Fixers(BaseModel):
    """Which parts of the guest a conversion may change. All on by default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    virtio: bool = True
    grub: bool = True
    network: bool = True
    fstab: bool = True
    tools: bool = True
    agent: bool = True


class JobRequest(BaseModel):
    """What a migration and its rehearsal are asked alike: how the guest is changed, where, how urgently.

    What is refused is not repeated in the error: somebody may have put a password there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    output_dir: AbsolutePath | None = None
    """On the target host; None is that host's own setting, `/var/lib/hyper2kvm/output` unless changed."""
    priority: Priority = Priority.NORMAL
    fix: Fixers = Fixers()
    initramfs: InitramfsWay = InitramfsWay.AUTO
    serial_console: bool = False
    """Kernels and GRUB speak on the first serial port, too."""
    guest_packages: AbsolutePath | None = None
    """A folder on the target host with qemu-guest-agent's package and what it depends on."""
    hardware: Hardware = Hardware()
    prove: ProveMode = ProveMode.FULL
    host: Name | None = None
    """The target host whose workers do all the work; any when missing."""
    tags: tuple[str, ...] = ()
    retry_policy: RetryPolicy = RetryPolicy()
    requested_by: str = ""


class SourceRequest(JobRequest):
    """What says which machine it is: `vm_name` and `vcenter.server`, or `file.path` alone."""

    vm_name: Name | None = None
    """In its vCenter. Of a file: what the machine is to be called, its own name when missing."""
    vcenter: VCenter | None = None
    file: Annotated[FileSource | None, Field(validate_default=True)] = None
    running: RunningSource = RunningSource()

    @field_validator("vcenter")
    @classmethod
    def _has_a_name(cls, vcenter: VCenter | None, info: ValidationInfo) -> VCenter | None:
        if vcenter is not None and "vm_name" in info.data and info.data["vm_name"] is None:
            raise ValueError("needs vm_name, the name of the VM in it")
        return vcenter

    @field_validator("file")
    @classmethod
    def _is_one_source(cls, file: FileSource | None, info: ValidationInfo) -> FileSource | None:
        if "vcenter" in info.data and (file is None) == (info.data["vcenter"] is None):
            both = "not both" if file is not None else "none is there"
            raise ValueError(f"exactly one of vcenter and file is needed, {both}")
        return file

    @field_validator("running")
    @classmethod
    def _can_run(cls, running: RunningSource, info: ValidationInfo) -> RunningSource:
        if running.action is not WhenRunning.REFUSE and info.data.get("file") is not None:
            raise ValueError(f"a file does not run: there is nothing to {running.action}")
        return running

    @property
    def name(self) -> str:
        """What the VM is called, as far as it is known before anybody has looked."""
        return self.vm_name or (self.file.name if self.file else "")

    @property
    def origin(self) -> str:
        """Where it comes from, for people: a server or a path."""
        if self.file is not None:
            return self.file.path
        return self.vcenter.server if self.vcenter else ""


class MigrationRequest(SourceRequest):
    """One VM to migrate: `vm_name` and `vcenter.server` are needed, or `file.path` alone."""

    format: DiskFormat = DiskFormat.RAW
    transport: TransportChoice = TransportChoice.AUTO
    connections: Annotated[int, Field(ge=1, le=16)] = 4
    """A disk, where the transport can use several."""
    bandwidth_bytes_per_second: (
        Annotated[int, Field(ge=LOWEST_BYTES_PER_SECOND, le=HIGHEST_BYTES_PER_SECOND)] | None
    ) = None
    """A cap on what the whole copy takes from the network; the signal `set_bandwidth` changes it."""
    to_libvirt: bool = False
    """Define the converted guest as a libvirt domain."""
    start: bool = False
    """Start the domain once it is defined; needs `to_libvirt`."""
    verify: VerifyMode = VerifyMode.FULL
    network_map: dict[str, str] = Field(default_factory=dict)
    """vSphere network name to libvirt network, or to a bridge as `bridge:br0`. Others go to `default`."""

    @field_validator("transport")
    @classmethod
    def _fits_the_source(cls, transport: TransportChoice, info: ValidationInfo) -> TransportChoice:
        file = info.data.get("file")
        if file is not None and transport not in (TransportChoice.AUTO, TransportChoice.FILE):
            raise ValueError(f"{transport} reads from a vCenter; a file is copied by the transport file")
        if transport is TransportChoice.FILE and "file" in info.data and file is None:
            raise ValueError("the transport file needs a file")
        return transport

    @property
    def job_id(self) -> str:
        if self.file is not None:
            return derive_file_job_id(self.host, self.file.path, self.vm_name)
        assert self.vcenter is not None, "a request has a file or a vCenter"
        return derive_job_id(self.vcenter.server, self.vcenter.datacenter, self.name)
