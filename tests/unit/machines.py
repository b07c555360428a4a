"""Machines and guests for tests, each with something of its own."""

from pathlib import Path
from typing import Any

from hyperctl.workflows.disk import LandedDisk
from hyperctl.workflows.guest import GuestSystem
from hyperctl.workflows.machine import Firmware, Machine, MachineDisk, MachineNic, PowerState

GIB = 1 << 30


def nic(number: int = 1, **changes: Any) -> MachineNic:
    facts: dict[str, Any] = {
        "key": 4000 + number,
        "label": f"Network adapter {number}",
        "mac": f"00:50:56:AA:BB:{number:02x}",
        "network": "VM Network",
        "adapter": "vmxnet3",
        "addresses": (f"192.0.2.{9 + number}/24",),
    }
    return MachineNic(**(facts | changes))


def disk(number: int = 1, capacity_bytes: int = 4 * GIB) -> MachineDisk:
    return MachineDisk(
        key=1999 + number,
        label=f"Hard disk {number}",
        file_name=f"[datastore1] web-server-01/web-server-01_{number}.vmdk",
        capacity_bytes=capacity_bytes,
        controller="pvscsi",
        controller_bus=0,
        unit=number - 1,
    )


def landed(image: Path, image_format: str = "raw", capacity_bytes: int | None = None) -> LandedDisk:
    """An image as if a copy had ended with it; its own size is the disk's unless another is given."""
    return LandedDisk(
        index=1,
        source_name="disk1.vmdk",
        path=str(image),
        format=image_format,
        ledger="",
        capacity_bytes=image.stat().st_size if capacity_bytes is None else capacity_bytes,
        allocated_bytes=0,
        received_bytes=0,
        digest_algorithm="sha256",
        root_digest="",
    )


def machine(**changes: Any) -> Machine:
    facts: dict[str, Any] = {
        "name": "web-server-01",
        "moref": "vm-101",
        "datacenter": "DC0",
        "uuid": "42130b6c-1d6f-4c3a-9f3e-0a1b2c3d4e5f",
        "guest_id": "debian12_64Guest",
        "guest_full_name": "Debian GNU/Linux 12 (64-bit)",
        "firmware": Firmware.BIOS,
        "memory_bytes": GIB,
        "vcpus": 2,
        "power_state": PowerState.OFF,
        "hardware_version": "vmx-19",
        "esxi_host": "esxi-01.example.com",
        "disks": (disk(),),
        "nics": (nic(),),
        "allocated_bytes": GIB,
    }
    return Machine(**(facts | changes))


def guest(distribution: str = "debian", major_version: int = 12) -> GuestSystem:
    return GuestSystem(
        product_name="Debian GNU/Linux 12 (bookworm)",
        distribution=distribution,
        major_version=major_version,
        minor_version=0,
        host_name="web-server-01",
        root_device="/dev/sda2",
        filesystems=("/ ext4 (/dev/sda2)",),
        kernels=("6.1.0-1-amd64",),
        initramfs_tool="initramfs-tools",
    )
