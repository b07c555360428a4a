"""What passes between the processes that convert a Windows guest."""

from pydantic import BaseModel, ConfigDict


class StaticAddress(BaseModel):
    """An address that Windows is to give an adapter anew: the new one has none of the old one's settings."""

    model_config = ConfigDict(frozen=True)

    mac: str
    address: str
    prefix_length: int
    gateway: str
    name_servers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix_length} ({self.mac})"


class WindowsFound(BaseModel):
    """The system on the disks, as it was before anything was changed; paths are libguestfs' of its C:."""

    model_config = ConfigDict(frozen=True)

    root: str
    """The appliance's device."""
    system_root: str
    """`/Windows`."""
    system_hive: str
    software_hive: str
    control_set: str
    """`ControlSet001`."""
    system_partitions: tuple[str, ...] = ()
    """Those of UEFI."""
    has_fallback_loader: bool = False
    """UEFI finds a loader there without the variables of its old firmware."""
    has_vmware_tools: bool = False
    addresses: tuple[StaticAddress, ...] = ()
    address_warnings: tuple[str, ...] = ()
    sata_service: str = ""
    """What drives SATA at its boot, where it is to have SATA in place of VirtIO."""
    sata_changed: bool = False
    """It was no boot driver, and was made one."""
    remarks: tuple[str, ...] = ()
    """virt-v2v's warnings."""
