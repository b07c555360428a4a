"""systemd's units that name disks, by names that stay true: what they mount, are called and wait for.

Formats: systemd.mount(5), systemd.swap(5), systemd.device(5), systemd.unit(5).
"""

import re

from hyperctl.activities.convert.devices import StableNames
from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.linux.arguments import linked
from hyperctl.activities.convert.linux.unit_names import renamed_units
from hyperctl.activities.convert.work import Work

FOLDER = "/etc/systemd/system"
FILES = (f"{FOLDER}/*", f"{FOLDER}/*.d/*.conf")
_WHAT = re.compile(r"^([ \t]*What[ \t]*=[ \t]*)(/dev/\S+)", re.MULTILINE)
_DEPENDENCIES = re.compile(
    r"^[ \t]*(?:After|Before|Requires|Requisite|BindsTo|BindTo|PartOf|Wants|Upholds|Conflicts|WantedBy"
    r"|RequiredBy|Also)[ \t]*=(?:[^\n\\]|\\\n|\\[^\n])*",
    re.MULTILINE,
)


def stable_unit(text: str, names: StableNames) -> tuple[str, list[str]]:
    """A unit that has devices by the paths, and their units by the names, that stay true; the second part are
    the devices that could not be resolved."""
    text, unknown = linked(_WHAT, text, names)
    return _DEPENDENCIES.sub(lambda found: renamed_units(found[0], names.lasting), text), unknown


def fix_units(files: GuestFiles, names: StableNames, work: Work) -> None:
    """Units in /etc with what belongs to them. A swap's name has to be that of its device."""
    for path in files.matching(*FILES):
        text = None if files.links_to(path) else files.text(path)
        if text is None:
            continue
        changed, unknown = stable_unit(text, names)
        work.warnings += [f"{path}: {name} is on none of the copied disks" for name in unknown]
        if files.edit(path, changed, work):
            work.done.append(f"{path} by UUID")
    for path in reversed(files.matching(f"{FOLDER}/*dev-*", f"{FOLDER}/*/*dev-*")):  # before their folders
        folder, _, name = path.rpartition("/")
        new = f"{folder}/{renamed_units(name, names.lasting)}"
        if new == path or files.is_there(new):
            continue
        if target := files.links_to(path):
            files.relink(path, new, renamed_units(target, names.lasting), work)
        else:
            files.move(path, new, work)
        work.done.append(f"{path} is called {new.rpartition('/')[2]}")
