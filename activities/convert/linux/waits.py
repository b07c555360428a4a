"""What dracut has an initramfs wait for: devices by the names that they had when it was made.

Sources: dracut's wait_for_dev and get_persistent_dev, systemd.unit(5).
"""

import re
import stat
from collections.abc import Callable

from hyperctl.activities.convert.linux.cpio import Archive, Entry
from hyperctl.activities.convert.linux.unit_names import renamed_units

_HOOK = re.compile(r"(?:(?:usr|var)/)?lib/dracut/hooks/[^\n]*\.sh")
_UNIT = re.compile(r"(?P<folder>(?:etc|(?:usr/)?lib)/systemd/system)/(?P<rest>[^\n]+)")
_DEVICE = re.compile(
    r"(?<![\w/.-])/dev/(?:disk/by-(?:path|id)/(?:\\x[0-9a-f]{2}|[^\s\"'\\;)\]])+"
    r"|(?:sd|hd)[a-z]{1,2}\d*(?![\w-])|nvme\d+n\d+(?:p\d+)?(?![\w-]))"
)
NOWHERE = b"/dev/null"


def is_hook(path: str) -> bool:
    """Whether it is a file of what dracut's scripts look for, and what they say when it does not come."""
    return _HOOK.fullmatch(path) is not None


def hook_for(text: str, stable: Callable[[str], str | None]) -> str:
    """The same for the devices as `stable` names them, where it does."""
    return _DEVICE.sub(lambda found: stable(found[0]) or found[0], text)


def units_for(archive: Archive, stable: Callable[[str], str | None]) -> list[Entry]:
    """What replaces the units of devices that systemd waits for in there. Those of old names cannot be
    removed by what is put behind an archive; they are masked."""
    made = []
    for path, entry in archive.entries.items():
        found = _UNIT.fullmatch(path)
        renamed = renamed_units(found["rest"], stable) if found else ""
        data = bytes(entry.data)
        if not found or renamed == found["rest"] or entry.is_folder or data == NOWHERE:
            continue
        folder, old, new = found["folder"], found["rest"].rpartition("/"), renamed.rpartition("/")
        if entry.is_link:
            data = data.replace(old[2].encode(), new[2].encode())
        if f"{folder}/{renamed}" not in archive.entries:
            made.append(Entry(f"{folder}/{renamed}", entry.mode, data))
        is_wait = old[0].endswith(".wants") and old[2].endswith(".device")
        if is_wait and f"{folder}/{old[2]}" not in archive.entries:
            made.append(Entry(f"{folder}/{old[2]}", stat.S_IFLNK | 0o777, NOWHERE))
    return made
