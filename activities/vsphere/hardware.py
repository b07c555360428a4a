"""A virtual machine's properties, as the property collector gives them, in our own words. Pure."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from hyperctl.workflows.machine import Firmware, Machine, MachineDisk, MachineNic, PowerState
from hyperctl.workflows.source import Snapshot

HARDWARE = "config.hardware"
"""Missing where the vCenter cannot read a machine's configuration."""
MACHINE_PATHS = (
    "name",
    "config.annotation",
    "config.bootOptions",
    "config.changeVersion",
    "config.firmware",
    "config.guestFullName",
    "config.guestId",
    HARDWARE,
    "config.keyId",
    "config.template",
    "config.uuid",
    "config.version",
    "guest.hostName",
    "guest.ipStack",
    "guest.net",
    "guest.toolsRunningStatus",
    "layoutEx.disk",
    "layoutEx.file",
    "network",
    "runtime.connectionState",
    "runtime.consolidationNeeded",
    "runtime.faultToleranceState",
    "runtime.host",
    "runtime.powerState",
    "snapshot.currentSnapshot",
    "summary.storage.committed",
)

NO_FAULT_TOLERANCE = "notConfigured"

_CONTROLLERS: tuple[tuple[Any, str], ...] = (
    (vim.vm.device.ParaVirtualSCSIController, "pvscsi"),
    (vim.vm.device.VirtualLsiLogicSASController, "lsisas"),
    (vim.vm.device.VirtualLsiLogicController, "lsilogic"),
    (vim.vm.device.VirtualBusLogicController, "buslogic"),
    (vim.vm.device.VirtualAHCIController, "ahci"),
    (vim.vm.device.VirtualNVMEController, "nvme"),
    (vim.vm.device.VirtualIDEController, "ide"),
)
_ADAPTERS: tuple[tuple[Any, str], ...] = (
    (vim.vm.device.VirtualVmxnet3, "vmxnet3"),
    (vim.vm.device.VirtualVmxnet2, "vmxnet2"),
    (vim.vm.device.VirtualVmxnet, "vmxnet"),
    (vim.vm.device.VirtualE1000e, "e1000e"),
    (vim.vm.device.VirtualE1000, "e1000"),
    (vim.vm.device.VirtualPCNet32, "pcnet32"),
    (vim.vm.device.VirtualSriovEthernetCard, "sriov"),
)
_OUTSIDE = (
    vim.vm.device.VirtualPCIPassthrough,
    vim.vm.device.VirtualSCSIPassthrough,
    vim.vm.device.VirtualUSB,
    vim.vm.device.VirtualSerialPort,
    vim.vm.device.VirtualParallelPort,
    vim.vm.device.VirtualNVDIMM,
    vim.vm.device.VirtualPrecisionClock,
)


@dataclass(frozen=True, slots=True)
class SourceMachine:
    """A machine with what only the source side needs to know of it."""

    machine: Machine
    reference: Any
    """The managed object."""
    change_version: str
    """Changes with every change of the configuration."""
    connection_state: str
    datacenter_path: str = ""
    """See `inventory.Place`."""
    last_start: str = ""
    """The newest event of its being powered on or resumed; empty where none is known."""
    is_template: bool = False
    is_encrypted: bool = False
    needs_consolidation: bool = False
    fault_tolerant: bool = False
    has_snapshots: bool = False
    independent_disks: tuple[str, ...] = ()
    """Labels, as of the following two."""
    physical_rdms: tuple[str, ...] = ()
    shared_disks: tuple[str, ...] = ()
    delta_disks: tuple[str, ...] = ()
    """Those whose file holds only what differs from another one: of snapshots, and of linked clones."""
    passthrough: tuple[str, ...] = ()
    """Labels of devices of the ESXi host's, and of ports that lead out of the machine."""
    tools_running: bool = False
    snapshot: Snapshot | None = None
    """The disks are as this snapshot holds them, not as the machine has them."""

    @property
    def state(self) -> str:
        """Names the state of the machine that its disks are copied in: another one, and they may differ."""
        if self.snapshot is not None:
            return self.snapshot.state
        return f"{self.change_version} {self.last_start}"


