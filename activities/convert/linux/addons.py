"""Addons of unified kernel images: arguments and an initramfs that come behind an image's own.

Sources: systemd-stub(7) for which are taken, and in which order; PE Format for where a section's size is.
"""

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.linux.unified import (
    COMMAND_LINE,
    INITRAMFS,
    KERNEL,
    RELEASE,
    NotUnifiedError,
    Programme,
    Section,
    part,
    read_programme,
    text,
)

ENDING = ".addon.efi"
FOR_ALL = "loader/addons"
_TRIES = re.compile(r"^([^+]*)\+\d+(?:-\d+)?(?=\.|$)")
_BEFORE_TRIES = r"\1"
_SIZE_IN_HEADER = 8


@dataclass(frozen=True, slots=True)
class Addon:
    path: str
    programme: Programme
    sections: Mapping[str, Section]
    arguments: str
    """Empty where it has none."""
    initramfs: bytes

    def with_arguments(self, arguments: str) -> list[tuple[int, bytes]] | None:
        """What is to be written where in its file, for these to be its arguments; None where they have no
        room."""
        section, content = self.sections[COMMAND_LINE], arguments.encode()
        if len(content) > section.room_bytes:
            return None
        pieces = [
            (section.offset, content.ljust(section.room_bytes, b"\0")),
            (section.header + _SIZE_IN_HEADER, struct.pack("<I", len(content))),
        ]
        if self.programme.is_signed:
            pieces.append((self.programme.certificates, bytes(8)))
        return pieces


def find_addons(files: GuestFiles, image: str, release: str) -> Iterator[Addon]:
    """What an image takes at a boot, in its order: for all images, then for itself.

    `image` is its path in the guest, with `EFI` at the top of its filesystem; `release` its kernel's, where
    it says one.
    """
    top = image.partition("/EFI/")[0]
    for folder in (f"{top}/{FOR_ALL}", extra_folder(image)):
        for path in files.matching(f"{folder}/*"):
            if not path.lower().endswith(ENDING) or not files.is_file(path):
                continue
            read = files.reader(path)
            try:
                programme = read_programme(read)
            except NotUnifiedError:
                continue
            sections: dict[str, Section] = {}
            for section in programme.sections:
                sections.setdefault(section.name, section)
            wanted = text(sections, RELEASE, read)
            if KERNEL in sections or (wanted and release and wanted != release):
                continue
            arguments = text(sections, COMMAND_LINE, read)
            yield Addon(path, programme, sections, arguments, part(sections, INITRAMFS, read))


def extra_folder(image: str) -> str:
    """Where an image's own addons are; the tries that its name counts are left out."""
    folder, _, name = image.rpartition("/")
    return f"{folder}/{_TRIES.sub(_BEFORE_TRIES, name)}.extra.d"
