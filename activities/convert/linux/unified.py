"""Unified kernel images: a kernel, its initramfs and its arguments in one EFI programme.

Format: UAPI.5 Unified Kernel Image, sections of a PE file (Microsoft, PE Format); for a kernel's own version
the Linux/x86 Boot Protocol. Any change makes a signature worthless.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

IMAGES = ("/boot/efi/EFI/Linux/*.efi", "/efi/EFI/Linux/*.efi", "/boot/EFI/Linux/*.efi")
"""What systemd-boot needs no entry for."""
FALLBACKS = tuple(f"{place}/EFI/[Bb][Oo][Oo][Tt]/*" for place in ("/boot/efi", "/efi", "/boot"))
"""Where firmware looks that has no entry: mostly a boot loader is there."""
KERNEL, INITRAMFS, COMMAND_LINE, RELEASE = ".linux", ".initrd", ".cmdline", ".uname"
LARGEST_SECTIONS = 96
_SECTION_BYTES = 40
_PE32_PLUS = 0x20B
_SETUP_MAGIC, _SETUP_VERSION, _SETUP_BYTES = 0x202, 0x20E, 0x200
_LONGEST_VERSION = 256

Read = Callable[[int, int], bytes]
"""So many bytes from an offset on: `read(offset, count)`."""


class NotUnifiedError(Exception):
    """The file is no unified kernel image, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Section:
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Unified:
    """Where the parts of one are."""

    sections: Mapping[str, Section]
    is_signed: bool

    def part(self, name: str, read: Read) -> bytes:
        """A section's content; empty where there is none."""
        section = self.sections.get(name)
        return read(section.offset, section.size_bytes) if section else b""

    def text(self, name: str, read: Read) -> str:
        return self.part(name, read).rstrip(b"\0\n ").decode("utf-8", "replace")

    def version(self, read: Read) -> str:
        """Its kernel's: as the image says, else as the kernel itself does; empty where neither does."""
        if said := self.text(RELEASE, read):
            return said
        start = self.sections[KERNEL].offset
        setup = read(start, _SETUP_VERSION + 2)
        if len(setup) < _SETUP_VERSION + 2 or setup[_SETUP_MAGIC : _SETUP_MAGIC + 4] != b"HdrS":
            return ""
        (place,) = struct.unpack_from("<H", setup, _SETUP_VERSION)
        text = read(start + _SETUP_BYTES + place, _LONGEST_VERSION).partition(b"\0")[0] if place else b""
        return text.decode("utf-8", "replace").partition(" ")[0]


def read_unified(read: Read) -> Unified:
    """Raises `NotUnifiedError`."""
    try:
        start = read(0, 0x40)
        if start[:2] != b"MZ":
            raise NotUnifiedError("it is no EFI programme")
        (header,) = struct.unpack_from("<I", start, 0x3C)
        head = read(header, 24)
        if head[:4] != b"PE\0\0":
            raise NotUnifiedError("it is no EFI programme")
        count, optional_bytes = struct.unpack_from("<H", head, 6)[0], struct.unpack_from("<H", head, 20)[0]
        if count > LARGEST_SECTIONS:
            raise NotUnifiedError("its headers are damaged")
        optional = read(header + 24, optional_bytes)
        table = read(header + 24 + optional_bytes, count * _SECTION_BYTES)
        sections = {}
        for number in range(count):
            name, virtual, _, raw, offset = struct.unpack_from("<8sIIII", table, number * _SECTION_BYTES)
            sections[name.rstrip(b"\0").decode("ascii", "replace")] = Section(offset, min(virtual, raw))
    except struct.error as error:
        raise NotUnifiedError("its headers are cut off") from error
    if KERNEL not in sections:
        raise NotUnifiedError("it holds no kernel")
    return Unified(sections, _is_signed(optional))


def _is_signed(optional: bytes) -> bool:
    """Whether the certificate table, the fifth of the data directories, has an entry."""
    (magic,) = struct.unpack_from("<H", optional)
    place = (112 if magic == _PE32_PLUS else 96) + 4 * 8
    if len(optional) < place + 8:
        return False
    size_bytes: int = struct.unpack_from("<II", optional, place)[1]
    return size_bytes > 0
