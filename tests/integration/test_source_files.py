"""Real image files of every format, packages made of them, and what qemu shows of what was found good."""

import hashlib
import json
import os
import random
import socket
import struct
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.vmdk import StreamVmdk
from hyperctl.activities.nbd.command import qemu_nbd
from hyperctl.activities.nbd.server import Place
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.source.file_machine import FileKind, read_file_machine
from hyperctl.activities.source.images import ImageFile, ImageFormat, probe_image
from hyperctl.activities.source.ovf import read_ovf
from hyperctl.activities.source.structure import check_structure, read_beginning
from hyperctl.activities.vsphere.inventory import find_machine
from hyperctl.activities.vsphere.session import open_session
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import Firmware
from hyperctl.workflows.request import FirmwareChoice
from tests.moments import until
from tests.simulator import VCenterSimulator
from tests.unit.archives import envelope, manifest, tar
from tests.unit.qemu_vmdk import as_qemu_reads
from tests.unit.vmdk_streams import vmware_stream

MIB = 1 << 20
SIZE = 5 * MIB + 7 * 512
VMDK_LAYOUTS = (
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
)
FORMATS: dict[str, tuple[ImageFormat, tuple[str, ...]]] = {
    "raw": (ImageFormat.RAW, ("raw",)),
    "qcow2-v2": (ImageFormat.QCOW2, ("qcow2", "-o", "compat=0.10")),
    "qcow2-v3": (ImageFormat.QCOW2, ("qcow2",)),
    "qcow2-compressed": (ImageFormat.QCOW2, ("qcow2", "-c")),
    "qcow2-zstd-extended": (
        ImageFormat.QCOW2,
        ("qcow2", "-c", "-o", "compression_type=zstd,extended_l2=on,cluster_size=64k"),
    ),
    "vhd-dynamic": (ImageFormat.VHD, ("vpc", "-o", "force_size=on")),
    "vhd-fixed": (ImageFormat.VHD, ("vpc", "-o", "subformat=fixed,force_size=on")),
    "vhdx": (ImageFormat.VHDX, ("vhdx",)),
    "vdi": (ImageFormat.VDI, ("vdi",)),
    **{layout: (ImageFormat.VMDK, ("vmdk", "-o", f"subformat={layout}")) for layout in VMDK_LAYOUTS},
}


def content(size: int = SIZE, seed: int = 1) -> bytes:
    """Some of it zero, some not, to the last byte."""
    random_ = random.Random(seed)
    data = bytearray(size)
    for at in range(0, size, MIB):
        data[at : at + 70_000] = random_.randbytes(70_000)
    data[-512:] = b"end!" * 128
    return bytes(data[:size])


def make(folder: Path, name: str, data: bytes, options: tuple[str, ...]) -> Path:
    raw, image = folder / "content.bin", folder / name
    raw.write_bytes(data)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", *options, raw, image], check=True)
    raw.unlink()
    return image


def through_qemu(image: ImageFile, folder: Path) -> bytes:
    out = folder / "read.bin"
    subprocess.run(["qemu-img", "convert", "-O", "raw", image.qemu_name, out], check=True)
    return out.read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_known_by_its_content(name: str, tmp_path: Path, running: Attempt) -> None:
    expected, options = FORMATS[name]
    data = content()
    image = probe_image(make(tmp_path, "disk.bin", data, options))
    assert image.format is expected
    assert image.virtual_size_bytes in (SIZE, SIZE + -SIZE % MIB)  # VHDX has whole MiB
    assert 0 < image.allocated_bytes <= image.virtual_size_bytes
    assert through_qemu(image, tmp_path).rstrip(b"\0") == data
    assert read_beginning(image, running) == data[: 64 << 10]
    check_structure(image, running)
    image.check_unchanged()


