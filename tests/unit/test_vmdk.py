"""The stream decoder: VMware's layout and qemu's, cut anywhere, damaged anywhere, hostile."""

import io
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperctl.activities.export.vmdk import HEADER, StreamVmdk, VmdkError, VmdkTruncated

from .vmdk_streams import SECTOR, padded

GRAIN = 128 * SECTOR
DESCRIPTOR = b'# Disk DescriptorFile\ncreateType="streamOptimized"\n'


def header(sectors: int, *, directory_at: int = 0xFFFFFFFFFFFFFFFF, **changes: int) -> bytes:
    fields = {
        "version": 3,
        "flags": 0x30001,
        "capacity_sectors": sectors,
        "grain": 128,
        "descriptor_at": 1,
        "descriptor_size": 1,
        "entries": 512,
        "overhead": 128,
        "algorithm": 1,
        **changes,
    }
    return HEADER.pack(
        b"KDMV",
        fields["version"],
        fields["flags"],
        fields["capacity_sectors"],
        fields["grain"],
        fields["descriptor_at"],
        fields["descriptor_size"],
        fields["entries"],
        0,
        directory_at,
        fields["overhead"],
        0,
        b"\n \r\n",
        fields["algorithm"],
    )


def grain(offset: int, data: bytes, size: int | None = None) -> bytes:
    packed = zlib.compress(data)
    return padded(struct.pack("<QI", offset // SECTOR, size or len(packed)) + packed)


def marker(kind: int, sectors: int = 0, content: bytes = b"") -> bytes:
    return padded(struct.pack("<QII", sectors, 0, kind)) + content


def stream(capacity: int, grains: dict[int, bytes], **changes: int) -> bytes:
    """A stream as VMware writes it (Virtual Disk Format 1.1, figure of the stream-optimized layout)."""
    sectors = capacity // SECTOR
    head = header(sectors, **changes)
    body = [head, padded(DESCRIPTOR), bytes((128 - 2) * SECTOR)]
    body += [grain(offset, data) for offset, data in grains.items()]
    body.append(marker(1, 4, bytes(4 * SECTOR)))
    body.append(marker(2, 1, bytes(SECTOR)))
    body.append(marker(3, 1, header(sectors, directory_at=4711)))
    body.append(bytes(SECTOR))
    return b"".join(body)


def decode(data: bytes) -> dict[int, bytearray]:
    vmdk = StreamVmdk(io.BytesIO(data).read)
    return {found.offset_bytes: found.content() for found in vmdk.grains()}


CONTENT = {0: b"boot".ljust(GRAIN, b"\x00"), 3 * GRAIN: b"data" * (GRAIN // 4), 7 * GRAIN: bytes(GRAIN)}
CAPACITY = 8 * GRAIN


def test_a_stream_as_vmware_writes_it() -> None:
    data = stream(CAPACITY, CONTENT)
    assert StreamVmdk(io.BytesIO(data).read).capacity_bytes == CAPACITY
    assert decode(data) == CONTENT


def test_a_last_grain_is_cut_at_the_disks_end() -> None:
    capacity = 7 * GRAIN + 3 * SECTOR
    assert decode(stream(capacity, CONTENT))[7 * GRAIN] == bytes(3 * SECTOR)
    short = {7 * GRAIN: b"x" * (3 * SECTOR)}
    assert decode(stream(capacity, short)) == short


def test_padding_behind_the_end_is_taken_and_anything_else_is_not() -> None:
    data = stream(CAPACITY, CONTENT)
    assert decode(data + bytes(70_000)) == CONTENT
    for tail in (b"\x01", bytes(600) + b"x"):
        with pytest.raises(VmdkError, match="follows"):
            decode(data + tail)


def test_a_stream_as_qemu_writes_it(tmp_path: Path) -> None:
    raw, vmdk = tmp_path / "disk.raw", tmp_path / "disk.vmdk"
    content = bytearray(5 * GRAIN + 7 * SECTOR)
    content[GRAIN + 5 : GRAIN + 10] = b"hello"
    content[-3:] = b"end"
    raw.write_bytes(content)
    command = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]
    subprocess.run([*command, str(raw), str(vmdk)], check=True)
    result = bytearray(len(content))
    for offset, data in decode(vmdk.read_bytes()).items():
        result[offset : offset + len(data)] = data
    assert result == content


@pytest.mark.parametrize(
    "cut", [0, 1, 511, 512, 1024, 60_000, 128 * SECTOR, 128 * SECTOR + 100, -1, -512, -513, -1024]
)
def test_a_cut_stream_is_never_taken_for_a_whole_one(cut: int) -> None:
    data = stream(CAPACITY, CONTENT)
    with pytest.raises(VmdkTruncated):
        decode(data[:cut])


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_stream_fails_cleanly_or_stays_within_the_disk(data: st.DataObject) -> None:
    damaged = bytearray(stream(CAPACITY, CONTENT))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        vmdk = StreamVmdk(io.BytesIO(bytes(damaged)).read)
        for found in vmdk.grains():
            assert found.offset_bytes >= 0
            assert found.offset_bytes + len(found.content()) <= vmdk.capacity_bytes
            assert len(found.content()) <= vmdk.grain_bytes
    except VmdkError:
        return


@given(st.binary(max_size=4096))
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(VmdkError):
        decode(junk)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"COWD" + data[4:], "header"),
        (lambda data: data[:73] + b"\r\n\r\n" + data[77:], "text mode"),
    ],
)
def test_another_header_is_refused(change: Callable[[bytes], bytes], words: str) -> None:
    with pytest.raises(VmdkError, match=words):
        decode(change(stream(CAPACITY, CONTENT)))


