"""A disk image alone: a plain machine is thought around it, and its firmware found out if need be."""

import re
import uuid
from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.source.images import ImageFile
from hyperctl.activities.source.ovf import made_mac
from hyperctl.activities.source.partitions import has_efi_system_partition
from hyperctl.activities.source.structure import read_beginning
from hyperctl.workflows.machine import Firmware, Machine, MachineDisk, MachineNic, PowerState
from hyperctl.workflows.request import FirmwareChoice

_MIB = 1 << 20
_BARE_MEMORY_BYTES = 2 << 30
_BARE_VCPUS = 2
_BARE_NETWORK = "default"


def bare_machine(
    path: Path, image: ImageFile, firmware: FirmwareChoice, running: Attempt
) -> tuple[Machine, tuple[str, ...]]:
    """A plain machine around a disk, and what a person should know of it. Raises `HyperctlError`."""
    remarks = []
    if firmware is FirmwareChoice.AUTO:
        is_efi = has_efi_system_partition(read_beginning(image, running))
        chosen = Firmware.EFI if is_efi else Firmware.BIOS
        remarks.append(
            f"the firmware is taken to be {'UEFI' if is_efi else 'a BIOS'}, since the disk "
            f"has {'an' if is_efi else 'no'} EFI system partition"
        )
    else:
        chosen = Firmware(firmware.value)
    name = _bare_name(path)
    identity = str(uuid.uuid5(uuid.NAMESPACE_URL, path.as_uri()))
    remarks.append(
        f"a disk alone says nothing of its machine: {_BARE_VCPUS} processors, "
        f"{_BARE_MEMORY_BYTES // _MIB} MiB of memory and one network adapter are assumed"
    )
    disk = MachineDisk(
        key=2000,
        label="Hard disk 1",
        file_name=path.name,
        capacity_bytes=image.virtual_size_bytes,
        controller="unknown",
        controller_bus=0,
        unit=0,
        allocated_bytes=image.allocated_bytes,
    )
    machine = Machine(
        name=name,
        moref="",
        datacenter="",
        uuid=identity,
        guest_id="otherLinux64Guest",
        guest_full_name="",
        firmware=chosen,
        memory_bytes=_BARE_MEMORY_BYTES,
        vcpus=_BARE_VCPUS,
        power_state=PowerState.OFF,
        hardware_version="",
        esxi_host="",
        disks=(disk,),
        nics=(
            MachineNic(
                key=4000,
                label="Network adapter 1",
                mac=made_mac(identity, 0),
                mac_made=True,
                network=_BARE_NETWORK,
                adapter="unknown",
            ),
        ),
        allocated_bytes=image.allocated_bytes,
    )
    return machine, tuple(remarks)


def _bare_name(path: Path) -> str:
    name = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", "_", path.stem).strip(" .")
    return name[:255] or "machine"