@pytest.mark.parametrize("padding", [0, 512, 70_000])
def test_a_stream_of_vmware_can_be_read_both_ways(padding: int, tmp_path: Path) -> None:
    """qemu looks for the footer at a fixed place before the end, where padding would be."""
    path = tmp_path / "disk.vmdk"
    path.write_bytes(vmware_stream(content()) + bytes(padding))
    image = probe_image(path)
    assert image.is_stream
    assert through_qemu(image, tmp_path) == content()
    result = bytearray(SIZE)
    with path.open("rb") as file:
        for grain in StreamVmdk(file.read).grains():
            result[grain.offset_bytes : grain.offset_bytes + grain.length_bytes] = grain.content()
    assert result == content()


@pytest.mark.parametrize("cut", [1, 512, 1024, 2000, 70_000, 300_000])
def test_a_stream_of_vmware_that_was_cut_off(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    path.write_bytes(vmware_stream(content())[:-cut])
    refused(path, ErrorCode.SOURCE_INVALID, "footer")


def test_an_export_over_nbd(tmp_path: Path) -> None:
    image = probe_image(
        make(tmp_path, "disk,a=b.vmdk", content(), ("vmdk", "-o", "subformat=monolithicFlat"))
    )
    address = tmp_path / "nbd"
    process = subprocess.Popen(qemu_nbd(Place(address, tmp_path / "pid"), image.qemu_name))
    try:
        until(lambda: answers(address))
        told = subprocess.run(
            ["qemu-img", "info", "--output=json", "-f", "raw", f"nbd+unix:///?socket={address}"],
            check=True, capture_output=True,
        )  # fmt: skip
        assert json.loads(told.stdout)["virtual-size"] == SIZE
    finally:
        process.terminate()
        process.wait(10)


def answers(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(address)) == 0


def refused(
    path: Path, code: ErrorCode, words: str, stated_format: ImageFormat | None = None
) -> HyperctlError:
    with pytest.raises(HyperctlError) as caught:
        probe_image(path, stated_format=stated_format)
    assert any(f.code is code and words in f.message for f in caught.value.failures), caught.value.failures
    return caught.value


def test_what_is_no_file_to_read(tmp_path: Path) -> None:
    good = make(tmp_path, "good.qcow2", content(), ("qcow2",))
    link, fifo, empty = tmp_path / "link", tmp_path / "fifo", tmp_path / "empty"
    link.symlink_to(good)
    os.mkfifo(fifo)
    empty.touch()
    refused(link, ErrorCode.SOURCE_UNSAFE, "symbolic link")
    refused(fifo, ErrorCode.SOURCE_UNSAFE, "FIFO")
    refused(Path("/dev/null"), ErrorCode.SOURCE_UNSAFE, "character device")
    refused(tmp_path, ErrorCode.SOURCE_UNSAFE, "a folder")
    refused(empty, ErrorCode.SOURCE_INVALID, "empty")
    refused(tmp_path / "none", ErrorCode.SOURCE_NOT_FOUND, "does not exist")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        refused(tmp_path / "s", ErrorCode.SOURCE_UNSAFE, "socket")


def test_a_storage_that_fails_is_named(tmp_path: Path) -> None:
    """The kernel refuses to tell the speed of a loopback interface, as a broken disk refuses its bytes."""
    refused(Path("/sys/class/net/lo/speed"), ErrorCode.STORAGE_FAILED, "cannot be read at 0")


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    secret = make(tmp_path, "disk.qcow2", content(), ("qcow2",))
    secret.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read every file
    try:
        refused(secret, ErrorCode.PERMISSION_DENIED, "cannot be read")
    finally:
        os.seteuid(user)


def test_a_qcow2_that_names_another_file(tmp_path: Path) -> None:
    base = make(tmp_path, "base.raw", content(), ("raw",))
    for name, options in {
        "backing": ("-b", str(base), "-F", "raw"),
        "data": ("-o", f"data_file={tmp_path / 'data'},data_file_raw=on"),
        "encrypted": ("-o", "encrypt.format=aes,encrypt.key-secret=s"),
    }.items():
        image = tmp_path / f"{name}.qcow2"
        secret = ("--object", "secret,id=s,data=not-a-secret") if name == "encrypted" else ()
        subprocess.run(
            ["qemu-img", "create", "-q", *secret, "-f", "qcow2", *options, image, "5M"], check=True
        )
    refused(tmp_path / "backing.qcow2", ErrorCode.SOURCE_UNSAFE, "backing file")
    refused(tmp_path / "data.qcow2", ErrorCode.SOURCE_UNSAFE, "external data file")
    refused(tmp_path / "encrypted.qcow2", ErrorCode.VM_UNSUPPORTED, "encrypted")


@pytest.mark.parametrize(
    ("at", "value", "code", "words"),
    [
        (4, b"\0\0\0\x09", ErrorCode.VM_UNSUPPORTED, "version 9"),
        (20, b"\0\0\0\x40", ErrorCode.SOURCE_INVALID, "clusters"),
        (24, b"\xff" * 8, ErrorCode.SOURCE_INVALID, "virtual size"),
        (32, b"\0\0\0\x02", ErrorCode.VM_UNSUPPORTED, "encrypted"),  # LUKS
        (36, b"\0\0\0\0", ErrorCode.SOURCE_INVALID, "L1 table"),
        (40, b"\0\0\0\x0f\0\0\0\0", ErrorCode.SOURCE_INVALID, "L1 table"),
        (48, b"\0\0\0\x0f\0\0\0\0", ErrorCode.SOURCE_INVALID, "refcount"),
        (79, b"\x02", ErrorCode.SOURCE_INVALID, "corrupt"),
        (79, b"\x80", ErrorCode.VM_UNSUPPORTED, "0x80"),
        (100, b"\xff" * 4, ErrorCode.SOURCE_INVALID, "header"),
    ],
)
def test_a_qcow2_header_that_lies(tmp_path: Path, at: int, value: bytes, code: ErrorCode, words: str) -> None:
    image = make(tmp_path, "disk.qcow2", content(), ("qcow2",))
    with image.open("r+b") as file:
        file.seek(at)
        file.write(value)
    refused(image, code, words)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "raw"])
