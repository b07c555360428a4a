"""RPM packages as files: what one says of itself, and which of a folder the guest's own rpm misses.

Format: RPM's own "Package format V4" (lead, signature, header). Nothing of a package is run.
"""

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from hyperctl.activities.convert.linux.deb import PackageError

LARGEST_HEADER_BYTES = 32 << 20
MOST_ENTRIES = 4096
_LEAD = b"\xed\xab\xee\xdb"
_LEAD_BYTES = 96
_HEADER = b"\x8e\xad\xe8\x01"
_NAME, _VERSION, _RELEASE, _EPOCH, _SIZE, _ARCHITECTURE, _SOURCE = 1000, 1001, 1002, 1003, 1009, 1022, 1044
_PROVIDES, _BASE_NAMES, _FOLDERS, _FOLDER_OF = 1047, 1117, 1118, 1116
_INTEGER, _STRING, _STRINGS, _TRANSLATED = 4, 6, 8, 9
_NEEDED = re.compile(r"^[ \t]+(?P<what>\S.*?) is needed by ", re.MULTILINE)

Value = tuple[int, ...] | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RpmPackage:
    name: str
    epoch: int
    version: str
    release: str
    architecture: str
    provides: frozenset[str]
    """Names of capabilities, and the files."""
    files: tuple[str, ...]
    size_bytes: int
    path: Path

    @property
    def full_version(self) -> str:
        return f"{self.version}-{self.release}"

    @property
    def order(self) -> tuple[int, "_Order", "_Order"]:
        return self.epoch, _Order(self.version), _Order(self.release)


class _Order:
    """Compares as rpm compares versions and releases."""

    def __init__(self, text: str) -> None:
        self._parts = re.findall(r"\d+|[A-Za-z]+|~|\^", text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Order) and _compare(self._parts, other._parts) == 0

    def __lt__(self, other: "_Order") -> bool:
        return _compare(self._parts, other._parts) < 0


def _compare(one: Sequence[str], other: Sequence[str]) -> int:
    for first, second in zip_longest(one, other, fillvalue=""):
        if first == second:
            continue
        if "~" in (first, second):  # before everything, even the end
            return -1 if first == "~" else 1
        if "^" in (first, second):  # after the end, before everything else
            return (1 if second == "" else -1) if first == "^" else (-1 if first == "" else 1)
        if first.isdigit() and second.isdigit():
            if int(first) != int(second):
                return -1 if int(first) < int(second) else 1
            continue
        if first.isdigit() != second.isdigit():
            return (1 if first.isdigit() else -1) if first and second else (1 if first else -1)
        return -1 if first < second else 1
    return 0


def read_rpm(path: Path) -> RpmPackage:
    """Raises `PackageError`, and OSError."""
    with path.open("rb") as file:
        if file.read(_LEAD_BYTES)[:4] != _LEAD:
            raise PackageError(f"{path} is no RPM package")
        try:
            signature_bytes = _read_header(file)[1]
            file.read(-signature_bytes % 8)
            facts = _read_header(file)[0]
        except (struct.error, UnicodeDecodeError, ValueError) as error:
            raise PackageError(f"{path} is damaged: {error}") from error

    def texts(tag: int) -> tuple[str, ...]:
        return tuple(str(one) for one in facts.get(tag, ()))

    def number(tag: int) -> int:
        return next((one for one in facts.get(tag, ()) if isinstance(one, int)), 0)

    def word(tag: int) -> str:
        return next(iter(texts(tag)), "")

    if not word(_NAME) or not word(_SOURCE):
        raise PackageError(f"{path} is a package of sources, or says nothing of itself")
    folders = texts(_FOLDERS)
    places = [int(one) for one in facts.get(_FOLDER_OF, ())]
    try:
        files = tuple(folders[place] + name for place, name in zip(places, texts(_BASE_NAMES), strict=True))
    except (IndexError, ValueError) as error:
        raise PackageError(f"{path} is damaged: {error}") from error
    return RpmPackage(
        word(_NAME),
        number(_EPOCH),
        word(_VERSION),
        word(_RELEASE),
        word(_ARCHITECTURE),
        frozenset((*texts(_PROVIDES), *files)),
        files,
        number(_SIZE),
        path,
    )


def _read_header(file: BinaryIO) -> tuple[dict[int, Value], int]:
    """The values by their tags, and the bytes of the store. Raises ValueError and struct.error."""
    magic, count, size = struct.unpack(">4s4xII", file.read(16))
    if magic != _HEADER or count > MOST_ENTRIES or size > LARGEST_HEADER_BYTES:
        raise ValueError("its header is none")
    index, store = file.read(16 * count), file.read(size)
    found: dict[int, Value] = {}
    for at in range(count):
        tag, kind, offset, items = struct.unpack_from(">IIII", index, 16 * at)
        if kind == _INTEGER and items <= size // 4:
            found[tag] = struct.unpack_from(f">{items}I", store, offset)
        elif kind in (_STRING, _STRINGS, _TRANSLATED) and items <= size:
            words = store[offset:].split(b"\0", items)[: 1 if kind == _STRING else items]
            found[tag] = tuple(word.decode("utf-8", "replace") for word in words)
    return found, size


def needed_rpms(
    wanted: RpmPackage, offered: Sequence[RpmPackage], complaints: Callable[[Sequence[RpmPackage]], str]
) -> tuple[list[RpmPackage], list[str]]:
    """What is to be put in for `wanted`, and what is missing for it, in rpm's words.

    `complaints` is what the guest's `rpm -U --test` says of packages, empty where it would take them.
    """
    chosen = [wanted]
    while text := complaints(chosen):
        lacking = list(dict.fromkeys(_NEEDED.findall(text)))
        added: list[RpmPackage] = []
        for capability in lacking:
            name = capability.split(" ")[0]
            able = [one for one in offered if name in one.provides and one not in chosen]
            if able and not any(name in one.provides for one in added):
                added.append(max(able, key=lambda one: one.order))
        if not added:
            return chosen, lacking or [" ".join(text.split())]
        chosen += added
    return chosen, []
