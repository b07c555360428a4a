"""What a source guest is made of: plain data, which the builder turns into disks.

Devices are named as the guest names them on VMware: /dev/sda1, /dev/md0, /dev/vg0/root.
In the text of a file, `@DEVICE@` stands for the UUID of what is on that device.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

MIB = 1 << 20


class Loader(StrEnum):
    GRUB = "grub"
    SYSTEMD_BOOT = "systemd-boot"
    EXTLINUX = "extlinux"
    """With a kernel and an initramfs of its own, /boot/bzImage and /boot/ramdisk.gz."""


class Initramfs(StrEnum):
    """Which tool makes it, and how it chooses the modules. None of these puts virtio in on VMware."""

    LIST = "initramfs-tools, MODULES=list"
    DEP = "initramfs-tools, MODULES=dep"
    DRACUT = "dracut, hostonly"


class Holds(StrEnum):
    """What a partition is for."""

    DATA = "data"
    """A filesystem, swap, or a LUKS header."""
    SWAP = "swap"
    ESP = "esp"
    BIOS_BOOT = "bios-boot"
    LVM = "lvm"
    RAID = "raid"


@dataclass(frozen=True, slots=True)
class Partition:
    device: str
    size_mib: int
    holds: Holds = Holds.DATA


@dataclass(frozen=True, slots=True)
class Mirror:
    """A RAID 1 of mdadm."""

    device: str
    members: tuple[str, ...]
    uuid: str
    """As mdadm writes it, `1a2b3c4d:...`."""


@dataclass(frozen=True, slots=True)
class Encrypted:
    """A LUKS volume with two keys: a passphrase, and a file of bytes that are no text."""

    name: str
    """Under /dev/mapper."""
    device: str
    passphrase: str
    key_file: str
    """Where the guest has it."""

    @property
    def key(self) -> bytes:
        """What the file holds: every byte there is, in an order of its own."""
        start = len(self.name) + len(self.device)
        return bytes((start + 7 * number) % 256 for number in range(256))


@dataclass(frozen=True, slots=True)
class Group:
    """A volume group of LVM."""

    name: str
    physical: tuple[str, ...]
    volumes: tuple[tuple[str, int], ...]
    """Names and sizes in MiB."""


@dataclass(frozen=True, slots=True)
class Filesystem:
    device: str
    kind: str
    """`ext4`, `xfs`, `btrfs` or `vfat`."""
    mount_point: str
    label: str = ""
    subvolume: str = ""
    snapshot: str = ""
    """A read-only copy of the subvolume, made when the system was installed."""


@dataclass(frozen=True, slots=True)
class Layout:
    disks_mib: tuple[int, ...]
    partitions: tuple[Partition, ...]
    filesystems: tuple[Filesystem, ...]
    table: str = "mbr"
    """`mbr` or `gpt`; a disk without partitions has none."""
    mirrors: tuple[Mirror, ...] = ()
    encrypted: tuple[Encrypted, ...] = ()
    group: Group | None = None
    swap: str = ""

    def disk_of(self, device: str) -> int:
        """The index of the disk that a device such as /dev/sdb1 is on."""
        return ord(device[len("/dev/sd")]) - ord("a")

    def partitions_of(self, disk: int) -> tuple[Partition, ...]:
        return tuple(one for one in self.partitions if self.disk_of(one.device) == disk)


@dataclass(frozen=True, slots=True)
class Nic:
    name: str
    mac: str
    addresses: tuple[str, ...] = ()
    """What VMware's tools report for it: its own, and those of whatever is built on it."""
    network: str = "VM Network"
    gateway: str = ""
    dns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Guest:
    name: str
    suite: str
    """Debian's: `bullseye`, `bookworm`, `trixie`."""
    covers: str
    """What the guest is there for, in one sentence."""
    layout: Layout
    nics: tuple[Nic, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    """Beside those of the suite's base, or all of them where the guest has none."""
    whole: bool = False
    """Installed in one go, not on top of the suite's base."""
    uefi: bool = False
    fallback: bool = False
    """Whether the loader is also where firmware looks that has no entry for it."""
    loader: Loader = Loader.GRUB
    initramfs: Initramfs = Initramfs.LIST
    other_kernel: str = ""
    """The version of a second kernel, which has no virtio at all."""
    units: tuple[str, ...] = ()
    """To be enabled."""
    exported: bool = False
    """Also as the stream that ESXi would send."""
    annotation: str = ""

    @property
    def release(self) -> int:
        return {"bullseye": 11, "bookworm": 12, "trixie": 13}[self.suite]

    @property
    def facts(self) -> dict[str, Any]:
        """As `deploy/dev/vcenter/README.md` documents guest.json."""
        disks = []
        for number in range(1, len(self.layout.disks_mib) + 1):
            stream = {"stream": f"disk{number}.vmdk"} if self.exported else {}
            disks.append({"flat": f"disk{number}.raw", **stream})
        return {
            "name": self.name,
            "guest_id": f"debian{self.release}_64Guest",
            "guest_full_name": f"Debian GNU/Linux {self.release} (64-bit)",
            "firmware": "efi" if self.uefi else "bios",
            "memory_mib": 1024,
            "vcpus": 1,
            "power_state": "poweredOff",
            "hardware_version": "vmx-19",
            "host_name": self.name,
            "scsi": "pvscsi",
            "annotation": self.annotation,
            "disks": disks,
            "nics": [
                {
                    "mac": nic.mac,
                    "network": nic.network,
                    "adapter": "vmxnet3",
                    "dhcp": False,
                    "addresses": list(nic.addresses),
                    "gateway": nic.gateway,
                    "dns": list(nic.dns),
                    "device_name": nic.name,
                }
                for nic in self.nics
            ],
        }

    @property
    def recipe(self) -> str:
        """All of it as text: the same for the same guest."""

        def said(items: list[tuple[str, Any]]) -> dict[str, Any]:
            """A field that came later says nothing of guests without it, whose images stay known."""
            return dict(one for one in items if one != ("snapshot", ""))

        return json.dumps(asdict(self, dict_factory=said), sort_keys=True)
