"""The menus of GRUB legacy (its manual, "Configuration") and of the syslinux family (its wiki, "Config")."""

import re
from collections.abc import Collection, Mapping

_LEGACY_DEFAULT = re.compile(r"^([ \t]*default(?:[ \t]*=[ \t]*|[ \t]+))(\S+)", re.MULTILINE)
_LEGACY_LINE = re.compile(r"^[ \t]*(title|kernel)\b[ \t]*(?:\([^)]*\))?(\S*)", re.MULTILINE)
_DEFAULT = re.compile(r"^([ \t]*default[ \t]+)(\S+)", re.MULTILINE | re.IGNORECASE)
_LABEL = re.compile(r"^[ \t]*label[ \t]+(\S+)(?!\S)[^\n]*\n", re.MULTILINE | re.IGNORECASE)
_MARK = re.compile(r"^[ \t]*menu[ \t]+default[ \t]*\n?", re.MULTILINE | re.IGNORECASE)
_KERNEL = re.compile(r"^[ \t]*(?:kernel|linux)[ \t]+(\S+)", re.MULTILINE | re.IGNORECASE)


def image_version(image: str) -> str:
    """`6.1.0-9-amd64` of /boot/vmlinuz-6.1.0-9-amd64; without a hyphen the whole name."""
    name = image.rpartition("/")[2]
    return name.partition("-")[2] or name


def legacy_default(text: str, without: Collection[str], able: str, saved: str = "") -> str | None:
    """A menu.lst whose default has virtio: the same, or one whose default is the entry of the kernel `able`.

    `without` are versions of kernels that have none; `saved` is the file of grub-set-default(8), for
    `default saved`. None where `able` has no entry.
    """
    versions: list[str] = []
    for kind, path in _LEGACY_LINE.findall(text):
        if kind == "title":
            versions.append("")
        elif versions:
            versions[-1] = image_version(path)
    found = _LEGACY_DEFAULT.search(text)
    default = found[2] if found else ""
    if default == "saved":
        default = next(iter(saved.split()), "")
    number = int(default) if default.isdecimal() else 0
    if number >= len(versions) or versions[number] not in without:
        return text
    if able not in versions:
        return None
    wanted = str(versions.index(able))
    if found:
        return _LEGACY_DEFAULT.sub(lambda one: f"{one[1]}{wanted}", text, count=1)
    return f"default {wanted}\n{text}"


def syslinux_defaults(texts: Mapping[str, str], without: Collection[str], able: str) -> dict[str, str] | None:
    """The same for a configuration of syslinux or extlinux, by path: the main file, then what it includes."""
    versions: dict[str, str] = {}
    marked, default = "", ""
    for text in texts.values():
        named = _DEFAULT.search(text[: first.start()] if (first := _LABEL.search(text)) else text)
        default = default or (named[2] if named else "")
        starts = list(_LABEL.finditer(text))
        ends = [*(label.start() for label in starts[1:]), len(text)]
        for label, end in zip(starts, ends, strict=False):
            body = text[label.end() : end]
            kernel = _KERNEL.search(body)
            versions[label[1]] = image_version(kernel[1]) if kernel else ""
            marked = label[1] if _MARK.search(body) else marked
    booted = marked or (default if default in versions else next(iter(versions), ""))
    if versions.get(booted, "") not in without:
        return dict(texts)
    wanted = next((label for label, version in versions.items() if version == able), None)
    if wanted is None:
        return None
    if default in versions and not marked:
        return {
            path: _DEFAULT.sub(lambda one: f"{one[1]}{wanted}" if one[2] == default else one[0], text)
            for path, text in texts.items()
        }
    return {
        path: _LABEL.sub(
            lambda one: f"{one[0]}  menu default\n" if one[1] == wanted else one[0], _MARK.sub("", text)
        )
        for path, text in texts.items()
    }
