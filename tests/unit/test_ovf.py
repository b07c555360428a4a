"""OVF descriptors of three exporters, and everything that a bad one may say."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperctl.activities.source.markup import MarkupError, read_markup
from hyperctl.activities.source.names import objection
from hyperctl.activities.source.ovf import read_ovf
from hyperctl.activities.source.units import UnitError, bytes_of
from hyperctl.workflows.errors import ErrorCode, PreflightError
from hyperctl.workflows.machine import Firmware, PowerState

DESCRIPTORS = Path(__file__).parent / "descriptors"
GIB = 1 << 30
MIB = 1 << 20


def descriptor(name: str) -> str:
    return (DESCRIPTORS / f"{name}.ovf").read_text()


def refused(text: str | bytes) -> PreflightError:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(PreflightError) as caught:
        read_ovf(data, "guest.ovf")
    assert all("guest.ovf" in failure.message for failure in caught.value.failures)
    return caught.value


def test_vmwares_descriptor() -> None:
    ovf = read_ovf(descriptor("vmware").encode(), "web-01.ovf")
    machine = ovf.machine
    assert (machine.name, machine.vcpus, machine.cores_per_socket) == ("web-01", 4, 2)
    assert machine.memory_bytes == 4 * GIB
    assert (machine.firmware, machine.secure_boot) == (Firmware.EFI, True)
    assert (machine.guest_id, machine.guest_full_name) == ("debian11_64Guest", "Debian GNU/Linux 11 (64-bit)")
    assert machine.annotation == "Shop & checkout"
    assert machine.hardware_version == "vmx-19"
    assert machine.power_state is PowerState.OFF
    assert [
        (disk.label, disk.file_name, disk.controller, disk.controller_bus, disk.unit)
        for disk in machine.disks
    ] == [("Hard Disk 1", "web-01-1.vmdk", "pvscsi", 0, 0), ("Hard Disk 2", "web-01-2.vmdk", "ahci", 0, 3)]
    assert [disk.capacity_bytes for disk in machine.disks] == [16 * GIB, 100 * GIB]
    assert [disk.allocated_bytes for disk in machine.disks] == [1967521792, 65536]
    (nic,) = machine.nics
    assert (nic.mac, nic.network, nic.adapter) == ("00:50:56:9a:10:2f", "VM Network", "vmxnet3")
    assert (nic.connected, nic.pci_slot) == (True, 192)
    assert [file.name for file in ovf.files] == ["web-01-1.vmdk", "web-01-2.vmdk", "web-01-3.nvram"]
    assert ovf.remarks == ()


def test_virtualboxs_descriptor() -> None:
    machine = read_ovf(descriptor("virtualbox").encode(), "lab.ovf").machine
    assert (machine.name, machine.vcpus, machine.memory_bytes) == ("lab", 2, 2 * GIB)
    assert (machine.firmware, machine.guest_id) == (Firmware.EFI, "ubuntu64Guest")
    assert machine.uuid == "4b1d1f6e-46c7-4c11-93a6-0f4b0b9e7f6d"
    (disk,) = machine.disks
    assert (disk.label, disk.controller, disk.unit, disk.capacity_bytes) == ("disk1", "ahci", 0, 20 * GIB)
    (nic,) = machine.nics
    assert (nic.mac, nic.adapter, nic.network) == ("08:00:27:1f:3d:3a", "e1000", "NAT")


def test_a_descriptor_of_version_2() -> None:
    ovf = read_ovf(descriptor("ovf2").encode(), "db.ovf")
    machine = ovf.machine
    assert (machine.name, machine.vcpus, machine.memory_bytes) == ("db", 8, 16 * GIB)
    assert machine.guest_id == "centos64Guest"
    assert [(disk.controller, disk.unit, disk.file_name) for disk in machine.disks] == [
        ("lsisas", 1, "db root.qcow2"),
        ("nvme", 0, ""),
    ]
    assert [disk.file is None for disk in ovf.disks] == [False, True]
    (nic,) = machine.nics
    assert not nic.connected
    assert re.fullmatch(r"52:54:00(:[0-9a-f]{2}){3}", nic.mac)
    assert read_ovf(descriptor("ovf2").encode(), "db.ovf").machine == machine
    assert len([remark for remark in ovf.remarks if "'large'" in remark]) == 1
    assert any("'scratch' has no file" in remark for remark in ovf.remarks)
    assert any("OVF environment" in remark for remark in ovf.remarks)
    assert any(nic.mac in remark for remark in ovf.remarks)


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ('href="web-01-1.vmdk"', 'href="../../etc/passwd"', ErrorCode.SOURCE_UNSAFE, "out of its folder"),
        ('href="web-01-1.vmdk"', 'href="%2e%2e%2fpasswd"', ErrorCode.SOURCE_UNSAFE, "out of its folder"),
        ('href="web-01-1.vmdk"', 'href="/etc/passwd"', ErrorCode.SOURCE_UNSAFE, "absolute"),
        ('href="web-01-1.vmdk"', 'href="http://example.com/a.vmdk"', ErrorCode.SOURCE_UNSAFE, "address"),
        ('href="web-01-1.vmdk"', 'href="disks/a.vmdk"', ErrorCode.SOURCE_UNSAFE, "plain file name"),
        ('href="web-01-1.vmdk"', 'href=""', ErrorCode.SOURCE_UNSAFE, "empty name"),
        ('href="web-01-2.vmdk"', 'href="web-01-1.vmdk"', ErrorCode.SOURCE_INVALID, "listed twice"),
        ('size="131072"', 'size="131072" ovf:compression="gzip"', ErrorCode.VM_UNSUPPORTED, "gzip"),
        ('size="131072"', 'size="131072" ovf:chunkSize="1000"', ErrorCode.VM_UNSUPPORTED, "chunks"),
        ('ovf:fileRef="file2"', 'ovf:fileRef="file9"', ErrorCode.SOURCE_INVALID, "file9"),
        ('ovf:fileRef="file2"', 'ovf:fileRef="file1"', ErrorCode.SOURCE_INVALID, "another drive holds"),
        ('ovf:fileRef="file2"', 'ovf:fileRef="file2" ovf:parentRef="x"', ErrorCode.VM_UNSUPPORTED, "differs"),
        ('capacity="16"', 'capacity="${size}"', ErrorCode.VM_UNSUPPORTED, "chosen at deployment"),
        ('capacity="16"', 'capacity="-1"', ErrorCode.SOURCE_INVALID, "capacity"),
        ('capacity="16"', 'capacity="0"', ErrorCode.SOURCE_INVALID, "capacity"),
        ('capacity="16"', 'capacity="9999999999999999"', ErrorCode.SOURCE_INVALID, "capacity"),
        ("byte * 2^20", "furlongs", ErrorCode.SOURCE_INVALID, "furlongs"),
        (">4096<", ">many<", ErrorCode.SOURCE_INVALID, "many"),
        (">4<", ">0<", ErrorCode.SOURCE_INVALID, "VirtualQuantity"),
        ("ovf:/disk/vmdisk2", "ovf:/disk/vmdisk9", ErrorCode.SOURCE_INVALID, "vmdisk9"),
        ("ovf:/disk/vmdisk2", "ovf:/disk/vmdisk1", ErrorCode.SOURCE_INVALID, "another drive holds"),
        ("<rasd:Parent>3<", "<rasd:Parent>8<", ErrorCode.SOURCE_INVALID, "no storage controller"),
        ("00:50:56:9a:10:2f", "ff:ff:ff:ff:ff:ff", ErrorCode.SOURCE_INVALID, "MAC"),
        ("ovf/envelope/1", "ovf/envelope/9", ErrorCode.VM_UNSUPPORTED, "namespace"),
        ("VirtualHardwareSection>", "Elsewhere>", ErrorCode.SOURCE_INVALID, "VirtualHardwareSection"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, code: ErrorCode, words: str) -> None:
    text = descriptor("vmware")
    assert old in text
    failures = refused(text.replace(old, new)).failures
    assert any(failure.code is code and words in failure.message for failure in failures), failures


def test_all_problems_come_at_once() -> None:
    text = descriptor("vmware").replace('href="web-01-1.vmdk"', 'href="/dev/sda"')
    text = text.replace(">4096<", "><").replace("ovf:/disk/vmdisk2", "ovf:/disk/x").replace("2^30", "2^x")
    messages = [failure.message for failure in refused(text).failures]
    for words in ("/dev/sda", "VirtualQuantity", "'x', which is not listed", "no unit of bytes"):
        assert any(words in message for message in messages), words


def test_sections_may_be_named_by_their_type() -> None:
    text = descriptor("vmware")
    for section in ("DiskSection", "OperatingSystemSection", "VirtualHardwareSection", "AnnotationSection"):
        text = text.replace(f"<{section}", f'<Section xsi:type="ovf:{section}_Type"')
        text = text.replace(f"</{section}>", "</Section>")
    text = text.replace("<VirtualSystem ", '<Content xsi:type="ovf:VirtualSystem_Type" ')
    text = text.replace("</VirtualSystem>", "</Content>")
    known = read_ovf(descriptor("vmware").encode(), "a").machine
    assert read_ovf(text.encode(), "b").machine.model_copy(update={"uuid": known.uuid}) == known


def test_a_disk_that_no_drive_holds_is_not_judged() -> None:
    """VirtualBox lists the media of CD drives, too, and they have no capacity."""
    medium = '<Disk ovf:diskId="medium" ovf:fileRef="file1" ovf:capacity=""/></DiskSection>'
    ovf = read_ovf(descriptor("vmware").replace("</DiskSection>", medium).encode(), "guest.ovf")
    assert len(ovf.disks) == 2
    assert any("'medium' is in no drive" in remark for remark in ovf.remarks)


def test_an_empty_disk_may_be_in_several_drives() -> None:
    text = descriptor("ovf2")
    start = text.index("        <ovf:StorageItem><sasd:AddressOnParent>0")
    end = text.index("</ovf:StorageItem>", start) + len("</ovf:StorageItem>")
    again = text[:end] + text[start:end] + text[end:]
    assert [disk.file is None for disk in read_ovf(again.encode(), "x").disks] == [False, True, True]


def test_several_machines_are_named() -> None:
    text = descriptor("ovf2").replace(
        "</ovf:VirtualSystem>", '</ovf:VirtualSystem><ovf:VirtualSystem ovf:id="app"/>'
    )
    error = refused(text)
    assert error.code is ErrorCode.VM_UNSUPPORTED
    assert "2 machines: 'db', 'app'" in str(error)


def test_a_machine_without_any_file_is_no_machine() -> None:
    text = re.sub(r' ovf:fileRef="\w+"', "", descriptor("vmware"))
    assert "none of its disks has a file" in str(refused(text))


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE a [<!ENTITY b "c">]><Envelope>&b;</Envelope>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><Envelope/>',
        b'<?xml version="1.0"?><!DOCTYPE a PUBLIC "x" "http://example.com/x.dtd"><Envelope/>',
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a [<!ENTITY b "c">]><E/>'.encode("utf-16"),
    ],
)
def test_no_document_type_is_taken(data: bytes) -> None:
    with pytest.raises(MarkupError, match="DTD"):
        read_markup(data)
    assert refused(data).code is ErrorCode.SOURCE_INVALID


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "well-formed"),
        (b"<a>", "well-formed"),
        (b"<a>&b;</a>", "well-formed"),
        (b"<a>" * 100 + b"</a>" * 100, "deeper"),
        (b"<r>" + b"<a/>" * 100_001 + b"</r>", "more elements"),
        (b"<a>" + b" " * (4 << 20) + b"</a>", "bytes"),
        (b'<?xml version="1.0" encoding="x-none"?><a/>', "encoding|well-formed"),
    ],
)
def test_other_markup_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(MarkupError, match=words):
        read_markup(data)


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("byte", 1),
        ("bytes", 1),
        ("byte * 2^20", MIB),
        ("byte*2^20", MIB),
        ("Byte * 2 ^ 30", GIB),
        ("byte * 10^6", 10**6),
        ("byte * 1024 * 2^10", MIB),
        ("MegaBytes", MIB),
        (" gigabytes ", GIB),
        ("KB", 1024),
    ],
)
def test_units(unit: str, size: int) -> None:
    assert bytes_of(unit) == size


@pytest.mark.parametrize(
    "unit", ["", "bit", "hertz * 10^6", "byte * 2^99", "byte * 0", "byte +1", "byte * 9^9 * 9^99"]
)
def test_what_is_no_unit_of_bytes(unit: str) -> None:
    with pytest.raises(UnitError):
        bytes_of(unit)


@given(st.text())
def test_a_plain_name_stays_in_its_folder(name: str) -> None:
    if objection(name) is None:
        assert Path("/a", name).parent == Path("/a")
        assert Path("/a", name).name == name
        assert not Path(name).is_absolute()


@given(st.binary(max_size=300))
def test_junk_is_refused(junk: bytes) -> None:
    refused(junk)


@given(st.data())
def test_a_damaged_descriptor_is_read_or_refused(data: st.DataObject) -> None:
    text = bytearray(descriptor("vmware").encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        ovf = read_ovf(bytes(text), "guest.ovf")
    except PreflightError:
        return
    assert len(ovf.disks) == len(ovf.machine.disks) > 0
    assert all(objection(file.name) is None for file in ovf.files)
