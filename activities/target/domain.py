"""The libvirt domain of a migrated guest: a pure function from its model to domain XML.

Format: https://libvirt.org/formatdomain.html. Text is put in by ElementTree, which escapes it; characters
that XML 1.0 cannot hold at all are dropped.
"""

import re
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import datetime

from hyperctl.activities.chain import nbd_socket
from hyperctl.activities.target.firmware import FirmwareFiles
from hyperctl.activities.target.network import DeadEnd, HostBridge, NicSource
from hyperctl.workflows.guest import GuestSystem
from hyperctl.workflows.hardware import VIRTIO, DiskBus, Hardware
from hyperctl.workflows.machine import BIOS_DISKS, BIOS_DISKS_SURELY, Firmware, Machine, MachineNic

METADATA_NAMESPACE = "urn:hyperctl:migration:1"
METADATA_PREFIX = "hyperctl"
AGENT_CHANNEL = "org.qemu.guest_agent.0"
LARGEST_DISK_COUNT = 26 + 26 * 26
MOST_WITHOUT_REMAPPING = 255
"""Processors whose interrupts need no remapping, and all that there may be without PCI Express."""
LONGEST_NAME_BYTES = 200
"""libvirt calls files by a domain's name, and adds to it."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_OLDEST_ON_Q35 = {
    "debian": 9,
    "ubuntu": 16,
    "rhel": 7,
    "centos": 7,
    "oraclelinux": 7,
    "rocky": 8,
    "almalinux": 8,
    "fedora": 22,
    "sles": 15,
    "opensuse": 15,
    "windows": 6,
}
"""By distribution, the first major version whose kernel drives virtio 1.0, all that PCI Express has."""

ET.register_namespace(METADATA_PREFIX, METADATA_NAMESPACE)


@dataclass(frozen=True, slots=True)
class BackingImage:
    address: str
    """A file's path or an NBD address, see `activities/chain.py`."""
    format: str


@dataclass(frozen=True, slots=True)
class DomainDisk:
    """One disk, with its whole backing chain spelled out so that nothing is ever probed."""

    path: str
    format: str
    backing: tuple[BackingImage, ...] = ()


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a domain came from, kept in its metadata; the job id makes it ours."""

    job_id: str
    migrated_at: datetime


@dataclass(frozen=True, slots=True)
class TrialConsole:
    """For a trial boot: where the guest's words go, who runs qemu, and no way in from outside.

    The report comes by a virtio port; of a guest without virtio by the second serial port.
    """

    serial_file: str
    report_file: str
    report_channel: str
    qemu_label: str
    """`+UID:+GID` that qemu runs as, for libvirt's DAC driver; empty where there is none."""
    asks_agent: bool = False
    """The guest agent's channel is a terminal of the host's, in place of the report's."""
    can_be_typed_at: bool = False
    """The serial port is a terminal of the host's, which is recorded in its file."""


@dataclass(frozen=True, slots=True)
class DomainSpec:
    """Everything that the XML says."""

    name: str
    uuid: uuid.UUID
    machine: Machine
    guest: GuestSystem | None
    disks: tuple[DomainDisk, ...]
    nic_sources: tuple[NicSource, ...]
    """One for each of the machine's NICs, in their order."""
    domain_type: str
    """`kvm` or `qemu`."""
    provenance: Provenance
    firmware: FirmwareFiles | None = None
    """Needed for a machine with EFI firmware, and for no other."""
    nvram: str = ""
    """An existing file of firmware variables; libvirt makes one from the template where it is empty."""
    vcpus: int = 0
    memory_bytes: int = 0
    """0: as many as the machine has."""
    trial: TrialConsole | None = None
    hardware: Hardware = VIRTIO
    tpm: bool = False


def runs_on_q35(machine: Machine, guest: GuestSystem | None) -> bool:
    """Whether the guest is young enough for q35; older ones get i440fx. A rolling distribution, which has no
    version, is; and Secure Boot and very many processors exist on q35 only."""
    if machine.secure_boot or guest is None or not guest.major_version:
        return True
    if machine.vcpus > MOST_WITHOUT_REMAPPING:
        return True
    return guest.major_version >= _OLDEST_ON_Q35.get(guest.distribution, 0)


def domain_name(vm_name: str) -> str:
    """The VM's name as libvirt takes it, and files can be called: without slashes and control characters."""
    name = re.sub(r"[/\x00-\x1f\x7f]", "_", _clean(vm_name)).strip()
    while len(name.encode()) > LONGEST_NAME_BYTES:
        name = name[:-1]
    return re.sub(r"^\.*$", lambda dots: "_" * max(1, len(dots[0])), name)


