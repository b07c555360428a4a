"""Unified kernel images, read from a PE file as objcopy and ukify make it; the tools that make new ones."""

import struct
from collections.abc import Mapping, Sequence

import pytest

from hyperctl.activities.convert.linux.builders import Building, command, profile_command, unified_command
from hyperctl.activities.convert.linux.unified import NotUnifiedError, Read, part, read_unified, text

PARTS = {
    ".linux": b"the kernel",
    ".initrd": b"070701",
    ".cmdline": b"root=/dev/sda2 ro\n\0",
    ".uname": b"6.1",
}
HEADER = 0x80
OPTIONAL_BYTES = 240


def image(parts: Mapping[str, bytes] | Sequence[tuple[str, bytes]], signature_bytes: int = 0) -> bytes:
    """A PE32+ with these sections, each filled up to 512 bytes in the file as linkers do, and in memory to
    pages."""
    parts = list(parts.items()) if isinstance(parts, Mapping) else parts
    optional = bytearray(OPTIONAL_BYTES)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<II", optional, 112 + 32, 0x9000 if signature_bytes else 0, signature_bytes)
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", HEADER)
    head = head.ljust(HEADER, b"\0") + b"PE\0\0"
    head += struct.pack("<HHIIIHH", 0x8664, len(parts), 0, 0, 0, OPTIONAL_BYTES, 0) + optional
    table, body, offset, address = b"", b"", 0x1000, 0x2000
    for name, content in parts:
        raw = -(-len(content) // 512) * 512
        table += struct.pack("<8sIIII16s", name.encode(), len(content), address, raw, offset + len(body), b"")
        body += content.ljust(raw, b"\0")
        address += -(-raw // 0x1000) * 0x1000
    return (head + table).ljust(offset, b"\0") + body


def reading(data: bytes) -> Read:
    return lambda offset, count: data[offset : offset + count]


def test_its_parts_are_read() -> None:
    read = reading(image(PARTS))
    found = read_unified(read)
    (sections,) = found.profiles
    assert {name: part(sections, name, read) for name in PARTS} == PARTS
    assert text(sections, ".cmdline", read) == "root=/dev/sda2 ro"
    assert part(sections, ".splash", read) == b""
    assert not found.is_signed


def test_a_profile_has_what_all_share_and_its_own_before_it() -> None:
    """As systemd-stub reads them: of two sections of a name the first counts."""
    profiles = [
        *((".profile", b"ID=main"), (".cmdline", b"ro quiet"), (".cmdline", b"never read")),
        *((".profile", b"ID=other"), (".initrd", b"its own"), (".uname", b"6.2")),
    ]
    read = reading(image([*PARTS.items(), *profiles]))
    found = read_unified(read)
    assert [text(one, ".cmdline", read) for one in found.profiles] == ["ro quiet", "root=/dev/sda2 ro"]
    assert [part(one, ".initrd", read) for one in found.profiles] == [b"070701", b"its own"]
    assert all(part(one, ".linux", read) == b"the kernel" for one in found.profiles)
    assert found.version(read) == "6.1"


@pytest.mark.parametrize(
    ("setup", "version"),
    [
        (bytes(0x202) + b"HdrS" + bytes(8) + struct.pack("<H", 0x40) + bytes(0x30) + b"6.9-1 (me@host) #1\0",
         "6.9-1"),
        (bytes(0x202) + b"HdrS" + bytes(0x60), ""),
        (b"no boot protocol", ""),
    ],
)  # fmt: skip
def test_the_version_is_the_kernels_where_the_image_tells_none(setup: bytes, version: str) -> None:
    read = reading(image({".initrd": b"070701", ".linux": setup}))
    assert read_unified(read).version(read) == version


def test_a_signature_is_seen() -> None:
    assert read_unified(reading(image(PARTS, signature_bytes=2000))).is_signed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#!/bin/sh\n" * 20,
        image(PARTS)[:100],
        image(PARTS)[: HEADER + 24 + OPTIONAL_BYTES + 50],
        image({".text": b"a boot loader"}),
    ],
    ids=["empty", "script", "cut off", "cut off in its sections", "no kernel"],
)
def test_what_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(NotUnifiedError):
        read_unified(reading(data))


@pytest.mark.parametrize(
    ("tool", "argv"),
    [
        ("initramfs-tools", "mkinitramfs -o /var/tmp/new 6.1"),
        ("dracut", "dracut --force /var/tmp/new 6.1"),
        ("mkinitcpio", "mkinitcpio -S autodetect -k 6.1 -g /var/tmp/new"),
        ("mkinitrd", "mkinitrd -f --with=ahci /var/tmp/new 6.1"),
    ],
)
def test_each_tool_writes_where_it_is_told(tool: str, argv: str) -> None:
    building = Building("6.1", "/boot/vmlinuz-6.1", "/var/tmp/new", ("ahci",))
    assert " ".join(command(tool, building)) == argv


def test_suses_mkinitrd_goes_by_the_kernels_image_and_its_own_settings() -> None:
    building = Building("3.0", "/boot/vmlinuz-3.0", "/var/tmp/new", ("virtio_blk",), is_suse=True)
    argv = ("mkinitrd", "-B", "-k", "/boot/vmlinuz-3.0", "-i", "/var/tmp/new")
    assert command("mkinitrd", building) == argv


@pytest.mark.parametrize("tool", ["initramfs-tools", "dracut", "mkinitcpio"])
def test_where_the_old_one_cannot_be_read_the_new_one_can(tool: str) -> None:
    building = Building("6.1", "", "/var/tmp/new", (), readable=True)
    assert any("gzip" in word for word in command(tool, building))


@pytest.mark.parametrize("builder", ["ukify", "dracut", "mkinitcpio"])
def test_a_unified_image_is_made_from_its_parts(builder: str) -> None:
    argv = unified_command(builder, "6.1", "root=UUID=1 ro", "/var/tmp/w", "/var/tmp/w/image.efi")
    assert argv[0] == builder
    said = " ".join(argv)
    assert "/var/tmp/w/linux" in said
    assert "/var/tmp/w/image.efi" in said
    assert ("root=UUID=1 ro" in argv) == (builder == "dracut")


def test_profiles_behind_the_first_are_made_before_it_and_joined() -> None:
    argv = profile_command("/w", 1, {"profile": b"", "cmdline": b""})
    assert " ".join(argv) == (
        "ukify build --profile=@/w/profile1 --cmdline=@/w/cmdline1 --output=/w/profile1.efi"
    )
    whole = unified_command("ukify", "6.1", "", "/w", "/w/image.efi", 2)
    assert [word for word in whole if "profile" in word] == [
        "--profile=@/w/profile0",
        "--join-profile=/w/profile1.efi",
    ]
