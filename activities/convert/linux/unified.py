"""Unified kernel images: a kernel, its initramfs and its arguments in one EFI programme.

Format: UAPI.5 Unified Kernel Image with its profiles, sections of a PE file (Microsoft, PE Format); for a
kernel's own version the Linux/x86 Boot Protocol. Any change makes a signature worthless.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

IMAGES = ("/boot/efi/EFI/Linux/*.efi", "/efi/EFI/Linux/*.efi", "/boot/EFI/Linux/*.efi")
"""What systemd-boot needs no entry for."""
FALLBACKS = tuple(f"{place}/EFI/[Bb][Oo][Oo][Tt]/*" for place in ("/boot/efi", "/efi", "/boot"))
"""Where firmware looks that has no entry: mostly a boot loader is there."""
KERNEL, INITRAMFS, COMMAND_LINE, RELEASE = ".linux", ".initrd", ".cmdline", ".uname"
PROFILE = ".profile"
"""Begins a profile: its sections come before those of the same names that all profiles share."""
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
    name: str
    offset: int
    size_bytes: int
    room_bytes: int
    """So much may be written where it lies."""
    header: int
    """Where its line of the section table is."""


@dataclass(frozen=True, slots=True)
class Programme:
    """The sections of an EFI programme, in their order."""

    sections: tuple[Section, ...]
    certificates: int
    """Where the headers say where its signatures are; 0 where they have no place for that."""
    is_signed: bool


@dataclass(frozen=True, slots=True)
class Unified:
    """Where the parts of one are."""

    base: Mapping[str, Section]
    """What all profiles share; all of it where there are no profiles."""
    own: tuple[Mapping[str, Section], ...]
    """What each profile has of its own, the first booted where nobody chooses; empty without profiles."""
    is_signed: bool

    @property
    def profiles(self) -> tuple[Mapping[str, Section], ...]:
        """What is booted by each; one also where there are none."""
        return tuple({**self.base, **own} for own in self.own) or (self.base,)

    def version(self, read: Read) -> str:
        """Its kernel's: as the image says, else as the kernel itself does; empty where neither does."""
        sections = self.profiles[0]
        if said := text(sections, RELEASE, read):
            return said
        return version_of_kernel(read, sections[KERNEL].offset)


def version_of_kernel(read: Read, start: int = 0) -> str:
    """As a kernel's image, which begins there, says it; empty where it does not."""
    setup = read(start, _SETUP_VERSION + 2)
    if len(setup) < _SETUP_VERSION + 2 or setup[_SETUP_MAGIC : _SETUP_MAGIC + 4] != b"HdrS":
        return ""
    (place,) = struct.unpack_from("<H", setup, _SETUP_VERSION)
    words = read(start + _SETUP_BYTES + place, _LONGEST_VERSION).partition(b"\0")[0] if place else b""
    return words.decode("utf-8", "replace").partition(" ")[0]


def part(sections: Mapping[str, Section], name: str, read: Read) -> bytes:
    """A section's content; empty where there is none."""
    section = sections.get(name)
    return read(section.offset, section.size_bytes) if section else b""


def text(sections: Mapping[str, Section], name: str, read: Read) -> str:
    return part(sections, name, read).rstrip(b"\0\n ").decode("utf-8", "replace")


def read_unified(read: Read) -> Unified:
    """Raises `NotUnifiedError`."""
    programme = read_programme(read)
    base: dict[str, Section] = {}
    own: list[dict[str, Section]] = []
    for section in programme.sections:
        if section.name == PROFILE:
            own.append({})
        (own[-1] if own else base).setdefault(section.name, section)  # of two with a name the first counts
    found = Unified(base, tuple(own), programme.is_signed)
    if KERNEL not in found.profiles[0]:
        raise NotUnifiedError("it holds no kernel")
    return found


def read_programme(read: Read) -> Programme:
    """Raises `NotUnifiedError` where it is none."""
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
        at = header + 24
        optional = read(at, optional_bytes)
        table = read(at + optional_bytes, count * _SECTION_BYTES)
        lines = [struct.unpack_from("<8sIIII", table, number * _SECTION_BYTES) for number in range(count)]
        (magic,) = struct.unpack_from("<H", optional)
    except struct.error as error:
        raise NotUnifiedError("its headers are cut off") from error
    addresses = sorted(address for _, _, address, _, _ in lines)
    sections = []
    for number, (name, virtual, address, raw, offset) in enumerate(lines):
        gap = next((above - address for above in addresses if above > address), raw)
        sections.append(
            Section(
                name=name.rstrip(b"\0").decode("ascii", "replace"),
                offset=offset,
                size_bytes=min(virtual, raw),
                room_bytes=min(raw, gap),
                header=at + optional_bytes + number * _SECTION_BYTES,
            )
        )
    place = (112 if magic == _PE32_PLUS else 96) + 4 * 8  # the fifth of the data directories
    if len(optional) < place + 8:
        return Programme(tuple(sections), 0, False)
    is_signed = struct.unpack_from("<II", optional, place)[1] > 0
    return Programme(tuple(sections), at + place, is_signed)
