"""A package's manifest: the digest of each of its files. Pure.

Follows DMTF DSP0243 5.1: lines of `SHA256(name)= hex`; exporters also write `SHA256 (name) = hex`.
"""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

from hyperctl.activities.source.names import objection
from hyperctl.activities.source.problems import Problems, shown

MOST_BYTES = 1 << 20
_LINE = re.compile(r"\s*([A-Za-z0-9-]{1,16})\s*\((.{1,1024})\)\s*=\s*([0-9A-Fa-f]*)\s*")


class DigestAlgorithm(StrEnum):
    """The values are `hashlib`'s names."""

    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"

    @property
    def hex_length(self) -> int:
        return hashlib.new(self.value).digest_size * 2


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file's bytes must have."""

    algorithm: DigestAlgorithm
    hexadecimal: str
    """Lower case."""

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hexadecimal}"


@dataclass(frozen=True, slots=True)
class Manifest:
    digests: dict[str, Digest]
    """By file name."""

    @property
    def algorithms(self) -> frozenset[DigestAlgorithm]:
        return frozenset(digest.algorithm for digest in self.digests.values())


def read_manifest(data: bytes, file_name: str) -> Manifest:
    """The digests in a manifest. Raises `PreflightError` with everything that is wrong with it."""
    problems = Problems(file_name)
    digests: dict[str, Digest] = {}
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        problems.invalid("it is no text in UTF-8", "Make the manifest anew, or remove it.")
        text = ""
    if len(data) > MOST_BYTES:
        problems.invalid(f"it has {len(data)} bytes, more than the {MOST_BYTES} that a manifest may have")
        text = ""
    for number, line in enumerate(re.split(r"\r?\n", text), start=1):
        if line.strip():
            _read_line(line, number, digests, problems)
    problems.raise_any()
    return Manifest(digests)


def _read_line(line: str, number: int, digests: dict[str, Digest], problems: Problems) -> None:
    match = _LINE.fullmatch(line)
    if match is None:
        problems.invalid(f"line {number}, {shown(line)}, is no `SHA256(name)= hex`")
        return
    word, name, hexadecimal = match[1].lower().replace("-", ""), match[2], match[3].lower()
    if word not in list(DigestAlgorithm):
        problems.unsupported(
            f"line {number} gives a digest of the kind {shown(match[1])}",
            "SHA1, SHA256 and SHA512 are checked; make the manifest anew, or remove it.",
        )
        return
    algorithm = DigestAlgorithm(word)
    if wrong := objection(name):
        problems.unsafe(f"line {number} names {wrong}")
    elif len(hexadecimal) != algorithm.hex_length:
        problems.invalid(
            f"line {number}: the {algorithm} of {shown(name)} has {len(hexadecimal)} digits "
            f"and not {algorithm.hex_length}"
        )
    elif digests.setdefault(name, Digest(algorithm, hexadecimal)) != Digest(algorithm, hexadecimal):
        problems.invalid(f"line {number} gives another digest of {shown(name)} than a line before")