def read_hardware(
    reference: Any,
    values: Mapping[str, Any],
    names: Mapping[str, str],
    datacenter: str,
    last_start: str = "",
) -> SourceMachine:
    """Build the machine from the properties of `MACHINE_PATHS` and the names of hosts and networks."""
    hardware = values[HARDWARE]
    devices = list(hardware.device or ())
    disks = [device for device in devices if isinstance(device, vim.vm.device.VirtualDisk)]
    boot = values.get("config.bootOptions")
    host = values.get("runtime.host")
    allocated = _allocated_by_disk(values)
    known = all(disk.key in allocated for disk in disks)
    machine_disks = read_disks(devices, allocated)
    capacity = sum(disk.capacity_bytes for disk in machine_disks)
    committed = sum(allocated.values()) if known else values.get("summary.storage.committed") or capacity
    addresses = _addresses(values.get("guest.net") or ())
    machine = Machine(
        name=values["name"],
        moref=reference._GetMoId(),
        datacenter=datacenter,
        uuid=values.get("config.uuid") or "",
        guest_id=values.get("config.guestId") or "",
        guest_full_name=values.get("config.guestFullName") or "",
        host_name=values.get("guest.hostName") or "",
        firmware=Firmware(values.get("config.firmware") or Firmware.BIOS),
        secure_boot=bool(boot and boot.efiSecureBootEnabled),
        tpm=any(isinstance(device, vim.vm.device.VirtualTPM) for device in devices),
        memory_bytes=hardware.memoryMB << 20,
        vcpus=hardware.numCPU,
        cores_per_socket=hardware.numCoresPerSocket or 1,
        power_state=PowerState(values["runtime.powerState"]),
        hardware_version=values.get("config.version") or "",
        esxi_host=names.get(host._GetMoId(), "") if host else "",
        disks=machine_disks,
        nics=tuple(
            _nic(device, names, addresses)
            for device in devices
            if isinstance(device, vim.vm.device.VirtualEthernetCard)
        ),
        allocated_bytes=min(committed, capacity),
        annotation=values.get("config.annotation") or "",
        gateways=_gateways(values.get("guest.ipStack") or ()),
    )
    return SourceMachine(
        machine=machine,
        reference=reference,
        change_version=values.get("config.changeVersion") or "",
        connection_state=str(values.get("runtime.connectionState") or "connected"),
        last_start=last_start,
        is_template=bool(values.get("config.template")),
        is_encrypted=values.get("config.keyId") is not None or any(_is_encrypted(disk) for disk in disks),
        fault_tolerant=str(values.get("runtime.faultToleranceState") or NO_FAULT_TOLERANCE)
        != NO_FAULT_TOLERANCE,
        needs_consolidation=bool(values.get("runtime.consolidationNeeded")),
        has_snapshots=values.get("snapshot.currentSnapshot") is not None,
        independent_disks=_labels(disks, _is_independent),
        physical_rdms=_labels(disks, _is_physical_rdm),
        shared_disks=_labels(disks, _is_shared),
        delta_disks=_labels(disks, _is_delta),
        passthrough=_labels(devices, lambda one: isinstance(one, _OUTSIDE)),
        tools_running=values.get("guest.toolsRunningStatus") == "guestToolsRunning",
    )


def read_disks(devices: Sequence[Any], allocated: Mapping[int, int]) -> tuple[MachineDisk, ...]:
    """The disks among the devices of a machine or a snapshot; `allocated` has bytes by disk key."""
    return tuple(
        _disk(device, devices, allocated.get(device.key, 0))
        for device in devices
        if isinstance(device, vim.vm.device.VirtualDisk)
    )


def _labels(disks: list[Any], applies: Any) -> tuple[str, ...]:
    return tuple(disk.deviceInfo.label for disk in disks if applies(disk))


def _is_physical_rdm(disk: Any) -> bool:
    return getattr(disk.backing, "compatibilityMode", None) == "physicalMode"