def domain_uuid(job_id: str, purpose: str = "") -> uuid.UUID:
    """A uuid that is the same whenever the same job asks."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{METADATA_NAMESPACE}:{job_id}:{purpose}")


def source_uuid(machine: Machine) -> uuid.UUID | None:
    """The uuid that the guest saw of its hardware in vSphere, where it is one."""
    try:
        return uuid.UUID(machine.uuid)
    except ValueError:
        return None


def domain_xml(spec: DomainSpec) -> str:
    """The domain as XML text. Raises ValueError for a spec that contradicts itself."""
    if len(spec.nic_sources) != len(spec.machine.nics):
        raise ValueError("every NIC needs exactly one source")
    if not 1 <= len(spec.disks) <= LARGEST_DISK_COUNT:
        raise ValueError(f"a domain has 1 to {LARGEST_DISK_COUNT} disks, not {len(spec.disks)}")
    domain = ET.Element("domain", type=spec.domain_type)
    _text(domain, "name", spec.name)
    _text(domain, "uuid", str(spec.uuid))
    if spec.machine.annotation and spec.trial is None:
        _text(domain, "description", spec.machine.annotation)
    _metadata(domain, spec)
    kibibytes = (spec.memory_bytes or spec.machine.memory_bytes) // 1024
    _text(domain, "memory", str(kibibytes), unit="KiB")
    _text(domain, "currentMemory", str(kibibytes), unit="KiB")
    _text(domain, "vcpu", str(spec.vcpus or spec.machine.vcpus), placement="static")
    _boot(domain, spec)
    features = ET.SubElement(domain, "features")
    for name in ("acpi", "apic"):
        ET.SubElement(features, name)
    if _is_enlightened(spec):
        _hyperv(features)
    if _remaps_interrupts(spec):
        ET.SubElement(features, "ioapic", driver="qemu")
    if spec.firmware and spec.firmware.secure_boot:
        ET.SubElement(features, "smm", state="on")
    _cpu(domain, spec)
    _clock(domain, spec)
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        _text(domain, event, action)
    _devices(ET.SubElement(domain, "devices"), spec)
    if spec.trial and spec.trial.qemu_label:
        label = ET.SubElement(domain, "seclabel", type="static", model="dac", relabel="no")
        _text(label, "label", spec.trial.qemu_label)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def _metadata(domain: ET.Element, spec: DomainSpec) -> None:
    def named(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
        clean = {name: _clean(value) for name, value in attributes.items()}
        return ET.SubElement(parent, f"{{{METADATA_NAMESPACE}}}{tag}", clean)

    machine = spec.machine
    migration = named(ET.SubElement(domain, "metadata"), "migration", job=spec.provenance.job_id)
    named(
        migration,
        "source",
        name=machine.name,
        moref=machine.moref,
        uuid=machine.uuid,
        datacenter=machine.datacenter,
        esxi_host=machine.esxi_host,
    )
    if spec.guest:
        named(migration, "guest", system=spec.guest.product_name)
    named(migration, "migrated", at=spec.provenance.migrated_at.strftime("%Y-%m-%dT%H:%M:%SZ"))


def _boot(domain: ET.Element, spec: DomainSpec) -> None:
    os_element = ET.SubElement(domain, "os")
    machine_type = "q35" if runs_on_q35(spec.machine, spec.guest) else "pc"
    _text(os_element, "type", "hvm", arch="x86_64", machine=machine_type)
    if not spec.firmware:
        return
    secure = "yes" if spec.firmware.secure_boot else "no"
    _text(os_element, "loader", spec.firmware.code, readonly="yes", secure=secure, type="pflash")
    if spec.nvram:
        _text(os_element, "nvram", spec.nvram)
    else:
        ET.SubElement(os_element, "nvram", template=spec.firmware.variables_template)


def _cpu(domain: ET.Element, spec: DomainSpec) -> None:
    if spec.domain_type == "kvm":
        cpu = ET.SubElement(domain, "cpu", mode="host-passthrough", check="none", migratable="on")
    else:
        # A fifth level of page tables makes emulation slower and gains nothing below 64 TiB. Where `rep
        # stosb` is said to be fast, Linux clears its pages with it, byte by byte in emulation.
        cpu = ET.SubElement(domain, "cpu", mode="maximum", check="none")
    vcpus = spec.vcpus or spec.machine.vcpus
    cores = spec.machine.cores_per_socket
    if cores < 1 or vcpus % cores:
        cores = 1
    ET.SubElement(cpu, "topology", sockets=str(vcpus // cores), dies="1", cores=str(cores), threads="1")
    if spec.domain_type != "kvm":
        for name in ("la57", "erms"):
            ET.SubElement(cpu, "feature", policy="disable", name=name)


def _clock(domain: ET.Element, spec: DomainSpec) -> None:
    windows = spec.guest is not None and spec.guest.is_windows
    clock = ET.SubElement(domain, "clock", offset="localtime" if windows else "utc")
    ET.SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
    ET.SubElement(clock, "timer", name="pit", tickpolicy="delay")
    ET.SubElement(clock, "timer", name="hpet", present="no")
    if _is_enlightened(spec):
        ET.SubElement(clock, "timer", name="hypervclock", present="yes")


def _remaps_interrupts(spec: DomainSpec) -> bool:
    """Without, an interrupt has eight bits for its processor (Intel VT-d, "Extended Interrupt Mode")."""
    return (spec.vcpus or spec.machine.vcpus) > MOST_WITHOUT_REMAPPING


def _is_enlightened(spec: DomainSpec) -> bool:
    """Windows spends less where it knows its hypervisor; emulation cannot pass for Hyper-V."""
    return spec.guest is not None and spec.guest.is_windows and spec.domain_type == "kvm"


def _hyperv(features: ET.Element) -> None:
    """What QEMU's docs/system/i386/hyperv.rst recommends, and every host of today has."""
    hyperv = ET.SubElement(features, "hyperv", mode="custom")
    for name in ("relaxed", "vapic"):
        ET.SubElement(hyperv, name, state="on")
    ET.SubElement(hyperv, "spinlocks", state="on", retries="8191")
    for name in ("vpindex", "runtime", "synic", "stimer"):
        ET.SubElement(hyperv, name, state="on")


