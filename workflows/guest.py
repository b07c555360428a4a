"""The operating system inside, what a conversion did to it, and how it booted."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


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
    nic_order: tuple[str, ...] = ()
    """MACs as the new machine must have its NICs for the guest's names of them; empty for VMware's order."""

    @property
    def is_windows(self) -> bool:
        return self.distribution == "windows"


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


class BootProof(BaseModel):
    """What the converted guest answered when it was booted once, cut off from every network."""

    model_config = ConfigDict(frozen=True)

    passed: bool
    mode: str
    acceleration: str
    """`kvm` or `tcg`."""
    multi_user: bool
    boot_seconds: float
    kernel: str = ""
    failed_units: tuple[str, ...] = ()
    mounts: tuple[MountReport, ...] = ()
    nics: tuple[NicReport, ...] = ()
    default_routes: tuple[str, ...] = ()
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
