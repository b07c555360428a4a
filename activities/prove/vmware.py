"""VMware's hardware as qemu emulates it: what an unconverted guest is booted on, and nothing of virtio.

A pure change of a trial's domain XML. A NIC gets its name from the number of its slot, which has to come from
a port with native hotplug (systemd.net-naming-scheme(7)); libvirt cannot say such a number, so that NICs are
on qemu's own command line (https://libvirt.org/drvqemu.html, "Pass-through of arbitrary qemu commands").
"""

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from hyperctl.activities.convert.linux.pci import DEFAULT_SLOTS, name_in_slot
from hyperctl.workflows.hardware import DiskBus, Hardware, NicModel
from hyperctl.workflows.machine import Machine, MachineDisk, MachineNic

PLAIN = Hardware(disk_bus=DiskBus.SATA, nic_model=NicModel.E1000E)
"""What the XML is made with before it is changed: its report comes by a serial port, without any virtio."""
QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"

_SCSI = {"pvscsi": "vmpvscsi", "lsisas": "lsisas1068", "lsilogic": "lsisas1068"}
"""vSphere's controllers and libvirt's models. qemu has no LSI53C1030; its SAS sister is of that family."""
_SATA = ("ahci",)
_NICS = {"vmxnet3": "vmxnet3", "e1000e": "e1000e", "e1000": "e1000", "pcnet32": "pcnet"}
_HIGHEST_UNIT = {"vmpvscsi": 63, "lsisas1068": 7}
_FIRST_CONTROLLER, _FIRST_PORT = 0x10, 0x14
"""Devices of the root bus that libvirt does not come to by itself."""
_FIRST_CHASSIS = 100
MOST_NICS = 10
MOST_CONTROLLERS = 4

ET.register_namespace("qemu", QEMU_NAMESPACE)


class NotEmulatedError(Exception):
    """qemu, or libvirt, has nothing like it; the message names it."""


def hardware_words(machine: Machine) -> str:
    """What it is booted on, for people: `pvscsi, vmxnet3`. Raises `NotEmulatedError`."""
    disks = (_SCSI.get(disk.controller) or _sata(disk) for disk in machine.disks)
    nics = (_nic_model(nic) for nic in machine.nics)
    spoken = {"vmpvscsi": "pvscsi", "lsisas1068": "mptsas1068"}
    return ", ".join(dict.fromkeys(spoken.get(name, name) for name in (*disks, *nics)))


def on_vmware(domain_xml: str, machine: Machine) -> str:
    """The domain on VMware's controllers and NICs, cut off from every network.

    `domain_xml` is a trial's, made with `PLAIN` for the same machine, with its disks in the machine's order.
    Raises `NotEmulatedError` for hardware that cannot be had.
    """
    domain = ET.fromstring(domain_xml)
    devices, system = domain.find("devices"), domain.find("os/type")
    assert devices is not None, "every domain has devices"
    assert system is not None, "every domain has a machine type"
    system.set("machine", "q35")  # the other one has no ports for PCI Express
    for tag in ("interface", "rng", "memballoon"):
        for element in devices.findall(tag):
            devices.remove(element)
    ET.SubElement(devices, "memballoon", model="none")
    ET.SubElement(devices, "controller", type="usb", model="none")
    _attach(devices, machine.disks)
    _command_line(domain, machine.nics)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def _attach(devices: ET.Element, disks: Sequence[MachineDisk]) -> None:
    controllers: list[tuple[str, int]] = []
    sata = 0
    for index, (element, disk) in enumerate(zip(devices.findall("disk"), disks, strict=True)):
        target = element.find("target")
        assert target is not None, "every disk has a target"
        target.set("dev", f"sd{chr(ord('a') + index)}")
        model = _SCSI.get(disk.controller)
        if model is None:
            target.set("bus", _sata(disk))
            place = {"controller": "0", "bus": "0", "target": "0", "unit": str(sata)}
            sata += 1
        else:
            target.set("bus", "scsi")
            if disk.unit > _HIGHEST_UNIT[model]:
                raise NotEmulatedError(f"{disk.label} is unit {disk.unit} of a {disk.controller} controller")
            if (model, disk.controller_bus) not in controllers:
                controllers.append((model, disk.controller_bus))
            number = controllers.index((model, disk.controller_bus))
            place = {"controller": str(number), "bus": "0", "target": str(disk.unit), "unit": "0"}
        ET.SubElement(element, "address", {"type": "drive", **place})
    if len(controllers) > MOST_CONTROLLERS:
        raise NotEmulatedError(f"{len(controllers)} SCSI controllers")
    for number, (model, _) in enumerate(controllers):
        element = ET.SubElement(devices, "controller", type="scsi", index=str(number), model=model)
        slot = f"{_FIRST_CONTROLLER + number:#x}"
        ET.SubElement(element, "address", type="pci", domain="0", bus="0", slot=slot, function="0")


def _sata(disk: MachineDisk) -> str:
    if disk.controller not in _SATA:
        raise NotEmulatedError(f"{disk.label} is on a controller of the kind {disk.controller}")
    return "sata"


def _nic_model(nic: MachineNic) -> str:
    if nic.adapter not in _NICS:
        raise NotEmulatedError(f"{nic.label} is of the kind {nic.adapter}")
    return _NICS[nic.adapter]


def _command_line(domain: ET.Element, nics: Sequence[MachineNic]) -> None:
    if len(nics) > MOST_NICS:
        raise NotEmulatedError(f"{len(nics)} network adapters")
    words = ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]
    # As VMware's bridges are on its root bus, whatever vSphere's order: the kernel's names go by this.
    in_place = sorted(zip(_slots(nics), nics, strict=True), key=lambda pair: pair[0])
    for number, (slot, nic) in enumerate(in_place):
        port, chassis = f"vmware{number}", _FIRST_CHASSIS + number
        place = f"bus=pcie.0,addr={_FIRST_PORT + number:#x}"
        device = f"{_nic_model(nic)},bus={port},netdev=cut{number},mac={nic.mac.lower()},romfile="
        # A hub with one port: a network with nobody else on it.
        words += ["-netdev", f"hubport,id=cut{number},hubid={number}"]
        words += ["-device", f"pcie-root-port,id={port},chassis={chassis},slot={slot},{place}"]
        words += ["-device", device]
    line = ET.SubElement(domain, f"{{{QEMU_NAMESPACE}}}commandline")
    for word in words:
        ET.SubElement(line, f"{{{QEMU_NAMESPACE}}}arg", value=word)


def _slots(nics: Sequence[MachineNic]) -> list[int]:
    """The number that each NIC's slot announces: vSphere's own, or where it would have put the NIC."""
    known = {nic.pci_slot for nic in nics}
    free = iter(slot for slot in DEFAULT_SLOTS if slot not in known)
    numbers = (nic.pci_slot or next(free) for nic in nics)
    return [int(name_in_slot(number).removeprefix("ens")) for number in numbers]
