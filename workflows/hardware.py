"""The virtual hardware that a guest gets on KVM, by libvirt's names."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class DiskBus(StrEnum):
    """How its disks are attached."""

    VIRTIO = "virtio"
    """virtio-blk: the fastest, `/dev/vdX` in the guest."""
    SATA = "sata"
    """AHCI, for kernels without virtio; `/dev/sdX`."""
    SCSI = "scsi"
    """virtio-scsi: as fast, for many disks; `/dev/sdX`."""

    @property
    def prefix(self) -> str:
        """How the names of such disks begin, in libvirt and in Linux."""
        return "vd" if self is DiskBus.VIRTIO else "sd"

    @property
    def needs_virtio(self) -> bool:
        return self is not DiskBus.SATA


class NicModel(StrEnum):
    """What its network adapters are."""

    VIRTIO = "virtio"
    E1000E = "e1000e"
    E1000 = "e1000"

    @property
    def needs_virtio(self) -> bool:
        return self is NicModel.VIRTIO

    @property
    def driver(self) -> str:
        """The Linux module that drives it."""
        return "virtio_net" if self is NicModel.VIRTIO else self.value


class Hardware(BaseModel):
    """Virtio, unless the guest's kernels cannot drive it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    disk_bus: DiskBus = DiskBus.VIRTIO
    nic_model: NicModel = NicModel.VIRTIO


VIRTIO = Hardware()