def _is_independent(disk: Any) -> bool:
    mode = getattr(disk.backing, "diskMode", None) or ""
    return str(mode).startswith("independent") and not _is_physical_rdm(disk)


def _is_encrypted(disk: Any) -> bool:
    return getattr(disk.backing, "keyId", None) is not None


def _is_shared(disk: Any) -> bool:
    return getattr(disk.backing, "sharing", None) == "sharingMultiWriter"


def _is_delta(disk: Any) -> bool:
    return getattr(disk.backing, "parent", None) is not None


def _disk(disk: Any, devices: Sequence[Any], allocated_bytes: int) -> MachineDisk:
    controller = next((device for device in devices if device.key == disk.controllerKey), None)
    capacity = disk.capacityInBytes or disk.capacityInKB << 10
    return MachineDisk(
        key=disk.key,
        label=disk.deviceInfo.label,
        file_name=getattr(disk.backing, "fileName", "") or "",
        capacity_bytes=capacity,
        controller=next((name for kind, name in _CONTROLLERS if isinstance(controller, kind)), "unknown"),
        controller_bus=getattr(controller, "busNumber", 0) or 0,
        unit=disk.unitNumber or 0,
        allocated_bytes=min(allocated_bytes, capacity),
        uuid=(getattr(disk.backing, "uuid", None) or "").replace("-", "").lower(),
    )


def _allocated_by_disk(values: Mapping[str, Any]) -> dict[int, int]:
    """Bytes on the datastore by disk key: the files of the disk's whole backing chain."""
    sizes = {file.key: file.size for file in values.get("layoutEx.file") or ()}
    return {
        disk.key: sum(sizes.get(key, 0) for link in disk.chain or () for key in link.fileKey or ())
        for disk in values.get("layoutEx.disk") or ()
    }


def _addresses(reports: Any) -> dict[str, tuple[str, ...]]:
    """Addresses with prefix length by MAC, without link-local ones, as the guest's tools reported them."""
    found: dict[str, tuple[str, ...]] = {}
    for report in reports:
        configured = report.ipConfig.ipAddress if report.ipConfig else ()
        usable = [
            f"{item.ipAddress}/{item.prefixLength}"
            for item in configured or ()
            if _wanted_address(item.ipAddress)
        ]
        if report.macAddress:
            mac = report.macAddress.lower()
            found[mac] = (*found.get(mac, ()), *usable)
    return found


def _gateways(stacks: Any) -> tuple[str, ...]:
    routes = (route for stack in stacks if stack.ipRouteConfig for route in stack.ipRouteConfig.ipRoute or ())
    found = (
        _wanted_address(route.gateway.ipAddress or "")
        for route in routes
        if route.network in ("0.0.0.0", "::") and not route.prefixLength
    )
    return tuple(dict.fromkeys(one for one in found if one))


def _wanted_address(text: str) -> str:
    """In its usual spelling; empty for a link-local one, and for what a guest says that is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    return "" if address.is_link_local else str(address)


def _nic(device: Any, names: Mapping[str, str], addresses: Mapping[str, tuple[str, ...]]) -> MachineNic:
    mac = (device.macAddress or "").lower()
    return MachineNic(
        key=device.key,
        label=device.deviceInfo.label,
        mac=mac,
        network=_network(device.backing, names),
        adapter=next((name for kind, name in _ADAPTERS if isinstance(device, kind)), "unknown"),
        connected=device.connectable is None or bool(device.connectable.startConnected),
        addresses=addresses.get(mac, ()),
        pci_slot=max(0, getattr(device.slotInfo, "pciSlotNumber", 0) or 0),  # -1: not yet in any
    )


def _network(backing: Any, names: Mapping[str, str]) -> str:
    """The network's name; a distributed port group's key is its reference."""
    port = getattr(backing, "port", None)
    if port is not None:
        return names.get(port.portgroupKey or "", port.portgroupKey or "")
    opaque = getattr(backing, "opaqueNetworkId", None)
    return getattr(backing, "deviceName", None) or opaque or ""
