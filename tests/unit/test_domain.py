"""The domain XML: golden files, and what they cannot show."""

import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hyperctl.activities.target.domain import (
    METADATA_NAMESPACE,
    BackingImage,
    DomainDisk,
    DomainSpec,
    Provenance,
    TrialConsole,
    disk_device,
    domain_name,
    domain_uuid,
    domain_xml,
    runs_on_q35,
    source_uuid,
)
from hyperctl.activities.target.firmware import FirmwareFiles
from hyperctl.activities.target.network import (
    DeadEnd,
    HostBridge,
    LibvirtNetwork,
    libvirt_networks,
    map_network,
    sources_of,
)
from hyperctl.workflows.hardware import DiskBus, Hardware, NicModel
from hyperctl.workflows.machine import Firmware
from tests.unit.machines import GIB, guest, machine, nic

PLAIN = DomainSpec(
    name="web-server-01",
    uuid=uuid.UUID("42130b6c-1d6f-4c3a-9f3e-0a1b2c3d4e5f"),
    machine=machine(annotation="The shop's front.\nOwner: web team"),
    guest=guest(),
    disks=(DomainDisk("/var/lib/hyper2kvm/output/2026-01-17/web-server-01/disk1.raw", "raw"),),
    nic_sources=(LibvirtNetwork("default"),),
    domain_type="kvm",
    provenance=Provenance("job-0123456789", datetime(2026, 1, 17, 12, 30, tzinfo=UTC)),
)
SECURE = replace(
    PLAIN,
    name="db-01",
    machine=machine(
        name="db-01",
        firmware=Firmware.EFI,
        secure_boot=True,
        memory_bytes=16 * GIB,
        vcpus=8,
        cores_per_socket=4,
        nics=(nic(1), nic(2, network="Storage"), nic(3, connected=False)),
    ),
    disks=(DomainDisk("/srv/db-01/disk1.raw", "raw"), DomainDisk("/srv/db-01/disk2.qcow2", "qcow2")),
    nic_sources=(LibvirtNetwork("default"), HostBridge("br0"), LibvirtNetwork("lab")),
    domain_type="qemu",
    firmware=FirmwareFiles(
        "/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd", secure_boot=True
    ),
)
OLD = replace(PLAIN, name="old-01", guest=guest("centos", 6), domain_type="qemu")
UEFI = replace(
    PLAIN,
    name="uefi-01",
    machine=machine(name="uefi-01", firmware=Firmware.EFI),
    domain_type="qemu",
    firmware=FirmwareFiles("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
)
HOSTILE = replace(
    PLAIN,
    name='a <b> & "c"',
    machine=machine(name='a <b> & "c"', annotation="</description><devices/>\x00\x1b ☃ ]]>"),
    guest=None,
    domain_type="qemu",
)
CONSOLE = TrialConsole(
    serial_file="/srv/.jobs/j/proof/serial.log",
    report_file="/srv/.jobs/j/proof/report.txt",
    report_channel="org.hyperctl.proof.0",
    qemu_label="+64055:+64055",
)
TRIAL = replace(
    PLAIN,
    name="hyperctl-proof-job-0123456789",
    domain_type="qemu",
    disks=(
        DomainDisk(
            "/srv/.jobs/j/proof/disk1.qcow2",
            "qcow2",
            (
                BackingImage("/srv/.jobs/j/disk1.overlay.qcow2", "qcow2"),
                BackingImage("/srv/.jobs/j/disk1.raw", "raw"),
            ),
        ),
    ),
    nic_sources=(DeadEnd("127.1.2.3", 40001, "127.1.2.3", 40002),),
    memory_bytes=512 << 20,
    vcpus=1,
    trial=CONSOLE,
)
WITHOUT_VIRTIO = replace(
    PLAIN,
    name="centos-5",
    guest=guest("centos", 5),
    domain_type="qemu",
    disks=(DomainDisk("/srv/a/disk1.raw", "raw"), DomainDisk("/srv/a/disk2.raw", "raw")),
    hardware=Hardware(disk_bus=DiskBus.SATA, nic_model=NicModel.E1000),
)
SCSI = replace(
    PLAIN,
    name="many-disks",
    domain_type="qemu",
    disks=tuple(DomainDisk(f"/srv/a/disk{number}.raw", "raw") for number in range(1, 10)),
    hardware=Hardware(disk_bus=DiskBus.SCSI, nic_model=NicModel.E1000E),
)
WINDOWS = replace(
    SECURE,
    name="win01",
    machine=machine(name="win01", firmware=Firmware.EFI, secure_boot=True, tpm=True, vcpus=4),
    guest=guest("windows", 10),
    disks=(DomainDisk("/srv/win01/disk1.raw", "raw"),),
    nic_sources=(LibvirtNetwork("default"),),
    domain_type="kvm",
    tpm=True,
)
OLD_WINDOWS = replace(
    PLAIN,
    name="win2003",
    guest=guest("windows", 5),
    domain_type="qemu",
    hardware=Hardware(disk_bus=DiskBus.VIRTIO, nic_model=NicModel.E1000),
)
TRIAL_WITHOUT_VIRTIO = replace(TRIAL, hardware=WITHOUT_VIRTIO.hardware)
REHEARSAL = replace(
    TRIAL,
    disks=(
        DomainDisk(
            "/srv/.jobs/j/proof/disk1.qcow2",
            "qcow2",
            (
                BackingImage("/srv/.jobs/j/disk1.overlay.qcow2", "qcow2"),
                BackingImage("nbd+unix:///?socket=/srv/.jobs/j/disk1.socket", "raw"),
            ),
        ),
    ),
)
LARGE = replace(
    PLAIN,
    name=domain_name("\N{GRINNING FACE}" * 80),
    machine=machine(vcpus=256, cores_per_socket=64, nics=tuple(nic(number) for number in range(1, 13))),
    domain_type="qemu",
    disks=tuple(DomainDisk(f"/srv/a/disk{number}.raw", "raw") for number in range(1, 21)),
    nic_sources=(LibvirtNetwork("default"),) * 12,
)
GOLDEN = {
    "large.xml": LARGE,
    "sata-e1000.xml": WITHOUT_VIRTIO,
    "scsi-e1000e.xml": SCSI,
    "trial-sata.xml": TRIAL_WITHOUT_VIRTIO,
    "bios.xml": PLAIN,
    "uefi.xml": UEFI,
    "uefi-secure-boot.xml": SECURE,
    "i440fx.xml": OLD,
    "special-characters.xml": HOSTILE,
    "windows.xml": WINDOWS,
    "windows-i440fx.xml": OLD_WINDOWS,
    "trial.xml": TRIAL,
    "trial-agent.xml": replace(TRIAL, trial=replace(CONSOLE, asks_agent=True)),
    "trial-typed-at.xml": replace(TRIAL, trial=replace(CONSOLE, can_be_typed_at=True)),
    "trial-of-a-remote-disk.xml": REHEARSAL,
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    golden(name, domain_xml(GOLDEN[name]))


def test_the_metadata_names_the_job() -> None:
    migration = ET.fromstring(domain_xml(PLAIN)).find(f"metadata/{{{METADATA_NAMESPACE}}}migration")
    assert migration is not None
    assert migration.get("job") == "job-0123456789"


def test_text_from_the_source_cannot_leave_its_element() -> None:
    domain = ET.fromstring(domain_xml(HOSTILE))
    assert domain.findtext("name") == 'a <b> & "c"'
    assert domain.findtext("description") == "</description><devices/> ☃ ]]>"
    assert len(domain.findall("devices")) == 1


def test_a_trial_has_no_way_in_or_out() -> None:
    domain = ET.fromstring(domain_xml(TRIAL))
    assert [interface.get("type") for interface in domain.iterfind("devices/interface")] == ["udp"]
    assert domain.find("devices/graphics") is None
    label = domain.find("seclabel")
    assert label is not None
    assert label.get("relabel") == "no", "libvirt would make qemu the owner of the verified images"


def test_a_trial_of_a_nic_that_was_disconnected_has_its_link_up() -> None:
    unplugged = replace(TRIAL, machine=machine(nics=(nic(connected=False),)))
    assert ET.fromstring(domain_xml(unplugged)).find("devices/interface/link") is None


def test_cores_that_do_not_divide_the_processors_become_sockets() -> None:
    odd = replace(PLAIN, machine=machine(vcpus=3, cores_per_socket=2))
    topology = ET.fromstring(domain_xml(odd)).find("cpu/topology")
    assert topology is not None
    assert (topology.get("sockets"), topology.get("cores")) == ("3", "1")


@pytest.mark.parametrize(
    ("distribution", "version", "q35"),
    [("debian", 8, False), ("debian", 9, True), ("ubuntu", 14, False), ("ubuntu", 22, True),
     ("centos", 6, False), ("rhel", 7, True), ("arch", 0, True),
     ("debian", 0, True)],
)  # fmt: skip
def test_old_guests_get_the_old_machine_type(distribution: str, version: int, q35: bool) -> None:
    assert runs_on_q35(machine(), guest(distribution, version)) is q35
    assert runs_on_q35(machine(firmware=Firmware.EFI, secure_boot=True), guest(distribution, version))


@pytest.mark.parametrize(("index", "name"), [(0, "vda"), (25, "vdz"), (26, "vdaa"), (701, "vdzz")])
def test_disk_devices(index: int, name: str) -> None:
    assert disk_device(index) == name


def test_a_spec_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="NIC"):
        domain_xml(replace(PLAIN, nic_sources=()))
    with pytest.raises(ValueError, match="disks"):
        domain_xml(replace(PLAIN, disks=()))


def test_names_and_identities() -> None:
    assert domain_name("shop/front\n") == "shop_front_"
    assert domain_name(" / ") == "_"
    assert [domain_name(name) for name in ("", ".", "..", "a.b", "a\ufffe")] == ["_", "_", "__", "a.b", "a"]
    assert len(domain_name("\N{GRINNING FACE}" * 80).encode()) == 200
    assert domain_uuid("job-1") == domain_uuid("job-1") != domain_uuid("job-2")
    assert domain_uuid("job-1") != domain_uuid("job-1", "proof")
    assert source_uuid(machine()) == PLAIN.uuid
    assert source_uuid(machine(uuid="")) is None


def test_networks_are_mapped_and_others_go_to_default() -> None:
    mapping = {"Storage": "bridge:br0", "Lab": "lab"}
    assert map_network("Storage", mapping) == HostBridge("br0")
    assert map_network("Lab", mapping) == LibvirtNetwork("lab")
    assert map_network("VM Network", mapping) == LibvirtNetwork("default")
    several = machine(nics=(nic(1, network="Lab"), nic(2), nic(3), nic(4, network="Storage")))
    assert libvirt_networks(sources_of(several, mapping)) == ("lab", "default")


def test_firmware_begins_with_the_disk_that_has_the_loader() -> None:
    spec = replace(SECURE, guest=guest().model_copy(update={"boot_disk": 1}))
    disks = ET.fromstring(domain_xml(spec)).findall("devices/disk")
    orders = [boot.get("order") for disk in disks if (boot := disk.find("boot")) is not None]
    assert orders == ["2", "1"], "firmware shows the others to the loader, too"


@pytest.mark.parametrize(
    ("firmware", "boot_disk", "loader_disks", "order"),
    [
        (Firmware.BIOS, 0, (), (0, 1, 2, 3, 4, 5, 6, 7)),
        (Firmware.BIOS, 11, (), (11, 0, 1, 2, 3, 4, 5, 6)),
        (Firmware.BIOS, 0, (9,), (0, 1, 2, 3, 4, 5, 6, 9)),
        (Firmware.BIOS, 0, tuple(range(3, 15)), (0, *range(3, 15))),
        (Firmware.BIOS, 19, tuple(range(20)), (19, *range(15))),
        (Firmware.EFI, 11, (), (11, *range(11), *range(12, 20))),
    ],
)
def test_firmware_shows_the_disks_that_a_boot_needs(
    firmware: Firmware, boot_disk: int, loader_disks: tuple[int, ...], order: tuple[int, ...]
) -> None:
    """SeaBIOS has room for some, and shows the first of its order; OVMF shows all."""
    booted = guest().model_copy(update={"boot_disk": boot_disk, "loader_disks": loader_disks})
    spec = PLAIN if firmware is Firmware.BIOS else SECURE
    disks = ET.fromstring(domain_xml(replace(spec, disks=spec.disks[:1] * 20, guest=booted)))
    places = [disk.find("boot") for disk in disks.findall("devices/disk")]
    found = {int(place.get("order", "")): index for index, place in enumerate(places) if place is not None}
    assert tuple(found[place] for place in sorted(found)) == order
    assert min(found) == 1


def test_nics_are_in_the_order_that_the_guests_names_for_them_need() -> None:
    two = machine(nics=(nic(1), nic(2, network="Storage")))
    wanted = tuple(one.mac.lower() for one in reversed(two.nics))
    sources = (LibvirtNetwork("one"), LibvirtNetwork("two"))
    ordered = guest().model_copy(update={"nic_order": wanted})
    xml = ET.fromstring(domain_xml(replace(PLAIN, machine=two, nic_sources=sources, guest=ordered)))
    found = [
        (one.find("mac").get("address"), one.find("source").get("network"))  # type: ignore[union-attr]
        for one in xml.iter("interface")
    ]
    assert found == [(wanted[0], "two"), (wanted[1], "one")]
