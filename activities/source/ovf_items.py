"""The hardware items of an OVF descriptor: processors, memory, controllers, drives, network adapters. Pure.

Follows DMTF DSP0243 1.1 (8, "Virtual hardware section") and 2.1, whose `StorageItem` and `EthernetPortItem`
carry the same fields under other namespaces; resource types are those of CIM_ResourceAllocationSettingData.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from hyperctl.activities.source.markup import Element
from hyperctl.activities.source.problems import Problems, shown
from hyperctl.activities.source.units import UnitError, bytes_of

ITEMS = ("Item", "StorageItem", "EthernetPortItem")
MOST_MEMORY_BYTES = 64 << 40
_MOST_VCPUS = 4096
_NUMBER = re.compile(r"\d{1,19}")
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")


class Resource(IntEnum):
    """Values of `rasd:ResourceType` that a machine is read from."""

    PROCESSOR = 3
    MEMORY = 4
    IDE_CONTROLLER = 5
    SCSI_CONTROLLER = 6
    ETHERNET = 10
    FLOPPY = 14
    CD = 15
    DVD = 16
    DISK = 17
    OTHER_STORAGE = 20


_CONTROLLERS = (Resource.IDE_CONTROLLER, Resource.SCSI_CONTROLLER, Resource.OTHER_STORAGE)
_SUBTYPES = {
    "virtualscsi": "pvscsi",
    "lsilogic": "lsilogic",
    "lsilogicsas": "lsisas",
    "buslogic": "buslogic",
    "ahci": "ahci",
    "vmware.sata.ahci": "ahci",
    "nvme": "nvme",
    "vmware.nvme.controller": "nvme",
}
_ADAPTERS = {"flexible": "pcnet32", "vmxnet2": "vmxnet2", "sriov": "sriov", "virtio-net": "virtio"}
_ADAPTER = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class Controller:
    kind: str
    bus: int


@dataclass(frozen=True, slots=True)
class Drive:
    """A disk drive: which entry of the disk section it holds, and where it is attached."""

    label: str
    disk_id: str
    controller: str
    bus: int
    unit: int


@dataclass(frozen=True, slots=True)
class Adapter:
    label: str
    mac: str
    """Lower case; empty where the descriptor names none."""
    network: str
    kind: str
    connected: bool
    pci_slot: int = 0
    """vSphere's number; 0 where the descriptor has none."""


@dataclass(frozen=True, slots=True)
class Hardware:
    vcpus: int
    cores_per_socket: int
    memory_bytes: int
    drives: tuple[Drive, ...]
    adapters: tuple[Adapter, ...]
    removable: tuple[str, ...]
    """Labels of CD and floppy drives with a medium; the media are not moved."""


def read_items(section: Element, configuration: str, problems: Problems) -> Hardware:
    """The hardware of one `VirtualHardwareSection` in one deployment configuration."""
    items = [item for item in section.all(*ITEMS) if _applies(item, configuration)]
    processors = [item for item in items if _type(item) == Resource.PROCESSOR]
    cores = [item.text_of("CoresPerSocket") for item in processors]
    vcpus = sum(_quantity(item, problems, _MOST_VCPUS) for item in processors)
    if not processors:
        problems.invalid("the hardware section names no processor (ResourceType 3)")
    memories = [item for item in items if _type(item) == Resource.MEMORY]
    if not memories:
        problems.invalid("the hardware section names no memory (ResourceType 4)")
    controllers = _controllers(items)
    media = [
        item
        for item in items
        if _type(item) in (Resource.CD, Resource.DVD, Resource.FLOPPY)
        and _files(item.text_of("HostResource"))
    ]
    return Hardware(
        vcpus=vcpus,
        cores_per_socket=_cores(cores[0] if cores else "", vcpus),
        memory_bytes=sum(_memory(item, problems) for item in memories),
        drives=_drives(items, controllers, problems),
        adapters=tuple(
            _adapter(item, number, problems)
            for number, item in enumerate(
                (item for item in items if _type(item) == Resource.ETHERNET), start=1
            )
        ),
        removable=tuple(_label(item) for item in media),
    )


def disk_reference(resource: str) -> str | None:
    """The disk that `rasd:HostResource` names, `ovf:/disk/vmdisk1` or `/disk/vmdisk1`; None for others."""
    match = re.fullmatch(r"(?:ovf:)?/+disk/(.+)", resource)
    return match[1] if match else None


def _files(resource: str) -> bool:
    return re.match(r"(?:ovf:)?/+file/", resource) is not None


def _applies(item: Element, configuration: str) -> bool:
    """Without a bound it is what is to be; bounds (DSP0243, 8.4) only say what else would do."""
    if item.attributes.get("bound"):
        return False
    named = item.attributes.get("configuration", "").split()
    return not named or configuration in named


def _type(item: Element) -> int:
    text = item.text_of("ResourceType")
    return int(text) if _NUMBER.fullmatch(text) else -1


def _label(item: Element) -> str:
    """OVF 1.0 called the element `Caption`, as VirtualBox still does."""
    return (item.text_of("ElementName") or item.text_of("Caption") or f"item {_identity(item)}")[:120]


def _identity(item: Element) -> str:
    return item.text_of("InstanceID") or item.text_of("InstanceId")


