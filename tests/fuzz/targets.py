"""What is fuzzed: each reader takes any bytes, and what it accepts keeps its promises."""

import io
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from hyperctl.activities.export.vmdk import StreamVmdk, VmdkError
from hyperctl.activities.source.manifest import read_manifest
from hyperctl.activities.source.names import objection
from hyperctl.activities.source.ova import OvaStream, read_ova
from hyperctl.activities.source.ovf import Ovf, read_ovf
from hyperctl.activities.source.ovf_disks import MOST_DISK_BYTES
from hyperctl.activities.source.problems import Problems
from hyperctl.activities.source.qcow2_header import read_qcow2_header
from hyperctl.activities.source.tar import TarTruncated
from hyperctl.activities.source.vhd import read_vdi_header, read_vhd_footer, read_vhdx_header
from hyperctl.activities.source.vmdk_descriptor import read_vmdk_descriptor
from hyperctl.activities.source.vmdk_sparse import read_sparse_extent
from hyperctl.workflows.errors import PreflightError
from tests.unit.qemu_vmdk import as_qemu_reads

BLOCK = 512
T = TypeVar("T")


def fuzz_vmdk(data: bytes) -> None:
    """The stream decoder, and everything that judges the headers of disk images."""
    _stream(data)
    _descriptor(data)

    def read_at(offset: int, size: int) -> bytes:
        assert offset >= 0, "a reader looks in front of the file"
        return data[offset : offset + max(0, size)]

    problems = Problems("x")
    sparse = read_sparse_extent(read_at, len(data), problems)
    assert (sparse is None) == bool(problems), "refused without a reason, or accepted with one"
    if sparse is not None:
        assert 0 < sparse.size_bytes <= len(data)
        assert sparse.capacity_bytes > 0
        _descriptor(sparse.descriptor)
    problems = Problems("x")
    assert (read_qcow2_header(read_at, len(data), problems) is None) == bool(problems)
    if len(data) > BLOCK:
        for read in (read_vdi_header, read_vhd_footer, read_vhdx_header):
            problems = Problems("x")
            size = read(read_at, len(data), problems)
            assert (size is None) == bool(problems)
            assert size is None or 0 < size <= MOST_DISK_BYTES


def _stream(data: bytes) -> None:
    with suppress(VmdkError):
        vmdk = StreamVmdk(io.BytesIO(data).read)
        for grain in vmdk.grains():
            assert grain.offset_bytes >= 0
            assert grain.offset_bytes + grain.length_bytes <= vmdk.capacity_bytes
            assert 0 < len(grain.content()) == grain.length_bytes <= vmdk.grain_bytes


def _descriptor(data: bytes) -> None:
    problems = Problems("x")
    descriptor = read_vmdk_descriptor(data, problems)
    assert (descriptor is None) == bool(problems)
    if descriptor is None or descriptor.create_type.is_one_file:
        return
    text = data.partition(b"\0")[0].decode("utf-8", errors="surrogateescape")
    assert "parentFileNameHint" not in text
    assert [(extent.sectors, extent.file) for extent in descriptor.extents] == as_qemu_reads(text)
    assert all(objection(extent.file) is None for extent in descriptor.extents)


def fuzz_ovf(data: bytes) -> None:
    """Descriptor, manifest, and the archive in one pass and by offset."""
    _check_ovf(_read(lambda: read_ovf(data, "x")))
    manifest = _read(lambda: read_manifest(data, "x"))
    if manifest is not None:
        assert all(objection(name) is None for name in manifest.digests)
    repaired = with_checksums(data)
    for archive in (data, repaired) if repaired != data else (data,):
        _archive(archive)


def _archive(data: bytes) -> None:
    streamed = _read(lambda: _streamed(data))
    indexed = _read(lambda: _indexed(data))
    if streamed is not None:
        assert indexed == {name: len(content) for name, content in streamed.items()}


def _streamed(data: bytes) -> dict[str, bytes]:
    stream = OvaStream(io.BytesIO(data).read, "x")
    _check_ovf(stream.ovf)
    found = {}
    for member in stream.files():
        parts = []
        while part := member.read(1000):
            parts.append(part)
        found[member.name] = b"".join(parts)
        assert data[member.offset_bytes :].startswith(found[member.name])
    return found


def _indexed(data: bytes) -> dict[str, int]:
    file = io.BytesIO(data)

    def skip(size: int) -> None:
        if file.seek(size, io.SEEK_CUR) > len(data):
            raise TarTruncated("cut")

    ova = read_ova(file.read, skip, "x")
    for member in ova.members.values():
        assert objection(member.name) is None
        assert member.offset_bytes + member.size_bytes <= len(data)
    return {member.name: member.size_bytes for member in ova.members.values()}


def _check_ovf(ovf: Ovf | None) -> None:
    if ovf is None:
        return
    assert len(ovf.disks) == len(ovf.machine.disks) > 0
    assert any(disk.file for disk in ovf.disks)
    assert all(objection(file.name) is None for file in ovf.files)
    assert all(0 < disk.capacity_bytes <= MOST_DISK_BYTES for disk in ovf.machine.disks)
    assert ovf.machine.vcpus > 0
    assert ovf.machine.memory_bytes > 0


def _read(work: Callable[[], T]) -> T | None:
    try:
        return work()
    except PreflightError as error:
        if not error.failures:
            raise AssertionError("refused without a reason") from error
        return None


def with_checksums(data: bytes) -> bytes:
    """The archive with its headers' checksums set right, which no fuzzer would find."""
    result = bytearray(data)
    at = 0
    while at + BLOCK <= len(result) and any(result[at : at + BLOCK]):
        counted = sum(result[at : at + 148]) + 8 * 32 + sum(result[at + 156 : at + BLOCK])
        result[at + 148 : at + 156] = b"%06o\0 " % (counted & 0o777777)
        digits = bytes(result[at + 124 : at + 136]).strip(b" \0")
        size = int(digits, 8) if digits and all(byte in b"01234567" for byte in digits) else 0
        at += BLOCK + -(-size // BLOCK) * BLOCK
    return bytes(result)
