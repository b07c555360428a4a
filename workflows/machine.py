"""The virtual machine as its source describes it."""

import re
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

_WINDOWS = re.compile(r"(microsoft )?windows\b.*|win\w*", re.IGNORECASE)
"""vSphere's guest ids begin so, and names of guests where a descriptor of another maker has no such id."""


class Firmware(StrEnum):
    BIOS = "bios"
    EFI = "efi"


BIOS_DISKS = 16
"""So many disks does SeaBIOS show a boot loader, the first of its boot order (its src/block.c)."""
BIOS_DISKS_SURELY = 8
"""SeaBIOS 1.14 has memory for ten disks of virtio, and takes those that come first on the bus: of more in the
boot order, the first may not be there at all."""


class PowerState(StrEnum):
    ON = "poweredOn"
    OFF = "poweredOff"
    SUSPENDED = "suspended"


class MachineDisk(BaseModel):
    """One virtual disk."""

    model_config = ConfigDict(frozen=True)

    key: int
    """The device key in vSphere."""
    label: str
    file_name: str
    """The datastore path, `[datastore1] vm/vm.vmdk`."""
    capacity_bytes: int
    controller: str
    """The controller's kind: `pvscsi`, `lsilogic`, `lsisas`, `buslogic`, `ahci`, `nvme` or `ide`."""
    controller_bus: int
    unit: int
    allocated_bytes: int = 0
    """What it uses on its datastore, an estimate of what lands; 0 where that is not known."""
    uuid: str = ""
    """As the guest's /dev/disk/by-id has it: 32 hexadecimal digits in small letters; empty where that is not
    known."""

    @property
    def name(self) -> str:
        """The descriptor's file name, `vm_1.vmdk`."""
        return self.file_name.rsplit("/", 1)[-1]


class MachineNic(BaseModel):
    """One network adapter with the addresses that the guest reported for it."""

    model_config = ConfigDict(frozen=True)

    key: int
    label: str
    mac: str
    network: str
    adapter: str
    """`vmxnet3`, `e1000`, `e1000e`, `pcnet32` ..."""
    connected: bool = True
    addresses: tuple[str, ...] = ()
    """With their prefix length, `192.0.2.10/24`; link-local ones are left out."""
    pci_slot: int = 0
    """vSphere's number of the slot that it is in; 0 where that is not known."""
    mac_made: bool = False
    """Its source says no MAC; this one was made up."""


class Machine(BaseModel):
    """A VM's hardware and what its guest said of itself."""

    model_config = ConfigDict(frozen=True)

    name: str
    moref: str
    datacenter: str
    uuid: str
    guest_id: str
    """vSphere's guest id, `debian12_64Guest`."""
    guest_full_name: str
    host_name: str = ""
    firmware: Firmware
    secure_boot: bool = False
    tpm: bool = False
    """It has a virtual TPM, whose state stays behind."""
    memory_bytes: int
    vcpus: int
    cores_per_socket: int = 1
    power_state: PowerState
    hardware_version: str
    esxi_host: str
    disks: tuple[MachineDisk, ...]
    nics: tuple[MachineNic, ...]
    allocated_bytes: int
    """What the disks use on their datastores; an upper bound of what lands."""
    annotation: str = ""
    gateways: tuple[str, ...] = ()
    """Of its default routes, as the guest reported them; link-local ones are left out."""

    @property
    def runs_windows(self) -> bool:
        """Whether its source says so; the disks may hold something else."""
        return any(_WINDOWS.fullmatch(said) for said in (self.guest_id, self.guest_full_name))

    @property
    def capacity_bytes(self) -> int:
        return sum(disk.capacity_bytes for disk in self.disks)
