"""Kernel arguments and settings that name a device."""

import re

from hyperctl.activities.convert.devices import StableNames

_NAMING = re.compile(
    r"(?<![\w.-])((?:(?:real_)?root|resume|boot|mount\.usr|cryptdevice|ROOT|RESUME)=[\"']?)"
    r"(/dev/disk/[^\s\"',;]+|/dev/[^\s\"',;:]+)"
)


def stable_arguments(text: str, names: StableNames) -> str:
    """`root=`, `resume=` and such by UUID, wherever they stand in a text; all else stays byte for byte."""

    def renamed(found: re.Match[str]) -> str:
        return found[1] + (names.stable(found[2]) or found[2])

    return _NAMING.sub(renamed, text)


def has_known_root(text: str, names: StableNames) -> bool:
    """Whether some `root=` names something that is there, as far as can be told."""
    roots = re.findall(r"(?<![\w.-])root=[\"']?([^\s\"',;]+)", text)
    return any(not names.is_unstable(root) or names.stable(root) for root in roots)


def unresolved_root(text: str, names: StableNames) -> str:
    """The device that a `root=` names and that no stable name is known for, or an empty string."""
    for found in _NAMING.finditer(text):
        if (
            found[1].lower().strip("\"'") in ("root=", "real_root=")
            and names.is_unstable(found[2])
            and not names.stable(found[2])
        ):
            return found[2]
    return ""
