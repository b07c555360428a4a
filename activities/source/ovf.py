"""Reading an OVF descriptor into the machine that it describes. Pure.

Follows DMTF DSP0243 1.1 and 2.1, with VMware's extensions (`vmw:Config`, `vmw:osType`, `vmw:CoresPerSocket`)
and VirtualBox's (`vbox:Machine`). The descriptor may be hostile: everything that it says is bounded, files
are plain names only, and all that is wrong with it is found together.
"""

import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from hyperctl.activities.source.markup import Element, MarkupError, read_markup
from hyperctl.activities.source.ovf_disks import DiskEntry, OvfFile, read_disks, read_files
from hyperctl.activities.source.ovf_items import Adapter, Drive, Hardware, read_items
from hyperctl.activities.source.problems import Problems, shown
from hyperctl.workflows.machine import Firmware, Machine, MachineDisk, MachineNic, PowerState

MOST_DISKS = 256
_NAMESPACE = re.compile(r"http://schemas\.dmtf\.org/ovf/envelope/[12](?:\.\d)?/?")
_FIRST_DISK_KEY = 2000
_FIRST_NIC_KEY = 4000

_GUESTS = {
    79: "rhel6Guest",
    80: "rhel6_64Guest",
    93: "ubuntuGuest",
    94: "ubuntu64Guest",
    106: "centosGuest",
    107: "centos64Guest",
    108: "oracleLinuxGuest",
    109: "oracleLinux64Guest",
}
"""vSphere's id for values of CIM_OperatingSystem.OSType whose release no id needs."""
_LINUX = frozenset({36, 79, 80, 85, 89, 93, 95, 97, 99, 106, 108})
_LINUX_64 = frozenset({80, 86, 90, 94, 96, 98, 100, 101, 107, 109})


@dataclass(frozen=True, slots=True)
class OvfDisk:
    """One disk of the machine; the same order as the machine's own."""

    disk_id: str
    file: OvfFile | None
    """None for a disk that is to be empty."""
    capacity_bytes: int


@dataclass(frozen=True, slots=True)
class Ovf:
    """A descriptor that is good."""

    machine: Machine
    disks: tuple[OvfDisk, ...]
    files: tuple[OvfFile, ...]
    """All that the package holds besides descriptor, manifest and certificate."""
    remarks: tuple[str, ...]
    """What a person should know and what does not stand against it."""


def read_ovf(data: bytes, file_name: str) -> Ovf:
    """The machine in a descriptor. Raises `PreflightError` with everything that is wrong with it."""
    problems = Problems(file_name)
    try:
        envelope = read_markup(data)
    except MarkupError as error:
        problems.invalid(str(error))
    else:
        found = _Reader(envelope, problems, hashlib.sha256(data).hexdigest()).read()
        if found is not None and not problems:
            return found
    problems.raise_any()
    raise AssertionError("a descriptor was not read and nothing was said of it")


