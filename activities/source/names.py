"""Names that a package gives its files: plain ones only. Pure."""

import re
import urllib.parse

from hyperctl.activities.source.problems import shown

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MOST_BYTES = 255


def objection(name: str) -> str | None:
    """Why this is no plain name of a file beside the one that names it; None where it is one."""
    if not name:
        return "an empty name"
    if _CONTROL.search(name):
        return f"{shown(name)}, with characters that no file name has"
    if _SCHEME.match(name):
        return f"{shown(name)}, an address and no file of this package"
    if name.startswith(("/", "\\")):
        return f"{shown(name)}, an absolute path"
    if ".." in re.split(r"[/\\]", name):
        return f"{shown(name)}, a path out of its folder"
    if "/" in name or "\\" in name:
        return f"{shown(name)}, a path and no plain file name"
    if name == ".":
        return f"{shown(name)}, a folder"
    if len(name.encode()) > _MOST_BYTES:
        return f"{shown(name)}, longer than a file name can be"
    return None


def decoded(reference: str) -> str:
    """A URI reference (DSP0243, 7.1: `ovf:href`) with its percent-encoding undone.

    Many writers put plain names there, `100%.vmdk`; what is no valid encoding stays as it is.
    """
    try:
        return urllib.parse.unquote(reference, errors="strict")
    except UnicodeDecodeError:
        return reference
