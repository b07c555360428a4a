"""Devices in the names of systemd's units (systemd.unit(5), "String Escaping")."""

import re
from collections.abc import Callable

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9:_./]|^\.")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")
_NAME = re.compile(
    r"(?<![\w\\@.:-])(?P<before>(?:[\w:.\\-]+@)?)"
    r"(?P<path>dev-(?:[\w:-]|\\x[0-9a-f]{2}|\.(?!(?:device|swap|service)\b))+)"
    r"(?P<after>\.(?:device|swap|service))(?![\w\\-])"
)
"""`dev-sda1.swap`, or an instance, `systemd-fsck@dev-sda1.service`."""


def in_hexadecimal(found: re.Match[str]) -> str:
    """`\\x2d` for a hyphen: how systemd, and udev in names of links, write what may not stand there."""
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode("utf-8", "surrogateescape"))


def from_hexadecimal(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)


def escaped(path: str) -> str:
    """`dev-disk-by\\x2duuid-1` for /dev/disk/by-uuid/1, as systemd-escape(1) has it."""
    return _NOT_PLAIN.sub(in_hexadecimal, path.strip("/")).replace("/", "-") or "-"


def unescaped(name: str) -> str:
    """/dev/disk/by-uuid/1 of such a name, without its suffix."""
    return "/" + from_hexadecimal(name.replace("-", "/"))


def renamed_units(text: str, stable: Callable[[str], str | None]) -> str:
    """A text, or a path, in which units of devices have the names of what `stable` gives, where it does."""

    def renamed(found: re.Match[str]) -> str:
        path = stable(unescaped(found["path"]))
        return f"{found['before']}{escaped(path)}{found['after']}" if path else found[0]

    return _NAME.sub(renamed, text)