def boot_order(count: int, guest: GuestSystem | None, firmware: Firmware) -> tuple[int, ...]:
    """The disks that firmware is to show a boot loader, the one with the loader first.

    It shows no others, and what is loaded may be on any of them. Of more than a BIOS has room for, those that
    the loader needs come first; the rest stay in their own order, by which old loaders number them.
    """
    first = guest.boot_disk if guest else 0
    needed = {first, *(guest.loader_disks if guest else ())}
    if firmware is Firmware.BIOS:
        others = [index for index in range(count) if index not in needed]
        shown = {*needed, *others[: max(BIOS_DISKS_SURELY - len(needed), 0)]}
    else:
        shown = set(range(count))
    order = (first, *sorted(shown - {first}))
    return order[:BIOS_DISKS] if firmware is Firmware.BIOS else order


def _devices(devices: ET.Element, spec: DomainSpec) -> None:
    order = boot_order(len(spec.disks), spec.guest, spec.machine.firmware)
    places = {index: place for place, index in enumerate(order, start=1)}
    for index, disk in enumerate(spec.disks):
        bus, is_trial = spec.hardware.disk_bus, spec.trial is not None
        _disk(devices, disk, index, bus, place=places.get(index), throw_away=is_trial)
    if spec.hardware.disk_bus is DiskBus.SCSI:
        ET.SubElement(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    pairs = list(zip(spec.machine.nics, spec.nic_sources, strict=True))
    wanted = spec.guest.nic_order if spec.guest else ()
    if {nic.mac.lower() for nic, _ in pairs} == set(wanted):
        pairs.sort(key=lambda pair: wanted.index(pair[0].mac.lower()))
    for nic, source in pairs:
        _interface(devices, nic, source, spec.hardware)
    if spec.trial:
        _trial_console(devices, spec.trial, by_virtio=spec.hardware.disk_bus.needs_virtio)
    else:
        _console(devices)
    video = ET.SubElement(devices, "video")
    ET.SubElement(video, "model", type="vga")
    ET.SubElement(devices, "memballoon", model="virtio")
    if spec.tpm:
        tpm = ET.SubElement(devices, "tpm", model="tpm-crb")
        ET.SubElement(tpm, "backend", type="emulator", version="2.0")
    if _remaps_interrupts(spec):
        iommu = ET.SubElement(devices, "iommu", model="intel")
        ET.SubElement(iommu, "driver", intremap="on", eim="on")
    rng = ET.SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", "/dev/urandom", model="random")


def _disk(
    devices: ET.Element,
    disk: DomainDisk,
    index: int,
    bus: DiskBus,
    *,
    place: int | None,
    throw_away: bool,
) -> None:
    element = ET.SubElement(devices, "disk", type="file", device="disk")
    driver = {"name": "qemu", "type": disk.format, "discard": "unmap"}
    if throw_away:
        driver["cache"] = "unsafe"
    ET.SubElement(element, "driver", driver)
    ET.SubElement(element, "source", file=disk.path)
    parent = element
    for image in disk.backing:
        socket = nbd_socket(image.address)
        parent = ET.SubElement(parent, "backingStore", type="network" if socket else "file")
        ET.SubElement(parent, "format", type=image.format)
        if socket:
            source = ET.SubElement(parent, "source", protocol="nbd")
            ET.SubElement(source, "host", transport="unix", socket=socket)
        else:
            ET.SubElement(parent, "source", file=image.address)
    ET.SubElement(parent, "backingStore")
    ET.SubElement(element, "target", dev=disk_device(index, bus), bus=bus)
    if bus is DiskBus.SCSI:
        # All on the one controller: libvirt would put the eighth on another, of a model of its own.
        ET.SubElement(element, "address", type="drive", controller="0", bus="0", target="0", unit=str(index))
    if place is not None:
        ET.SubElement(element, "boot", order=str(place))


def disk_device(index: int, bus: DiskBus = DiskBus.VIRTIO) -> str:
    """The device name of the disk with the given index, from 0: vda ... vdz, vdaa ..., or sda ..."""
    letters = ""
    number = index + 1
    while number:
        number, digit = divmod(number - 1, 26)
        letters = chr(ord("a") + digit) + letters
    return bus.prefix + letters


def _interface(devices: ET.Element, nic: MachineNic, source: NicSource, hardware: Hardware) -> None:
    if isinstance(source, DeadEnd):
        element = ET.SubElement(devices, "interface", type="udp")
        ET.SubElement(element, "mac", address=nic.mac.lower())
        sink = ET.SubElement(element, "source", address=source.sink_address, port=str(source.sink_port))
        ET.SubElement(sink, "local", address=source.local_address, port=str(source.local_port))
    elif isinstance(source, HostBridge):
        element = ET.SubElement(devices, "interface", type="bridge")
        ET.SubElement(element, "mac", address=nic.mac.lower())
        ET.SubElement(element, "source", bridge=source.device)
    else:
        element = ET.SubElement(devices, "interface", type="network")
        ET.SubElement(element, "mac", address=nic.mac.lower())
        ET.SubElement(element, "source", network=source.name)
    ET.SubElement(element, "model", type=hardware.nic_model)
    if not nic.connected and not isinstance(source, DeadEnd):
        ET.SubElement(element, "link", state="down")


def _console(devices: ET.Element) -> None:
    serial = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(serial, "target", type="isa-serial", port="0")
    console = ET.SubElement(devices, "console", type="pty")
    ET.SubElement(console, "target", type="serial", port="0")
    channel = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(channel, "target", type="virtio", name=AGENT_CHANNEL)
    graphics = ET.SubElement(devices, "graphics", type="vnc", port="-1", autoport="yes", listen="127.0.0.1")
    ET.SubElement(graphics, "listen", type="address", address="127.0.0.1")


def _trial_console(devices: ET.Element, trial: TrialConsole, *, by_virtio: bool) -> None:
    serial = ET.SubElement(devices, "serial", type="pty" if trial.can_be_typed_at else "file")
    if trial.can_be_typed_at:
        ET.SubElement(serial, "log", file=trial.serial_file, append="off")
    else:
        ET.SubElement(serial, "source", path=trial.serial_file)
    ET.SubElement(serial, "target", type="isa-serial", port="0")
    if not by_virtio:
        second = ET.SubElement(devices, "serial", type="file")
        ET.SubElement(second, "source", path=trial.report_file)
        ET.SubElement(second, "target", type="isa-serial", port="1")
        return
    if trial.asks_agent:
        # Not a socket: libvirt would take that for itself, as the agent's one client.
        channel = ET.SubElement(devices, "channel", type="pty")
        ET.SubElement(channel, "target", type="virtio", name=AGENT_CHANNEL)
        return
    channel = ET.SubElement(devices, "channel", type="file")
    ET.SubElement(channel, "source", path=trial.report_file)
    ET.SubElement(channel, "target", type="virtio", name=trial.report_channel)


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = _clean(text)
    return element


def _clean(text: str) -> str:
    return _NOT_XML.sub("", text)
