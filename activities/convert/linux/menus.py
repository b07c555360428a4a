"""Where boot loaders have their menus, and which kernels and initramfs these name, by whatever names.

Formats: GRUB's manual (`linux`, `initrd`), GRUB legacy's (`kernel`, `initrd`), and syslinux' wiki, "Config".
"""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from hyperctl.activities.convert.files import GuestFiles

GRUB_CONFIGURATIONS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")
GRUB_CUSTOM = ("/boot/grub/custom.cfg", "/boot/grub2/custom.cfg")
"""What grub-mkconfig's 41_custom reads in."""
GRUB_ON_SYSTEM_PARTITION = ("/boot/efi/EFI/*/grub.cfg",)
"""Red Hat's up to 8, for UEFI only; others have no menu there, but the way to it."""
LEGACY_ON_SYSTEM_PARTITION = ("/boot/efi/EFI/*/grub.conf",)
LEGACY_MENUS = ("/boot/grub/menu.lst", "/boot/grub/grub.conf", *LEGACY_ON_SYSTEM_PARTITION)
SYSLINUX_MENUS = (
    ("/boot/extlinux/extlinux.conf", "/boot/extlinux/*.conf", "/boot/extlinux/*.cfg"),
    ("/boot/syslinux/syslinux.cfg", "/boot/syslinux/*.conf", "/boot/syslinux/*.cfg"),
    ("/boot/extlinux.conf", "/extlinux.conf", "/boot/syslinux.cfg", "/syslinux.cfg"),
)
"""One configuration each, with its main file first."""
MOST_NAMES = 512
"""So many names of files are looked up; nobody has a longer menu."""
DEEPEST = 4
"""So many folders above a path in a menu may be a subvolume's, or a mount point's, and not the guest's."""

_LINE = re.compile(
    r"^[ \t]*(?P<key>menuentry|title|label|linux(?:16|efi)?|kernel|initrd(?:16|efi)?|append)\b"
    r"[ \t=]*(?P<rest>[^\n]*)",
    re.MULTILINE | re.IGNORECASE,
)
_IN_ARGUMENTS = re.compile(r"(?<!\S)initrd=(\S+)")
_SEVERAL = re.compile(r",(?![^(),]*\))")
"""syslinux' comma, which is not that of `(hd0,1)`."""
_DEVICE = re.compile(r"^(?:\([^)\s]*\)|\$\{?\w+\}?(?=/))")
"""`(hd0,1)`, `($root)` or a variable before a path."""


@dataclass(frozen=True, slots=True)
class MenuImage:
    """What one entry of a menu boots, by paths in the guest; links to files are followed."""

    kernel: str
    initramfs: tuple[str, ...]
    name: str
    """The kernel's, as the menu has it, without folders."""


def menu_images(files: GuestFiles) -> tuple[MenuImage, ...]:
    """Of all menus of GRUB and the syslinux family; what is not there is left out."""
    syslinux = (pattern for patterns in SYSLINUX_MENUS for pattern in patterns)
    places = (*GRUB_CONFIGURATIONS, *GRUB_CUSTOM, *GRUB_ON_SYSTEM_PARTITION, *LEGACY_MENUS, *syslinux)
    found: dict[MenuImage, None] = {}
    named: dict[tuple[str, str], str] = {}

    def place(folder: str, word: str) -> str:
        if (folder, word) not in named and len(named) < MOST_NAMES:
            named[folder, word] = _in_guest(files, folder, word)
        return named.get((folder, word), "")

    for path in files.matching(*places):
        folder = path.rpartition("/")[0]
        for kernel, initramfs in _entries(files.text(path) or ""):
            if image := place(folder, kernel):
                there = (place(folder, one) for one in initramfs)
                name = kernel.rpartition("/")[2].strip("\"'")
                found[MenuImage(image, tuple(one for one in there if one), name)] = None
    return tuple(found)


def _entries(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Of each entry the kernel and what is loaded as its initramfs, by the menu's paths."""
    kernel = ""
    initramfs: list[str] = []
    for line in [*_LINE.finditer(text), None]:
        key = line["key"].lower() if line else "title"
        words = line["rest"].split() if line else []
        if key in ("menuentry", "title", "label"):
            if kernel:
                yield kernel, tuple(dict.fromkeys(initramfs))
            kernel, initramfs = "", []
        elif key.startswith("initrd"):
            initramfs += [part for word in words for part in _SEVERAL.split(word)]
        else:
            if key != "append" and words:
                kernel = words[0]
            for listed in _IN_ARGUMENTS.findall(" ".join(words)):
                initramfs += _SEVERAL.split(listed)


def _in_guest(files: GuestFiles, folder: str, word: str) -> str:
    """Where a file of a menu in a folder is, or an empty string."""
    path = _DEVICE.sub("", word.strip("\"'"))
    if not path or "$" in path or "*" in path:
        return ""
    if not path.startswith("/"):
        named = f"{folder}/{path}"
        plain = posixpath.normpath(named)
        there = next((one for one in (plain, named) if files.is_file(one)), "")
        return _followed(files, there) if there else ""
    parts = posixpath.normpath(path).lstrip("/").split("/")
    for above in range(min(DEEPEST, len(parts))):
        tail = "/".join(parts[above:])
        candidates = (f"/{tail}",) if tail.startswith("boot/") else (f"/boot/{tail}", f"/{tail}")
        for one in candidates:
            if files.is_file(one):
                return _followed(files, one)
    return ""


def _followed(files: GuestFiles, path: str) -> str:
    for _ in range(DEEPEST):
        target = files.links_to(path)
        if not target:
            break
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return path
