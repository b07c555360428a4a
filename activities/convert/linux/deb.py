"""Debian's packages as files: what one says of itself, and which of a folder a guest needs.

Formats: deb(5), deb-control(5), deb-version(7), Debian Policy 7 (relationships). Nothing of a package is run.
"""

import io
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

LARGEST_CONTROL_BYTES = 16 << 20
_MAGIC = b"!<arch>\n"
_MEMBER_BYTES = 60
_RELATION = re.compile(
    r"^(?P<name>[^\s(\[:<]+)(?::\S+)?\s*(?:\((?P<how><<|<=|=|>=|>>)\s*(?P<version>[^)\s]+)\))?"
)


class PackageError(Exception):
    """The file is no package, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Relation:
    """`libc6 (>= 2.34)`."""

    name: str
    how: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.how} {self.version})" if self.how else self.name

    def holds(self, version: str) -> bool:
        """For a package of this version."""
        if not self.how:
            return True
        order = compare(version, self.version)
        return (
            (order < 0 and "<" in self.how)
            or (order > 0 and ">" in self.how)
            or (order == 0 and "=" in self.how)
        )


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    version: str
    architecture: str
    depends: tuple[tuple[Relation, ...], ...] = ()
    """Each a choice of several."""
    provides: tuple[Relation, ...] = ()
    installed_kib: int = 0
    path: Path = field(default_factory=Path)

    def meets(self, wanted: Relation) -> bool:
        if self.name == wanted.name and wanted.holds(self.version):
            return True
        return any(
            one.name == wanted.name and (not wanted.how or (one.how == "=" and wanted.holds(one.version)))
            for one in self.provides
        )


def read_package(path: Path) -> Package:
    """Raises `PackageError`, and OSError."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise PackageError(f"{path} is no Debian package")
        while len(header := file.read(_MEMBER_BYTES)) == _MEMBER_BYTES:
            name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), header[48:58].strip()
            if not size.isdigit():
                raise PackageError(f"{path} is damaged")
            if name.startswith("control.tar"):
                if int(size) > LARGEST_CONTROL_BYTES:
                    break
                stanzas = read_stanzas(_control(name, file.read(int(size)), path))
                if stanzas and (found := package_of(stanzas[0], path)):
                    return found
                break
            file.seek(int(size) + int(size) % 2, io.SEEK_CUR)
    raise PackageError(f"{path} says nothing of itself")


def _control(name: str, content: bytes, path: Path) -> str:
    try:
        if name.endswith(".zst"):
            content = zstandard.ZstdDecompressor().stream_reader(content).read(LARGEST_CONTROL_BYTES)
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.name.removeprefix("./") == "control" else None
                if file is not None:
                    return file.read(LARGEST_CONTROL_BYTES).decode("utf-8", "replace")
    except (tarfile.TarError, zstandard.ZstdError, EOFError, OSError) as error:
        raise PackageError(f"{path} is damaged: {error}") from error
    return ""


def read_stanzas(text: str) -> list[dict[str, str]]:
    """deb822(5): fields by their names in small letters; lines that go on are joined."""
    found = []
    for block in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in block.splitlines():
            if line[:1] in (" ", "\t"):
                if key:
                    fields[key] += f" {line.strip()}"
            elif ":" in line:
                key, _, value = line.partition(":")
                key = key.lower()
                fields[key] = value.strip()
        if fields:
            found.append(fields)
    return found


def package_of(stanza: Mapping[str, str], path: Path | None = None) -> Package | None:
    """None where it does not say its name, version and architecture."""
    try:
        name, version, architecture = (stanza[key] for key in ("package", "version", "architecture"))
    except KeyError:
        return None
    depends = ", ".join(filter(None, (stanza.get("pre-depends"), stanza.get("depends"))))
    size = stanza.get("installed-size", "0")
    return Package(
        name,
        version,
        architecture,
        tuple(read_relations(depends)),
        tuple(one for choice in read_relations(stanza.get("provides", "")) for one in choice),
        int(size) if size.isdigit() else 0,
        path or Path(),
    )


def read_relations(text: str) -> Iterable[tuple[Relation, ...]]:
    for group in text.split(","):
        choices = [found for one in group.split("|") if (found := _RELATION.match(one.strip()))]
        if choices:
            yield tuple(Relation(one["name"], one["how"] or "", one["version"] or "") for one in choices)


def installed_packages(status: str) -> tuple[Package, ...]:
    """dpkg's status file: what is installed in full."""
    found = (
        package_of(stanza)
        for stanza in read_stanzas(status)
        if stanza.get("status", "").split()[-1:] == ["installed"]
    )
    return tuple(one for one in found if one)


def needed_packages(
    wanted: Package, installed: Sequence[Package], offered: Sequence[Package]
) -> tuple[list[Package], list[str]]:
    """What is to be put in for `wanted`, and what is missing for it, in words.

    A package that is installed is never replaced: a release of its own is what a system was tested as.
    """
    chosen, missing = [wanted], list[str]()
    names = {one.name for one in installed}
    waiting = [wanted]
    while waiting:
        for choices in waiting.pop().depends:
            if any(have.meets(one) for one in choices for have in (*installed, *chosen)):
                continue
            candidates = [
                offer
                for one in choices
                for offer in offered
                if offer.meets(one) and offer.name not in names and offer not in chosen
            ]
            if candidates:
                best = max(candidates, key=lambda one: version_key(one.version))
                chosen.append(best)
                waiting.append(best)
                continue
            held = next((have for one in choices for have in installed if have.name == one.name), None)
            text = " or ".join(map(str, choices))
            missing.append(f"{text}, of which the guest has {held.version}" if held else text)
    return chosen, list(dict.fromkeys(missing))


def compare(one: str, other: str) -> int:
    """Below, at or above zero, as versions are ordered."""
    first, second = version_key(one), version_key(other)
    return (first > second) - (first < second)


VersionKey = tuple[int, tuple[tuple[int, ...] | int, ...], tuple[tuple[int, ...] | int, ...]]


def version_key(version: str) -> VersionKey:
    """Orders versions; `~` comes before everything, even the end."""
    epoch, colon, rest = version.partition(":")
    if not colon or not epoch.isdigit():
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
    return int(epoch), _part_key(upstream), _part_key(revision)


def _part_key(text: str) -> tuple[tuple[int, ...] | int, ...]:
    """Letters and digits in turns; letters before other characters."""
    found: list[tuple[int, ...] | int] = []
    for letters, digits in re.findall(r"(\D*)(\d*)", text):
        if letters or digits:
            found += [(*(_weight(one) for one in letters), 0), int(digits or 0)]
    return (*found, (0,))


def _weight(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
