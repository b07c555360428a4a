"""qemu-guest-agent starts where the guest has it, and is put in where a folder of packages is given.

Formats: systemd.unit(5), systemd.device(5) and udev(7) for the port that it waits for; chkconfig(8) and LSB's
comments of init scripts; OpenRC's runlevels.
"""

import re

from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.packages import install_agent
from hyperctl.activities.convert.work import Work

UNIT = "qemu-guest-agent.service"
UNIT_FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
OWN_UNITS = "/etc/systemd/system"
RULES = (
    "/etc/udev/rules.d/*qemu-guest-agent*.rules",
    "/usr/lib/udev/rules.d/*qemu-guest-agent*.rules",
    "/lib/udev/rules.d/*qemu-guest-agent*.rules",
)
SCRIPTS = ("qemu-guest-agent", "qemu-ga")
INIT = "/sbin/init"
SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
_WANTED_BY = re.compile(r"^[ \t]*(WantedBy|RequiredBy)[ \t]*=[ \t]*(\S[^\n]*)$", re.MULTILINE)
_CHKCONFIG = re.compile(r"^#[ \t]*chkconfig:[ \t]*(\d+)[ \t]+(\d+)[ \t]+(\d+)", re.MULTILINE)
_DEFAULT_START = re.compile(r"^#[ \t]*Default-Start:[ \t]*([\dS \t]+)$", re.MULTILINE)


def enable_guest_agent(inspected: Inspected, work: Work) -> None:
    """Have it start. A guest that has none, and is given none, is left as it is."""
    files = inspected.files
    folder = inspected.order.guest_packages
    if folder is not None and not is_installed(files):
        install_agent(inspected, folder, work)
    if unit := _unit(files):
        _enable_unit(files, unit, work)
    elif script := _script(files):
        _enable_script(files, script, work)
    else:
        work.done.append("the guest has no qemu-guest-agent")


def is_installed(files: GuestFiles) -> bool:
    return bool(_unit(files) or _script(files))


def _unit(files: GuestFiles) -> str:
    """Its path; a mask is none."""
    if not _boots_systemd(files):
        return ""
    paths = (f"{folder}/{UNIT}" for folder in UNIT_FOLDERS)
    return next((path for path in paths if files.text(path) is not None), "")


def _boots_systemd(files: GuestFiles) -> bool:
    """Which may be installed where another init is used."""
    if files.is_there(INIT):
        return "systemd" in files.links_to(INIT)
    return any(files.exists(path) for path in SYSTEMD)


def _script(files: GuestFiles) -> str:
    return next((name for name in SCRIPTS if files.exists(f"/etc/init.d/{name}")), "")


def _enable_unit(files: GuestFiles, unit: str, work: Work) -> None:
    if files.links_to(f"{OWN_UNITS}/{UNIT}") == "/dev/null":
        work.warnings.append(f"{UNIT} is masked in the guest, and stays so")
        return
    wanted = [
        (target, how)
        for how, targets in _WANTED_BY.findall(files.text(unit) or "")
        for target in targets.split()
    ]
    if not wanted and any(UNIT in (files.text(path) or "") for path in files.matching(*RULES)):
        work.done.append("qemu-guest-agent starts with its port")
        return
    for target, how in wanted or [("multi-user.target", "WantedBy")]:
        link = f"{OWN_UNITS}/{target}.{'wants' if how == 'WantedBy' else 'requires'}/{UNIT}"
        if files.is_there(link):
            continue
        files.guest.mkdir_p(link.rpartition("/")[0])
        files.guest.ln_s(_as_the_guest_links(files, unit), link)
        work.changed.append(link)
        work.done.append("qemu-guest-agent starts with the guest")


def _as_the_guest_links(files: GuestFiles, unit: str) -> str:
    """The unit's path as this guest's systemctl would write it: /lib or /usr/lib, where one is the other."""
    inner = unit.removeprefix("/usr")
    if unit.startswith("/etc/") or not (files.exists(inner) and files.exists(f"/usr{inner}")):
        return unit
    targets = [files.links_to(path) for path in files.matching(f"{OWN_UNITS}/*.wants/*")]
    return inner if any(one.startswith("/lib/") for one in targets) else f"/usr{inner}"


def _enable_script(files: GuestFiles, name: str, work: Work) -> None:
    if files.is_folder("/etc/runlevels/default"):
        link = f"/etc/runlevels/default/{name}"
        if not files.is_there(link):
            files.guest.ln_s(f"/etc/init.d/{name}", link)
            work.changed.append(link)
            work.done.append("qemu-guest-agent starts with the guest")
        return
    text = files.text(f"/etc/init.d/{name}") or ""
    levels, start, stop = start_levels(text)
    links = files.matching(f"/etc/rc[0-6].d/[SK][0-9][0-9]{name}")
    if any(re.search(r"/S\d\d[^/]*$", link) for link in links):
        work.done.append("qemu-guest-agent starts with the guest already")
        return
    if links:
        work.warnings.append(f"/etc/init.d/{name} is turned off in the guest, and stays so")
        return
    for level in "0123456":
        if files.is_folder(f"/etc/rc{level}.d"):
            link = f"/etc/rc{level}.d/{f'S{start}' if level in levels else f'K{stop}'}{name}"
            files.guest.ln_s(f"../init.d/{name}", link)
            work.changed.append(link)
    work.done.append("qemu-guest-agent starts with the guest")


def start_levels(script: str) -> tuple[str, str, str]:
    """The runlevels that an init script is for, and its places at start and stop: `("2345", "01", "01")`."""
    if found := _CHKCONFIG.search(script):
        return found[1], found[2].zfill(2), found[3].zfill(2)
    levels = _DEFAULT_START.search(script)
    return (levels[1].replace(" ", "") if levels else "2345"), "01", "01"