def test_a_file_that_was_cut_off_is_found_out(name: str, tmp_path: Path, running: Attempt) -> None:
    """qemu reads zeroes where a table points beyond the file's end."""
    image = make(tmp_path, "disk.bin", content(), FORMATS[name][1])
    extents = [path for path in tmp_path.iterdir() if path != image]
    cut = extents[0] if extents else image
    # A VHDX is padded to whole MiB behind the disk's end, and may lose that.
    os.truncate(cut, cut.stat().st_size - (6 * MIB if name == "vhdx" else 66_000))
    with pytest.raises(HyperctlError) as caught:
        check_structure(probe_image(image), running)
    assert caught.value.code is ErrorCode.SOURCE_INVALID
    assert str(cut) in str(caught.value)


@pytest.mark.parametrize("layout", ["monolithicFlat", "twoGbMaxExtentSparse"])
def test_an_extent_that_is_something_else(layout: str, tmp_path: Path) -> None:
    image = make(tmp_path, "disk.vmdk", content(), ("vmdk", "-o", f"subformat={layout}"))
    (extent,) = (path for path in tmp_path.iterdir() if path != image)
    kept = extent.read_bytes()
    refused_extent = "symbolic link"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(kept)
    extent.unlink()
    refused(image, ErrorCode.SOURCE_NOT_FOUND, extent.name)
    extent.symlink_to(elsewhere)
    refused(image, ErrorCode.SOURCE_UNSAFE, refused_extent)
    extent.unlink()
    os.mkfifo(extent)
    refused(image, ErrorCode.SOURCE_UNSAFE, "FIFO")