class _Reader:
    def __init__(self, envelope: Element, problems: Problems, fingerprint: str) -> None:
        self._envelope = envelope
        self._problems = problems
        self._fingerprint = fingerprint
        self._remarks: list[str] = []

    def read(self) -> Ovf | None:
        envelope = self._envelope
        if envelope.name != "Envelope":
            self._problems.invalid(f"its root is {shown(envelope.name)} and not an OVF Envelope")
            return None
        if not _NAMESPACE.fullmatch(envelope.namespace):
            self._problems.unsupported(
                f"it is an OVF of the namespace {shown(envelope.namespace)}",
                "Versions 1 and 2 of the standard are read; export it again with a newer programme.",
            )
            return None
        for element in envelope.below():
            _name_by_type(element)
        files = read_files(envelope, self._problems)
        system = self._system()
        if system is None:
            return None
        sections = system.all("VirtualHardwareSection")
        if not sections:
            self._problems.invalid("its virtual system has no VirtualHardwareSection")
            return None
        if len(sections) > 1:
            self._remarks.append("it describes the hardware more than once; the first description is used")
        hardware = read_items(sections[0], self._configuration(), self._problems)
        held = {drive.disk_id for drive in hardware.drives}
        disks = read_disks(envelope, files, held, self._problems)
        return self._assemble(system, sections[0], hardware, files, disks)

    def _system(self) -> Element | None:
        """The one machine of the package."""
        systems = [element for element in self._envelope.below() if element.name == "VirtualSystem"]
        if len(systems) == 1:
            return systems[0]
        if not systems:
            self._problems.invalid("it describes no VirtualSystem")
        else:
            names = ", ".join(shown(_name(system)) for system in systems[:20])
            self._problems.unsupported(
                f"it holds {len(systems)} machines: {names}{', ...' if len(systems) > 20 else ''}",
                "One package moves as one machine: export each of them by itself.",
            )
        return None

    def _configuration(self) -> str:
        """The deployment configuration: the one marked as the default, else the first (DSP0243, 9.8)."""
        choices = [
            choice
            for section in self._envelope.all("DeploymentOptionSection")
            for choice in section.all("Configuration")
        ]
        if not choices:
            return ""
        marked = [choice for choice in choices if choice.attributes.get("default") in ("true", "1")]
        chosen = (marked or choices)[0].attributes.get("id", "")
        self._remarks.append(f"of {len(choices)} deployment configurations, {shown(chosen)} is used")
        return chosen

    def _assemble(
        self,
        system: Element,
        section: Element,
        hardware: Hardware,
        files: dict[str, OvfFile],
        disks: dict[str, DiskEntry],
    ) -> Ovf | None:
        name = _name(system)
        attached: list[DiskEntry] = []
        # Several drives may hold an empty disk of the same kind, or what another configuration would choose.
        used: set[str] = set()
        for drive in hardware.drives:
            if drive.disk_id in disks:
                entry = disks[drive.disk_id]
                attached.append(entry)
                if entry.file is not None and entry.file.name in used:
                    self._problems.invalid(
                        f"the drive {shown(drive.label)} holds the file {shown(entry.file.name)}, "
                        "which another drive holds too"
                    )
                used.add(entry.file.name if entry.file else "")
            else:
                self._problems.invalid(
                    f"the drive {shown(drive.label)} holds the disk {shown(drive.disk_id)}, "
                    "which is not listed"
                )
        if not name:
            self._problems.invalid("its virtual system has no name")
        if not hardware.drives:
            self._problems.invalid("its machine has no disk (no item of ResourceType 17)")
        elif len(hardware.drives) > MOST_DISKS:
            self._problems.unsupported(f"its machine has {len(hardware.drives)} disks")
        elif attached and all(disk.file is None for disk in attached):
            self._problems.invalid(
                "none of its disks has a file: it describes a machine and does not hold it",
                "Export the machine together with its disks.",
            )
        if self._problems:
            return None
        self._remark(section, hardware, attached, disks)
        machine = self._machine(system, section, hardware, attached)
        return Ovf(
            machine=machine,
            disks=tuple(OvfDisk(disk.disk_id, disk.file, disk.capacity_bytes) for disk in attached),
            files=tuple(files.values()),
            remarks=tuple(self._remarks),
        )

    def _remark(
        self,
        section: Element,
        hardware: Hardware,
        attached: Sequence[DiskEntry],
        disks: dict[str, DiskEntry],
    ) -> None:
        for disk in attached:
            if disk.file is None:
                self._remarks.append(f"the disk {shown(disk.disk_id)} has no file: it will be empty")
        for left in disks.keys() - {disk.disk_id for disk in attached}:
            self._remarks.append(f"the disk {shown(left)} is in no drive of the machine and is not moved")
        self._remarks += [f"the medium in {shown(label)} is not moved" for label in hardware.removable]
        if section.attributes.get("transport"):
            self._remarks.append(
                "the guest expects settings from an OVF environment "
                f"({shown(section.attributes['transport'])}), which the new machine does not offer"
            )

    def _machine(
        self, system: Element, section: Element, hardware: Hardware, attached: Sequence[DiskEntry]
    ) -> Machine:
        name = _name(system)
        settings = _settings(section)
        box = system.first("Machine")
        guest_id, guest_full_name = _guest(system)
        identity = _identity(settings, box) or str(uuid.uuid5(uuid.NAMESPACE_OID, f"ovf:{self._fingerprint}"))
        disks = tuple(
            _disk(number, drive, entry)
            for number, (drive, entry) in enumerate(zip(hardware.drives, attached, strict=True))
        )
        hardware_system = section.first("System")
        return Machine(
            name=name,
            moref="",
            datacenter="",
            uuid=identity,
            guest_id=guest_id,
            guest_full_name=guest_full_name,
            firmware=self._firmware(settings, box),
            secure_boot=settings.get("bootOptions.efiSecureBootEnabled", "").lower() in ("true", "1"),
            memory_bytes=hardware.memory_bytes,
            vcpus=hardware.vcpus,
            cores_per_socket=hardware.cores_per_socket,
            power_state=PowerState.OFF,
            hardware_version=hardware_system.text_of("VirtualSystemType") if hardware_system else "",
            esxi_host="",
            disks=disks,
            nics=self._nics(hardware.adapters, _box_macs(box), identity),
            allocated_bytes=sum(disk.allocated_bytes for disk in disks),
            annotation="\n".join(part.text_of("Annotation") for part in system.all("AnnotationSection")),
        )

    def _firmware(self, settings: dict[str, str], box: Element | None) -> Firmware:
        """Neither VMware nor VirtualBox always says what is its default, BIOS."""
        named = settings.get("firmware", "").lower()
        if not named and box is not None:
            named = next(
                (element.attributes.get("type", "") for element in box.below() if element.name == "Firmware"),
                "",
            ).lower()
        if named.startswith(("efi", "uefi")):
            return Firmware.EFI
        if named not in ("", "bios"):
            self._remarks.append(f"its firmware is {shown(named)}, which is taken for a BIOS")
        return Firmware.BIOS

    def _nics(
        self, adapters: Sequence[Adapter], macs: Sequence[str], identity: str
    ) -> tuple[MachineNic, ...]:
        found = []
        for number, adapter in enumerate(adapters):
            mac = adapter.mac or (macs[number] if number < len(macs) else "")
            is_made = not mac
            if is_made:
                mac = made_mac(identity, number)
                self._remarks.append(
                    f"{shown(adapter.label)} has no MAC in the descriptor and gets {mac}, or the one "
                    "that the guest's own configuration goes by where that is certain"
                )
            found.append(
                MachineNic(
                    key=_FIRST_NIC_KEY + number,
                    label=adapter.label,
                    mac=mac,
                    mac_made=is_made,
                    network=adapter.network,
                    adapter=adapter.kind,
                    connected=adapter.connected,
                    pci_slot=adapter.pci_slot,
                )
            )
        return tuple(found)


