"""What keeps a driver from being loaded: modprobe.d(5), and kernel arguments.

Arguments: Linux' kernel-parameters.txt (`module_blacklist`), modprobe.d(5) (`modprobe.blacklist`),
dracut.cmdline(7) (`rd.driver.blacklist`, in older ones `rdblacklist`).
"""

import re
from collections.abc import Collection

from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.work import Work

MODPROBE_FILES = (
    "/etc/modprobe.conf",
    "/etc/modprobe.d/*",
    "/usr/lib/modprobe.d/*.conf",
    "/lib/modprobe.d/*.conf",
)
MARK = "# not on KVM (hyperctl): "

_IN_ARCHIVE = re.compile(r"(?:etc|lib|usr/lib)/modprobe\.d/[^/]+|etc/modprobe\.conf")
_BLACKLIST = re.compile(r"^\s*blacklist\s+(\S+)\s*(?:#.*)?$")
_NOTHING = r"(?:\S*/)?(?:false|true)|:|/dev/null|exit\s+\d+"
_INSTALL = re.compile(rf"^\s*install\s+(\S+)\s+(?:{_NOTHING})\s*(?:[;#|&>].*)?$")
_OFF = re.compile(r"^\s*alias\s+(\S+)\s+off\s*$")
_ARGUMENT = re.compile(
    r"(?<![ \t])(?P<gap>[ \t]*)(?<![\w.])(?P<key>(?:rd\.driver|modprobe|module)[._]blacklist|rdblacklist)="
    r"(?P<names>[\w,.-]+)"
)


def is_modprobe_file(path: str) -> bool:
    """Whether a file of an initramfs configures modprobe."""
    return _IN_ARCHIVE.fullmatch(path) is not None


def without_blacklists(text: str, modules: Collection[str]) -> str:
    """A file of modprobe.d(5) that lets these modules be loaded; what kept them away becomes a comment."""
    lines = []
    for line in text.splitlines(keepends=True):
        found = next((one for form in (_BLACKLIST, _INSTALL, _OFF) if (one := form.match(line))), None)
        kept_away = found is not None and _name(found[1]) in modules
        lines.append(f"{MARK}{line}" if kept_away else line)
    return "".join(lines)


def arguments_without_blacklists(text: str, modules: Collection[str]) -> str:
    """Kernel arguments, wherever they stand in a text, that let these modules be loaded."""

    def shortened(found: re.Match[str]) -> str:
        names = found["names"].split(",")
        kept = [name for name in names if _name(name) not in modules]
        if len(kept) == len(names):
            return found[0]
        return f"{found['gap']}{found['key']}={','.join(kept)}" if kept else ""

    return _ARGUMENT.sub(shortened, text)


def allow_modules(files: GuestFiles, modules: Collection[str], work: Work) -> None:
    """Let modprobe load these in the guest."""
    for path in files.matching(*MODPROBE_FILES):
        text = files.text(path)
        if text is not None and files.edit(path, without_blacklists(text, modules), work):
            work.done.append(f"{path} lets {'virtio' if 'virtio_pci' in modules else 'the drivers'} load")


def _name(module: str) -> str:
    return module.replace("-", "_")
