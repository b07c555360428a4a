"""Boot entries as the Boot Loader Specification has them, which systemd-boot and some GRUBs read.

Format: UAPI.1 Boot Loader Specification, Type #1 entries; paths in one are relative to its own filesystem.
"""

import re
from dataclasses import dataclass, replace

from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.linux.unified import version_of_kernel

FOLDERS = ("/boot/efi/loader/entries", "/efi/loader/entries", "/boot/loader/entries")
_LINE = re.compile(r"^[ \t]*(version|linux|initrd)[ \t]+(\S[^\n]*)", re.MULTILINE)
"""GRUB takes several images in one `initrd`, and variables among them."""


@dataclass(frozen=True, slots=True)
class BootEntry:
    path: str
    version: str
    """As it calls itself; often the kernel's."""
    kernel: str
    """The image, by its path in the guest."""
    initramfs: tuple[str, ...]
    """By their paths in the guest; only those that are there."""

    @property
    def name(self) -> str:
        """By which a loader knows it."""
        return self.path.rpartition("/")[2]

    @property
    def versions(self) -> tuple[str, ...]:
        """What may be the kernel's version: `6.1.0-9-amd64` in /MACHINE/6.1.0-9-amd64/linux."""
        parts = self.kernel.split("/")
        return tuple(dict.fromkeys([self.version, *parts, parts[-1].partition("-")[2]]))


def find_entries(files: GuestFiles) -> tuple[BootEntry, ...]:
    """Every entry that boots a Linux kernel which is there."""
    found = []
    for folder in FOLDERS:
        top = folder.removesuffix("/loader/entries")
        for path in files.matching(f"{folder}/*.conf"):
            facts = _LINE.findall(files.text(path) or "")
            values: dict[str, list[str]] = {}
            for key, value in facts:
                values.setdefault(key, []).extend(value.split())
            kernel = _in_guest(files, top, values.get("linux", [""])[0])
            if not kernel:
                continue
            initramfs = [_in_guest(files, top, value) for value in values.get("initrd", [])]
            found.append(
                _known_by_its_kernel(
                    files,
                    BootEntry(
                        path, values.get("version", [""])[0], kernel, tuple(one for one in initramfs if one)
                    ),
                )
            )
    return tuple(found)


def _known_by_its_kernel(files: GuestFiles, entry: BootEntry) -> BootEntry:
    """With the version that the kernel itself says, where neither the entry nor a path has one."""
    if any(one and files.is_folder(f"/lib/modules/{one}") for one in entry.versions):
        return entry
    if not files.is_file(entry.kernel):
        return entry
    version = version_of_kernel(files.reader(entry.kernel))
    return replace(entry, version=version) if version else entry


def _in_guest(files: GuestFiles, top: str, path: str) -> str:
    """Where a file of an entry is; its filesystem may be the root's, or one of its own."""
    if not path.startswith("/"):
        return ""
    return next((one for one in (f"{top}{path}", path) if files.exists(one)), "")
