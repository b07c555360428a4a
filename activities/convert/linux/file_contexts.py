"""Which SELinux label a file gets, as a policy's file_contexts say.

Format: selabel_file(5). Of the lines that match a path the last counts, but one that names a path exactly
comes before every pattern, as libselinux has it.
"""

import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

NO_LABEL = "<<none>>"
_META = frozenset(".^$?*+|[({")
_OPTIONAL = frozenset("?*{")
"""What may stand for nothing, and so takes the character before it out of a pattern's beginning."""
_KINDS = {
    "--": stat.S_IFREG,
    "-d": stat.S_IFDIR,
    "-l": stat.S_IFLNK,
    "-c": stat.S_IFCHR,
    "-b": stat.S_IFBLK,
    "-p": stat.S_IFIFO,
    "-s": stat.S_IFSOCK,
}


@dataclass(frozen=True)
class _Line:
    pattern: str
    kind: int | None
    """A file's type in its mode, or None for all."""
    label: str
    beginning: str
    """What every path that it matches begins with."""
    exact: bool

    @cached_property
    def compiled(self) -> re.Pattern[str] | None:
        """None where the pattern is of a kind that Python's do not have."""
        try:
            return re.compile(self.pattern, re.DOTALL)
        except re.error:
            return None

    def matches(self, path: str, kind: int) -> bool:
        if not path.startswith(self.beginning) or (self.kind is not None and self.kind != kind):
            return False
        return self.compiled is not None and self.compiled.fullmatch(path) is not None


class FileContexts:
    """A policy's labels of files."""

    def __init__(self, texts: Iterable[str], substitutions: Iterable[str] = ()) -> None:
        """`texts` are file_contexts, file_contexts.homedirs and file_contexts.local, in this order;
        `substitutions` file_contexts.subs and file_contexts.subs_dist."""
        lines = [line for text in texts for line in map(_line, text.splitlines()) if line]
        self._lines = [one for one in reversed(lines) if one.exact]
        self._lines += [one for one in reversed(lines) if not one.exact]
        self._substitutions = [_pairs(text) for text in substitutions]

    def label(self, path: str, mode: int) -> str | None:
        """The label of a file of this mode; None where the policy has none for it."""
        for pairs in self._substitutions:
            path = _substituted(path, pairs)
        kind = stat.S_IFMT(mode)
        found = next((line.label for line in self._lines if line.matches(path, kind)), NO_LABEL)
        return None if found == NO_LABEL else found


def _line(text: str) -> _Line | None:
    words = text.split()
    if len(words) not in (2, 3) or words[0].startswith("#"):
        return None
    kind = _KINDS.get(words[1]) if len(words) == 3 else None
    if len(words) == 3 and kind is None:
        return None
    beginning, exact = _beginning(words[0])
    return _Line(words[0], kind, words[-1], beginning, exact)


def _beginning(pattern: str) -> tuple[str, bool]:
    """What it begins with literally, and whether that is all of it."""
    if "|" in re.sub(r"\(.*\)", "", pattern):
        return "", False
    found: list[str] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\" and at + 1 < len(pattern):
            if pattern[at + 1].isalnum():  # a class such as \d
                return "".join(found), False
            found.append(pattern[at + 1])
            at += 2
            continue
        if character in _META:
            return "".join(found[:-1] if character in _OPTIONAL else found), False
        found.append(character)
        at += 1
    return "".join(found), True


def _pairs(text: str) -> list[tuple[str, str]]:
    """Alias and what it stands for, the last first."""
    pairs = [line.split() for line in text.splitlines()]
    found = [(words[0], words[1]) for words in pairs if len(words) == 2 and words[0].startswith("/")]
    return [(alias.rstrip("/"), original) for alias, original in reversed(found)]


def _substituted(path: str, pairs: Iterable[tuple[str, str]]) -> str:
    for alias, original in pairs:
        if path == alias or path.startswith(f"{alias}/"):
            return f"{original.rstrip('/')}{path[len(alias) :]}" or "/"
    return path