def made_mac(identity: str, number: int) -> str:
    """An address of KVM's range that is the same each time the same package is read."""
    digest = hashlib.sha256(f"{identity}/{number}".encode()).digest()
    return ":".join(("52", "54", "00", *(f"{byte:02x}" for byte in digest[:3])))


def _name_by_type(element: Element) -> None:
    """Early exporters of 1.0, and oVirt's, write `<Section xsi:type="ovf:DiskSection_Type">`."""
    if element.name in ("Section", "Content"):
        kind = element.attributes.get("type", "").rpartition(":")[2]
        element.name = kind.removesuffix("_Type") or element.name


def _name(system: Element) -> str:
    return (system.text_of("Name") or system.attributes.get("id", ""))[:255]


def _settings(section: Element) -> dict[str, str]:
    """VMware's `vmw:Config` and `vmw:ExtraConfig`, by key."""
    return {
        element.attributes.get("key", ""): element.attributes.get("value", "")
        for element in section.all("Config", "ExtraConfig")
    }


def _identity(settings: dict[str, str], box: Element | None) -> str:
    """The machine's own UUID where the exporter wrote one."""
    stated = settings.get("uuid.bios") or settings.get("uuid") or ""
    if not stated and box is not None:
        stated = box.attributes.get("uuid", "")
    digits = re.sub(r"[\s{}-]", "", stated)
    return str(uuid.UUID(digits)) if re.fullmatch(r"[0-9a-fA-F]{32}", digits) else ""


def _box_macs(box: Element | None) -> list[str]:
    """VirtualBox keeps the addresses in its own part, in the order of the slots that are enabled."""
    if box is None:
        return []
    adapters = [
        element.attributes
        for element in box.below()
        if element.name == "Adapter" and element.attributes.get("enabled") == "true"
    ]
    return [
        ":".join(re.findall("..", mac)) if re.fullmatch(r"[0-9a-f][02468ace][0-9a-f]{10}", mac) else ""
        for mac in (adapter.get("MACAddress", "").lower() for adapter in adapters)
    ]


def _guest(system: Element) -> tuple[str, str]:
    """vSphere's guest id and the system's name for people."""
    section = system.first("OperatingSystemSection")
    if section is None:
        return "otherLinux64Guest", ""
    description = section.text_of("Description")[:120]
    stated = section.attributes.get("osType", "")
    if re.fullmatch(r"\w{1,64}", stated):
        return stated, description
    box_type = section.text_of("OSType")[:60]
    number = section.attributes.get("id", "")
    value = int(number) if re.fullmatch(r"\d{1,4}", number) else 0
    if value in _GUESTS:
        return _GUESTS[value], description or box_type
    if value in _LINUX_64:
        return "otherLinux64Guest", description or box_type
    if value in _LINUX:
        return "otherLinuxGuest", description or box_type
    return "otherGuest64", description or box_type


def _disk(number: int, drive: Drive, entry: DiskEntry) -> MachineDisk:
    file = entry.file
    allocated = entry.populated_bytes or (file.size_bytes or 0 if file else 0)
    return MachineDisk(
        key=_FIRST_DISK_KEY + number,
        label=drive.label,
        file_name=file.name if file else "",
        capacity_bytes=entry.capacity_bytes,
        controller=drive.controller,
        controller_bus=drive.bus,
        unit=drive.unit,
        allocated_bytes=min(allocated, entry.capacity_bytes),
    )
