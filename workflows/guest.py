"""The operating system inside, what a conversion did to it, and how it booted."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from hyperctl.workflows.machine import Machine


class GuestSystem(BaseModel):
    """What inspection found on the disks."""

    model_config = ConfigDict(frozen=True)

    product_name: str
    distribution: str
    major_version: int
    minor_version: int
    host_name: str
    root_device: str
    filesystems: tuple[str, ...]
    """Each mounted one, `/ ext4 (/dev/sda2)`."""
    kernels: tuple[str, ...]
    initramfs_tool: str
    """Empty for a guest that is no Linux, which has no kernels here either."""
    boot_disk: int = 0
    """The disk that firmware finds the boot loader on, counted from 0 in the machine's order."""
    loader_disks: tuple[int, ...] = ()
    """The disks that the loader reads /boot from; empty where firmware shows it all disks."""
    nic_macs: tuple[str, ...] = ()
    """MACs of the machine's NICs, in its order, as the guest's own configuration has them where the source
    says none; empty where the machine's serve."""
    nic_order: tuple[str, ...] = ()
    """MACs as the new machine must have its NICs for the guest's names of them; empty for VMware's order."""

    @property
    def is_windows(self) -> bool:
        return self.distribution == "windows"


def as_guest_knows(machine: Machine, guest: GuestSystem | None) -> Machine:
    """The machine with the MACs that its guest goes by."""
    macs = guest.nic_macs if guest else ()
    if len(macs) != len(machine.nics):
        return machine
    nics = zip(machine.nics, macs, strict=True)
    return machine.model_copy(
        update={"nics": tuple(nic.model_copy(update={"mac": mac}) for nic, mac in nics)}
    )


class Step(StrEnum):
    """The steps of a conversion, in their order."""

    INSPECT = "inspect"
    VIRTIO = "inject_virtio_drivers"
    BOOTLOADER = "update_bootloader"
    NETWORK = "fix_network"
    FSTAB = "update_fstab"
    TOOLS = "retire_vmware_tools"
    AGENT = "enable_guest_agent"
    REBUILD = "rebuild_initramfs"
    LABELS = "relabel_files"


class Outcome(StrEnum):
    DONE = "done"
    NOT_NEEDED = "not_needed"
    SKIPPED = "skipped"
    """The user asked for it to be left out."""
    FAILED = "failed"


class StepOutcome(BaseModel):
    """How one step ended, in words for a person, with the files of the guest that it changed."""

    model_config = ConfigDict(frozen=True)

    step: Step
    outcome: Outcome
    detail: str
    changed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    duration_seconds: float = 0.0


class MountReport(BaseModel):
    """One entry of the guest's fstab and whether it was mounted (or, for swap, active)."""

    model_config = ConfigDict(frozen=True)

    target: str
    source: str
    filesystem: str
    active: bool
    required: bool = True
    """False for `noauto`, `nofail` and network entries."""


class NicReport(BaseModel):
    """One NIC in the booted guest beside what vSphere knew of it."""

    model_config = ConfigDict(frozen=True)

    mac: str
    name: str
    """Empty where the guest has no such NIC."""
    addresses: tuple[str, ...]
    expected_addresses: tuple[str, ...]

    @property
    def missing_addresses(self) -> tuple[str, ...]:
        return tuple(address for address in self.expected_addresses if address not in self.addresses)


class Claim(StrEnum):
    """What a boot proof rests on, the strongest first."""

    REPORT = "report"
    """A reporter in the guest told of its units, mounts and network."""
    AGENT = "agent"
    """Its guest agent answered, and told its system and addresses."""
    ACTIVITY = "activity"
    """It went on working its disks, or showed a login prompt, and no failure."""

    @property
    def words(self) -> str:
        """What was not seen with it; empty for the strongest."""
        return {
            Claim.REPORT: "",
            Claim.AGENT: "by its guest agent alone; units and mounts were not seen",
            Claim.ACTIVITY: "by its disks and screen alone; units, mounts and network were not seen",
        }[self]


class Kind(StrEnum):
    """What of a guest can work before its conversion and not after it."""

    UNIT = "unit"
    MOUNT = "mount"
    ADDRESS = "address"
    ROUTE = "route"
    SOCKET = "socket"


class Difference(BaseModel):
    """One thing that worked in the unconverted guest and does not in the converted one."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    what: str
    """Its name: a unit, a mount point, `192.0.2.10/24 on ens192`, a route, `tcp 0.0.0.0:22`."""

    @property
    def words(self) -> str:
        return {
            Kind.UNIT: f"the unit {self.what} has failed, and had not before the conversion",
            Kind.MOUNT: f"{self.what} was mounted before the conversion and is not any more",
            Kind.ADDRESS: f"the address {self.what} was there before the conversion and is not any more",
            Kind.ROUTE: f"the route {self.what!r} was there before the conversion and is not any more",
            Kind.SOCKET: f"something listened on {self.what} before the conversion and nothing does any more",
        }[self.kind]


class Comparison(BaseModel):
    """The unconverted guest, booted on VMware's hardware as qemu emulates it, beside the converted one."""

    model_config = ConfigDict(frozen=True)

    hardware: str
    """What it was booted on, `pvscsi, vmxnet3`."""
    obstacle: str = ""
    """Why nothing could be compared; empty when it was."""
    boot_seconds: float = 0.0
    kernel: str = ""
    failed_units: tuple[str, ...] = ()
    """Those that had failed before the conversion."""
    differences: tuple[Difference, ...] = ()


class BootProof(BaseModel):
    """What the converted guest answered when it was booted once, cut off from every network."""

    model_config = ConfigDict(frozen=True)

    passed: bool
    mode: str
    acceleration: str
    """`kvm` or `tcg`."""
    claim: Claim = Claim.REPORT
    """Weaker ones are of guests without systemd, which have no reporter."""
    multi_user: bool
    boot_seconds: float
    system: str = ""
    """What its guest agent calls its system."""
    seen: str = ""
    """With the claim `activity`: what was seen, in words."""
    kernel: str = ""
    failed_units: tuple[str, ...] = ()
    mounts: tuple[MountReport, ...] = ()
    nics: tuple[NicReport, ...] = ()
    default_routes: tuple[str, ...] = ()
    comparison: Comparison | None = None
    """In mode `diff`: what worked before the conversion."""
    problems: tuple[str, ...] = ()
    """Why it did not pass, in words; empty when it did."""
    warnings: tuple[str, ...] = ()
    diagnosis: str = ""
    """Where no answer came: what the console showed, in words."""
    root_missing: bool = False
    """Its initramfs or kernel did not find the root device."""
    screenshot: str = ""
    serial_log: str = ""
    """Paths on the target host, where the guest did not boot."""


def rebuilt_warning(first: BootProof) -> str:
    """Of a guest that was converted again because of its first boot."""
    return f"converted once more, with its initramfs rebuilt: in its boot proof {'; '.join(first.problems)}"
