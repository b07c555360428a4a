"""Which Linux modules drive the hardware that a guest gets."""

from collections.abc import Sequence
from dataclasses import dataclass

from hyperctl.activities.convert.linux.kernels import Kernel, module_name
from hyperctl.workflows.hardware import DiskBus, Hardware, NicModel


@dataclass(frozen=True, slots=True)
class Drivers:
    """Modules, by their names with underscores."""

    storage: tuple[str, ...]
    """What an initramfs is given."""
    needed: tuple[str, ...]
    """Without these a kernel does not find its root filesystem."""
    nic: str

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.storage, self.nic)


_STORAGE = {
    DiskBus.VIRTIO: (("virtio_pci", "virtio_blk", "virtio_scsi"), ("virtio_pci", "virtio_blk")),
    DiskBus.SCSI: (("virtio_pci", "virtio_scsi", "sd_mod"), ("virtio_pci", "virtio_scsi", "sd_mod")),
    DiskBus.SATA: (("ahci", "sd_mod"), ("ahci", "sd_mod")),
}


def drivers_for(hardware: Hardware) -> Drivers:
    storage, needed = _STORAGE[hardware.disk_bus]
    return Drivers(storage, needed, hardware.nic_model.driver)


def loaded_modules(hardware: Hardware, kernels: Sequence[Kernel]) -> tuple[str, ...]:
    """What nothing may keep from being loaded: the drivers, the port that a guest agent speaks through, and
    all that these depend on in any of the kernels."""
    names = (*drivers_for(hardware).all, *(("virtio_console",) if hardware.disk_bus.needs_virtio else ()))
    below = (module_name(path) for kernel in kernels for path in kernel.files_of(names))
    return tuple(dict.fromkeys((*names, *below)))


def other_hardware(kernels: Sequence[Kernel], asked: Hardware) -> str:
    """The way out where no kernel drives what was asked for, in words; empty where there is none."""
    for bus in DiskBus:
        needed = _STORAGE[bus][1]
        able = next((kernel for kernel in kernels if kernel.boots_with(needed)), None)
        if able is None or bus is asked.disk_bus:
            continue
        model = next((model for model in NicModel if able.drives((model.driver,))), NicModel.E1000E)
        return f"{able.version} has {' and '.join(needed)}: use --disk-bus {bus} --nic-model {model}"
    return ""