@pytest.mark.parametrize(
    "changes",
    [
        {"flags": 1},
        {"flags": 0x10001},
        {"algorithm": 0},
        {"version": 9},
        {"grain": 0},
        {"grain": 100},
        {"grain": 1 << 40},
        {"capacity_sectors": 0},
        {"capacity_sectors": 1 << 60},
        {"entries": 0},
        {"entries": 1 << 30},
        {"overhead": 0},
        {"overhead": 1 << 50},
        {"descriptor_size": 1 << 40},
    ],
    ids=str,
)
def test_impossible_headers_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(VmdkError):
        decode(stream(CAPACITY, CONTENT, **changes))


def with_body(*parts: bytes) -> bytes:
    head = header(CAPACITY // SECTOR, directory_at=1)
    return head + bytes(127 * SECTOR) + b"".join(parts)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (grain(CAPACITY, bytes(GRAIN)), "outside"),
        (grain(SECTOR, bytes(GRAIN)), "off the grid"),
        (struct.pack("<QI", 0xFFFFFFFFFFFFFF, 10).ljust(SECTOR, b"\0"), "outside"),
        (grain(0, bytes(GRAIN * 1000)), "cannot be decompressed"),
        (grain(0, bytes(GRAIN - SECTOR)), "does not decompress to a grain"),
        (grain(0, bytes(GRAIN), size=1 << 31), "compressed bytes"),
        (grain(0, bytes(GRAIN), size=20), "does not decompress|cannot be decompressed"),
        (struct.pack("<QI", 0, 4).ljust(SECTOR, b"\xff"), "cannot be decompressed|does not decompress"),
        (marker(1, 1 << 40), "announces"),
        (marker(9), "unknown type"),
        (marker(3, 2), "footer"),
        (marker(3, 1, header(99)), "footer"),
        (marker(0, 5), "damaged"),
    ],
)
def test_a_hostile_body_is_refused(part: bytes, words: str) -> None:
    with pytest.raises(VmdkError, match=words):
        decode(with_body(part, bytes(SECTOR)))


def test_a_promised_footer_must_come() -> None:
    data = header(CAPACITY // SECTOR) + bytes(127 * SECTOR) + grain(0, bytes(GRAIN)) + bytes(SECTOR)
    with pytest.raises(VmdkError, match="footer is missing"):
        decode(data)
