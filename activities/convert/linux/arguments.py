"""Kernel arguments and settings that name a device."""

import re

from hyperctl.activities.convert.devices import StableNames

_NAMING = re.compile(
    r"(?<![\w.-])((?:(?:real_)?root|rootpartition|resume|boot|mount\.usr|cryptdevice|cryptkey|source|ROOT|RESUME)=[\"']?)"
    r"(/dev/disk/[^\s\"',;]+|/dev/[^\s\"',;:]+)"
)
_OTHER_DISK = re.compile(r"((?:rootflags=|,)(?:device|logdev|rtdev|journal_path)=)(/dev/[^\s\"',;]+)")
"""The root filesystem's other disks, which the kernel takes by a path only."""


def stable_arguments(text: str, names: StableNames) -> str:
    """`root=`, `resume=` and such by UUID, wherever they stand in a text; all else stays byte for byte."""

    def renamed(found: re.Match[str]) -> str:
        if not names.is_unstable(found[2]):
            return found[0]
        stable = names.stable_root if _names_root(found) else names.stable
        return found[1] + (stable(found[2]) or found[2])

    text = _OTHER_DISK.sub(lambda found: found[1] + (names.link(found[2]) or found[2]), text)
    return _NAMING.sub(renamed, text)


def linked(naming: re.Pattern[str], text: str, names: StableNames) -> tuple[str, list[str]]:
    """A text in which each of these names, its second group, is a path that stays true; and those that could
    not be resolved."""
    unknown: list[str] = []

    def renamed(found: re.Match[str]) -> str:
        if not names.is_unstable(found[2]):
            return found[0]
        link = names.link(found[2])
        if link is None:
            unknown.append(found[2])
        return f"{found[1]}{link or found[2]}"

    return naming.sub(renamed, text), unknown


def reordered_root(text: str, names: StableNames) -> str:
    """The device that a `root=` names and that is another than the root by the order of disks, or nothing."""
    for found in _NAMING.finditer(text):
        if _names_root(found) and names.is_unstable(found[2]):
            stable = names.stable_root(found[2])
            if stable and stable != names.stable(found[2]):
                return found[2]
    return ""


def _names_root(found: re.Match[str]) -> bool:
    """Photon's grub.cfg has its root in a variable of its own."""
    return found[1].lower().strip("\"'") in ("root=", "real_root=", "rootpartition=")


def has_known_root(text: str, names: StableNames) -> bool:
    """Whether some `root=` names something that is there, as far as can be told."""
    roots = re.findall(r"(?<![\w.-])root=[\"']?([^\s\"',;]+)", text)
    return any(not names.is_unstable(root) or names.stable_root(root) for root in roots)


def unresolved_root(text: str, names: StableNames) -> str:
    """The device that a `root=` names and that no stable name is known for, or an empty string."""
    for found in _NAMING.finditer(text):
        if _names_root(found) and names.is_unstable(found[2]) and not names.stable_root(found[2]):
            return found[2]
    return ""