@pytest.mark.parametrize(
    "extents",
    [
        "#\nRW 100 FLAT {a} 0",
        "#\nRW 100 FLAT {a} 0\nRW  50  FLAT {b} 8 ",
        "\n\nRW 100 FLAT {a} 0",
        "#\nRW\n100\nFLAT\n{a}\n0",
        "#\nRDONLY 100 FLAT {a} 0\nRW 50 FLAT {b} 0",
        "#\nRW 100 FLAT {a} 0\nRW 50 ZERO",
    ],
)
def test_qemu_reads_descriptors_as_the_tests_believe(extents: str, tmp_path: Path) -> None:
    """Why a descriptor is read strictly; should qemu read differently one day, this fails."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(200 * 512))
    head = '# Disk DescriptorFile\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
    text = head + extents.format(a='"a"', b='"b"') + "\n# End\n"
    path = tmp_path / "disk.vmdk"
    path.write_text(text)
    told = subprocess.run(
        ["qemu-img", "info", "--output=json", "-f", "vmdk", path], check=True, capture_output=True
    )
    believed = sum(sectors for sectors, _ in as_qemu_reads(text)) * 512
    assert json.loads(told.stdout)["virtual-size"] == believed
    try:
        image = probe_image(path)
    except HyperctlError:
        return
    assert image.virtual_size_bytes == believed


def test_an_extent_alone_is_no_disk(tmp_path: Path) -> None:
    for layout, words in {"twoGbMaxExtentSparse": "one extent of a disk", "monolithicFlat": "-flat"}.items():
        image = make(tmp_path, f"{layout}.vmdk", content(), ("vmdk", "-o", f"subformat={layout}"))
        (extent,) = (p for p in tmp_path.iterdir() if p.name.startswith(layout) and p != image)
        refused(extent, ErrorCode.SOURCE_INVALID, words)
    assert probe_image(extent, stated_format=ImageFormat.RAW).virtual_size_bytes == SIZE


def test_a_sparse_vmdk_with_a_parent(tmp_path: Path) -> None:
    base = make(tmp_path, "base.vmdk", content(), ("vmdk",))
    child = tmp_path / "child.vmdk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", "-b", base, "-F", "vmdk", child], check=True)
    refused(child, ErrorCode.SOURCE_UNSAFE, "parent disk")


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (12, struct.pack("<Q", 0), "capacity of 0"),
        (12, struct.pack("<Q", 1 << 60), "capacity"),
        (20, struct.pack("<Q", 100), "grains of 100"),
        (44, struct.pack("<I", 1 << 30), "grain tables of"),
        (56, struct.pack("<Q", 1 << 40), "grain directory lies outside"),
        (36, struct.pack("<Q", 1 << 40), "descriptor lies outside"),
        (64, struct.pack("<Q", 1 << 40), "before its first grain"),
    ],
)
def test_a_sparse_header_that_lies(tmp_path: Path, at: int, value: bytes, words: str) -> None:
    image = make(tmp_path, "disk.vmdk", content(), ("vmdk",))
    with image.open("r+b") as file:
        file.seek(at)
        file.write(value)
    refused(image, ErrorCode.SOURCE_INVALID, words)


def test_what_is_no_disk_image(tmp_path: Path) -> None:
    for name, data, words in (
        ("a.raw", b"\x1f\x8b" + bytes(510), "gzip"),
        ("b.img", b"PK\x03\x04" + bytes(508), "zip"),
        ("c.img", b"COWD" + bytes(508), "snapshot"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        refused(path, ErrorCode.VM_UNSUPPORTED, words)
        assert probe_image(path, stated_format=ImageFormat.RAW).format is ImageFormat.RAW
    odd = tmp_path / "odd.raw"
    odd.write_bytes(bytes(1000))
    refused(odd, ErrorCode.SOURCE_INVALID, "no whole sectors")
    tiny = tmp_path / "tiny.raw"
    tiny.write_bytes(b"x")
    refused(tiny, ErrorCode.SOURCE_INVALID, "no whole sectors")
    refused(
        tmp_path / "a.raw",
        ErrorCode.SOURCE_INVALID,
        "no image of the format qcow2",
        stated_format=ImageFormat.QCOW2,
    )


def test_a_guests_own_bytes_are_no_header_where_a_person_says_so(tmp_path: Path) -> None:
    """A guest may write anything to the first sector of its raw disk, a qcow2 header too."""
    hostile = make(tmp_path, "hostile.raw", content(), ("raw",))
    header = make(tmp_path, "x.qcow2", content(), ("qcow2",)).read_bytes()[:512]
    with hostile.open("r+b") as file:
        file.write(header)
    image = probe_image(hostile, stated_format=ImageFormat.RAW)
    assert through_qemu(image, tmp_path) == header + content()[512:]


def test_a_change_is_found(tmp_path: Path) -> None:
    path = make(tmp_path, "disk.vmdk", content(), ("vmdk", "-o", "subformat=monolithicFlat"))
    for part in tmp_path.iterdir():
        os.utime(part, (1, 1))  # file systems' clocks are coarse
    image = probe_image(path)
    extent = image.files[1].path
    with extent.open("r+b") as file:
        file.write(b"x")
    with pytest.raises(HyperctlError, match="was changed"):
        image.check_unchanged()


def test_an_image_in_use_is_not_called_damaged(tmp_path: Path, running: Attempt) -> None:
    path = make(tmp_path, "disk.qcow2", content(), ("qcow2",))
    image = probe_image(path)
    with subprocess.Popen(
        ["qemu-io", "-f", "qcow2", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as user:
        assert user.stdin is not None
        assert user.stdout is not None
        user.stdin.write(b"read 0 512\n")
        user.stdin.flush()
        user.stdout.readline()  # it has the image open
        for look in (read_beginning, check_structure):
            with pytest.raises(HyperctlError, match="another process using the image") as caught:
                look(image, running)
            assert "end that" in caught.value.failure.hint
            assert "damaged" not in str(caught.value)
        user.stdin.close()


def test_what_a_file_system_allocates_late_is_no_change(tmp_path: Path) -> None:
    """ext4 finds a place for the map of its extents at write-back; XFS takes back a reserve."""
    path = make(tmp_path, "disk.raw", content(), ("raw",))
    with path.open("rb") as file:
        image = probe_image(path)
        os.fsync(file.fileno())
    image.check_unchanged()
    image = replace(image, files=(replace(image.files[0], allocated_bytes=0),))
    image.check_unchanged()


OPTIONS_IN_ARCHIVES: dict[str, tuple[str, ...]] = {
    "stream.vmdk": ("vmdk", "-o", "subformat=streamOptimized"),
    "sparse.vmdk": ("vmdk",),
    "disk.qcow2": ("qcow2", "-c"),
    "disk.raw": ("raw",),
}


@pytest.mark.parametrize("packed", [True, False], ids=["ova", "folder"])
@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_a_package(packed: bool, algorithm: str, tmp_path: Path, running: Attempt) -> None:
    build, package = tmp_path / "build", tmp_path / "package"
    build.mkdir()
    package.mkdir()
    contents = {name: content(seed=number) for number, name in enumerate(OPTIONS_IN_ARCHIVES)}
    files = {
        name: vmware_stream(contents[name])
        if name == "stream.vmdk"
        else make(build, name, contents[name], options).read_bytes()
        for name, options in OPTIONS_IN_ARCHIVES.items()
    }
    ovf = envelope({name: len(data) for name, data in files.items()}, SIZE)
    members = {"guest.ovf": ovf, "guest.mf": manifest({"guest.ovf": ovf, **files}, algorithm), **files}
    if packed:
        source = package / "guest.ova"
        source.write_bytes(tar(members))
    else:
        source = package
        for name, data in members.items():
            (package / name).write_bytes(data)
    found = read_file_machine(source, running)
    assert found.kind is (FileKind.OVA if packed else FileKind.OVF)
    assert found.machine.name == "guest"
    assert [disk.file_name for disk in found.machine.disks] == list(OPTIONS_IN_ARCHIVES)
    assert found.machine.capacity_bytes == SIZE * 4
    assert not any("manifest" in remark for remark in found.remarks)
    for disk in found.disks:
        assert disk.image is not None
        assert through_qemu(disk.image, tmp_path) == contents[disk.disk.file_name]
        assert disk.image.is_stream == (disk.disk.file_name == "stream.vmdk")
        (digest,) = disk.digests
        assert digest.digest.hexadecimal == hashlib.new(algorithm, files[disk.disk.file_name]).hexdigest()
        digest.check(lambda _: None)
    found.check_unchanged()
    state = found.state
    _flip(found.disks[0].digests[0].path, found.disks[0].digests[0].offset_bytes + 70_000)
    with pytest.raises(HyperctlError, match="where the manifest says"):
        found.disks[0].digests[0].check(lambda _: None)
    with pytest.raises(HyperctlError, match="was changed"):
        found.check_unchanged()
    assert read_file_machine(source, running).state != state


def _flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_a_package_with_a_flat_disk(tmp_path: Path, running: Attempt) -> None:
    image = make(tmp_path, "disk.vmdk", content(), ("vmdk", "-o", "subformat=monolithicFlat"))
    flat = tmp_path / "disk-flat.vmdk"
    names = {"disk.vmdk": image.read_bytes(), "disk-flat.vmdk": flat.read_bytes()}
    (tmp_path / "guest.ovf").write_bytes(envelope({"disk.vmdk": image.stat().st_size}, SIZE))
    (tmp_path / "guest.mf").write_bytes(manifest(names))
    (disk,) = read_file_machine(tmp_path, running).disks
    assert [digest.path.name for digest in disk.digests] == ["disk.vmdk", "disk-flat.vmdk"]
    (tmp_path / "guest.ova").write_bytes(tar({"guest.ovf": (tmp_path / "guest.ovf").read_bytes(), **names}))
    with pytest.raises(HyperctlError, match=r"'disk-flat\.vmdk' is named nowhere"):
        read_file_machine(tmp_path / "guest.ova", running)


@pytest.mark.parametrize("name", ["a%20b.raw", "a b.raw"])
def test_a_file_whose_name_is_encoded_or_not(name: str, tmp_path: Path, running: Attempt) -> None:
    (tmp_path / name).write_bytes(content())
    ovf = envelope({"a%20b.raw": SIZE}, SIZE)
    (tmp_path / "guest.ovf").write_bytes(ovf)
    (tmp_path / "guest.mf").write_bytes(manifest({"guest.ovf": ovf, name: content()}))
    found = read_file_machine(tmp_path, running)
    (disk,) = found.disks
    assert disk.image is not None
    assert disk.image.path.name == name
    assert len(disk.digests) == 1
    assert not any("manifest" in remark for remark in found.remarks)


def test_every_problem_of_a_package_at_once(tmp_path: Path, running: Attempt) -> None:
    good = make(tmp_path, "cut.qcow2", content(), ("qcow2",))
    short = make(tmp_path, "short.raw", content(MIB), ("raw",))
    sizes = {"cut.qcow2": good.stat().st_size + 1, "short.raw": short.stat().st_size, "none.vmdk": 9}
    (tmp_path / "guest.ovf").write_bytes(envelope(sizes, SIZE))
    (tmp_path / "guest.mf").write_bytes(manifest({"guest.ovf": b"another"}))
    with pytest.raises(HyperctlError) as caught:
        read_file_machine(tmp_path, running)
    messages = [failure.message for failure in caught.value.failures]
    for words in (
        "guest.ovf: it does not have the sha256",
        "cut.qcow2: it has",
        f"short.raw: its disk has {MIB} bytes",
        "none.vmdk does not exist",
    ):
        assert any(words in message for message in messages), (words, messages)


def test_a_folder_must_hold_one_descriptor(tmp_path: Path, running: Attempt) -> None:
    with pytest.raises(HyperctlError, match="0 OVF descriptors"):
        read_file_machine(tmp_path, running)
    (tmp_path / "a.ovf").touch()
    (tmp_path / "b.OVF").touch()
    with pytest.raises(HyperctlError, match=r"2 OVF descriptors \('a.ovf', 'b.OVF'\)"):
        read_file_machine(tmp_path, running)
    with pytest.raises(HyperctlError, match="no absolute path"):
        read_file_machine(Path("guest.ova"), running)
    for name in (b"a\xff.ova", b"a\n.ova"):
        with pytest.raises(HyperctlError, match="in UTF-8"):
            read_file_machine(tmp_path / os.fsdecode(name), running)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(HyperctlError, match="symbolic link"):
        read_file_machine(tmp_path / "link", running)
    with pytest.raises(HyperctlError, match="does not exist on this host"):
        read_file_machine(tmp_path / "none.ova", running)


def _gpt(kind: uuid.UUID, sector: int = 512) -> bytes:
    disk = bytearray(content())
    disk[: sector * 40] = bytes(sector * 40)
    header = struct.pack(
        "<8sIIIIQQQQ16sQII", b"EFI PART", 1 << 16, 92, 0, 0, 1, 9, 34, 99, bytes(16), 2, 128, 128
    )
    disk[sector : sector + len(header)] = header
    disk[2 * sector + 128 : 2 * sector + 144] = kind.bytes_le
    return bytes(disk)


def _mbr(kind: int) -> bytes:
    disk = bytearray(content())
    disk[440:512] = bytes(72)
    disk[466], disk[510:512] = kind, b"\x55\xaa"
    return bytes(disk)


ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")


@pytest.mark.parametrize(
    ("disk", "firmware"),
    [
        (lambda: _gpt(ESP), Firmware.EFI),
        (lambda: _gpt(ESP, 4096), Firmware.EFI),
        (lambda: _gpt(uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")), Firmware.BIOS),
        (lambda: _mbr(0xEF), Firmware.EFI),
        (lambda: _mbr(0x83), Firmware.BIOS),
        (content, Firmware.BIOS),
    ],
    ids=["gpt", "gpt-4k", "gpt-without", "mbr", "mbr-without", "none"],
)
def test_a_disk_alone(
    disk: Callable[[], bytes], firmware: Firmware, tmp_path: Path, running: Attempt
) -> None:
    path = make(tmp_path, "Web Server.vmdk", disk(), ("vmdk", "-o", "subformat=streamOptimized"))
    found = read_file_machine(path, running)
    machine = found.machine
    assert found.kind is FileKind.IMAGE
    assert (machine.name, machine.firmware, machine.vcpus) == ("Web Server", firmware, 2)
    assert machine.disks[0].capacity_bytes == SIZE
    assert uuid.UUID(machine.uuid)
    assert any("EFI system partition" in remark for remark in found.remarks)
    stated = read_file_machine(path, running, firmware=FirmwareChoice.EFI)
    assert stated.machine.firmware is Firmware.EFI


def test_the_simulated_vcenters_descriptor(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt
) -> None:
    """What vSphere says of a machine by its API and what it writes into its OVF are the same machine."""
    with open_session(sim.vcenter(), settings, running) as session:
        source = find_machine(session, "web-server-01", None)
        reference, known = source.reference, source.machine
        manager: Any = vim.OvfManager
        files = [
            manager.OvfFile(
                deviceId=f"/{known.moref}/ParaVirtualSCSIController{disk.controller_bus}:{disk.unit}",
                path=f"disk-{number}.vmdk",
                size=1000 + number,
            )
            for number, disk in enumerate(known.disks)
        ]
        parameters = manager.CreateDescriptorParams(ovfFiles=files)
        told = session.content.ovfManager.CreateDescriptor(reference, parameters)
    ovf = read_ovf(told.ovfDescriptor.encode(), "web-server-01.ovf")
    machine = ovf.machine
    for fact in (
        "name", "guest_id", "guest_full_name", "firmware", "secure_boot",
        "memory_bytes", "vcpus", "hardware_version", "annotation",
    ):  # fmt: skip
        assert getattr(machine, fact) == getattr(known, fact), fact
    assert [
        (disk.capacity_bytes, disk.controller, disk.controller_bus, disk.unit) for disk in machine.disks
    ] == [(disk.capacity_bytes, disk.controller, disk.controller_bus, disk.unit) for disk in known.disks]
    assert [disk.file_name for disk in machine.disks] == ["disk-0.vmdk", "disk-1.vmdk"]
    assert [(nic.network, nic.adapter) for nic in machine.nics] == [
        (nic.network, nic.adapter) for nic in known.nics
    ]