def _quantity(item: Element, problems: Problems, most: int) -> int:
    text = item.text_of("VirtualQuantity")
    if not _NUMBER.fullmatch(text) or not 0 < int(text) <= most:
        problems.invalid(
            f"line {item.line}: {shown(_label(item))} has the VirtualQuantity {shown(text)}, "
            f"which is no number from 1 to {most}"
        )
        return 1
    return int(text)


def _memory(item: Element, problems: Problems) -> int:
    quantity = _quantity(item, problems, MOST_MEMORY_BYTES)
    unit = item.text_of("AllocationUnits") or item.text_of("VirtualQuantityUnits")
    try:
        size = quantity * bytes_of(unit)
    except UnitError:
        problems.invalid(
            f"line {item.line}: the memory {shown(_label(item))} is counted in {shown(unit)}, "
            "which is no unit of bytes",
            "Write the unit as DSP0004 does, `byte * 2^20`.",
        )
        return 1 << 20
    if not 1 << 20 <= size <= MOST_MEMORY_BYTES:
        problems.invalid(f"line {item.line}: {size} bytes of memory are no memory of a machine")
        return 1 << 20
    return size


def _cores(text: str, vcpus: int) -> int:
    cores = int(text) if _NUMBER.fullmatch(text) else 1
    return cores if 0 < cores <= vcpus and vcpus % cores == 0 else 1


def _controllers(items: Sequence[Element]) -> dict[str, Controller]:
    found: dict[str, Controller] = {}
    next_bus: dict[str, int] = {}
    for item in items:
        resource = _type(item)
        if resource not in _CONTROLLERS:
            continue
        kind = _controller_kind(resource, item.text_of("ResourceSubType"))
        address = item.text_of("Address")
        bus = int(address) if _NUMBER.fullmatch(address) and int(address) < 256 else next_bus.get(kind, 0)
        next_bus[kind] = max(next_bus.get(kind, 0), bus + 1)
        found.setdefault(_identity(item), Controller(kind, bus))
    return found


def _controller_kind(resource: int, subtypes: str) -> str:
    """The subtype may name several, the preferred one first."""
    if resource == Resource.IDE_CONTROLLER:
        return "ide"
    for subtype in subtypes.lower().split():
        if subtype in _SUBTYPES:
            return _SUBTYPES[subtype]
    return "lsilogic" if resource == Resource.SCSI_CONTROLLER and not subtypes else "unknown"


def _drives(
    items: Sequence[Element], controllers: dict[str, Controller], problems: Problems
) -> tuple[Drive, ...]:
    drives: list[Drive] = []
    for item in items:
        if _type(item) != Resource.DISK:
            continue
        resource = item.text_of("HostResource")
        disk_id = disk_reference(resource)
        if disk_id is None:
            problems.invalid(
                f"line {item.line}: the drive {shown(_label(item))} holds {shown(resource)}, "
                "which is no disk of this descriptor (`ovf:/disk/...`)"
            )
            continue
        parent = item.text_of("Parent")
        controller = controllers.get(parent)
        if parent and controller is None:
            problems.invalid(
                f"line {item.line}: the drive {shown(_label(item))} hangs on the item {shown(parent)}, "
                "which is no storage controller"
            )
        unit = item.text_of("AddressOnParent")
        drives.append(
            Drive(
                label=_label(item),
                disk_id=disk_id,
                controller=controller.kind if controller else "unknown",
                bus=controller.bus if controller else 0,
                unit=int(unit) if _NUMBER.fullmatch(unit) and int(unit) < 65536 else len(drives),
            )
        )
    return tuple(drives)


def _adapter(item: Element, number: int, problems: Problems) -> Adapter:
    mac = _mac(item.text_of("Address"))
    if mac is None:
        problems.invalid(
            f"line {item.line}: {shown(_label(item))} has the MAC {shown(item.text_of('Address'))}, "
            "which is none of a network adapter"
        )
    label = item.text_of("ElementName") or item.text_of("Caption") or f"Network adapter {number}"
    return Adapter(
        label=label[:120],
        mac=mac or "",
        network=item.text_of("Connection"),
        kind=_adapter_kind(item.text_of("ResourceSubType")),
        connected=item.text_of("AutomaticAllocation").lower() not in ("false", "0"),
        pci_slot=_pci_slot(item),
    )


def _pci_slot(item: Element) -> int:
    """From VMware's own settings of an item."""
    settings = {one.attributes.get("key"): one.attributes.get("value", "") for one in item.all("Config")}
    said = settings.get("slotInfo.pciSlotNumber", "")
    return int(said) if re.fullmatch(r"\d{1,5}", said) else 0


def _mac(text: str) -> str | None:
    """Lower case with colons; empty for none, None for what cannot be one (a group's address, say)."""
    if not text:
        return ""
    mac = text.lower().replace("-", ":")
    if re.fullmatch(r"[0-9a-f]{12}", mac):
        mac = ":".join(mac[at : at + 2] for at in range(0, 12, 2))
    return mac if _MAC.fullmatch(mac) and not int(mac[:2], 16) & 1 else None


def _adapter_kind(subtypes: str) -> str:
    first = (subtypes.lower().split() or ["unknown"])[0]
    first = _ADAPTERS.get(first, first)
    return first if _ADAPTER.fullmatch(first) else "unknown"
