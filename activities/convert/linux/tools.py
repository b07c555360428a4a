"""VMware's tools, which have nothing to do on KVM, do not start any more.

They come as the distribution's packages (open-vm-tools), as VMware's own (vmware-tools-esx and others, from
repositories of VMware's), or from a tarball by vmware-install.pl. None is removed: what starts them is turned
off.
Formats: systemd.unit(5), insserv(8), OpenRC's runlevels, Upstart's init(5), xorg.conf(5), the Desktop
Application Autostart Specification, yum.conf(5), zypper(8), sources.list(5).
"""

import re
from collections.abc import Callable
from itertools import pairwise

from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.work import Work

RETIRED = ".before-hyperctl"
UNIT_FOLDERS = ("/lib/systemd/system", "/usr/lib/systemd/system", "/etc/systemd/system")
MASKS = "/etc/systemd/system"
UNITS = (
    "open-vm-tools.service",
    "vmtoolsd*.service",
    "vgauth*.service",
    "vmware-tools*.service",
    "vmware-vmblock-fuse.service",
    "run-vmblock*fuse.mount",
)
"""As glob patterns; `vmtoolsd@.service` stands for all its instances."""
SCRIPTS = ("open-vm-tools", "vmware-tools*", "vmtoolsd", "vgauthd")
RC_FOLDERS = ("/etc/rc[2345S].d", "/etc/rc.d/rc[2345S].d", "/etc/init.d/rc[2345S].d")
RUNLEVELS = "/etc/runlevels/*"
FILES = (
    "/etc/init/vmware-tools*.conf",
    "/etc/init/open-vm-tools.conf",
    "/etc/udev/rules.d/*vmware-scsi*.rules",
    "/etc/udev/rules.d/*vmware-tools*.rules",
    "/etc/modprobe.d/vmware-tools*.conf",
)
"""What takes effect by its name: another name turns it off."""
TARBALL = "/etc/vmware-tools/locations"
"""The tarball's list of what it has put where; a package's files are left to the package."""
FILES_OF_TARBALL = ("/etc/pam.d/vmtoolsd",)
AUTOSTARTS = ("/etc/xdg/autostart/vmware*.desktop", "/etc/xdg/autostart/open-vm-tools*.desktop")
MODULE_LISTS = ("/etc/modules", "/etc/modules-load.d/*.conf")
XORG = ("/etc/X11/xorg.conf", "/etc/X11/XF86Config", "/etc/X11/xorg.conf.d/*.conf")
XORG_DRIVERS = "/usr/lib*/xorg/modules/drivers/{}_drv.so"
REPOSITORIES = ("/etc/yum.repos.d/*.repo", "/etc/zypp/repos.d/*.repo")
SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d/*.list")
_DEVICE_NULL = "/dev/null"
_MODULES = frozenset(
    (
        *("vmhgfs", "vmmemctl", "vmblock", "vmsync", "vmxnet", "vmci", "pvscsi"),
        *("vmw_balloon", "vmw_vmci", "vmw_vsock_vmci_transport"),
    )
)
_OF_VMWARE = re.compile(r"vmware\.com/\S*tools", re.IGNORECASE)
_SECTION = re.compile(r"^\[[^\]\n]+\][^\n]*\n?", re.MULTILINE)
_ENABLED = re.compile(r"^([ \t]*enabled[ \t]*=[ \t]*)(?:1|yes|true)[ \t]*$", re.MULTILINE | re.IGNORECASE)
_IS_OFF = re.compile(r"^[ \t]*enabled[ \t]*=[ \t]*(?:0|no|false)[ \t]*$", re.MULTILINE | re.IGNORECASE)
_DEVICE = re.compile(
    r"^[ \t]*section[ \t]+\"device\".*?^[ \t]*endsection", re.MULTILINE | re.IGNORECASE | re.DOTALL
)
_DISPLAY = re.compile(r"^([ \t]*driver[ \t]+\")vmware\"", re.MULTILINE | re.IGNORECASE)
_BUS = re.compile(r"^([ \t]*)(busid[ \t])", re.MULTILINE | re.IGNORECASE)
_ENTRY = re.compile(r"^\[Desktop Entry\][ \t]*\n", re.MULTILINE)
_HIDDEN = re.compile(r"^Hidden[ \t]*=[ \t]*(\w+)[ \t]*\n?", re.MULTILINE)


def retire_vmware_tools(inspected: Inspected, work: Work) -> None:
    """Turn off what starts them, loads for them, or would put them in again."""
    files = inspected.files
    _mask_units(files, work)
    _stop_scripts(files, work)
    for path in files.matching(*FILES, *(FILES_OF_TARBALL if files.exists(TARBALL) else ())):
        files.guest.mv(path, f"{path}{RETIRED}")
        work.changed.append(path)
        work.done.append(f"{path} is out of use")
    display = _display_driver(files)
    edits: tuple[tuple[tuple[str, ...], Callable[[str], str], str], ...] = (
        (AUTOSTARTS, hidden, "does not start"),
        (MODULE_LISTS, without_modules, "loads none of their modules"),
        (XORG, lambda text: with_display_driver(text, display), f"uses the driver {display}"),
        (REPOSITORIES, without_repositories, "has no repository of them"),
        (SOURCES, without_sources, "has no source of them"),
    )
    for patterns, rewrite, what in edits:
        for path in files.matching(*patterns):
            text = files.text(path)
            if text is not None and files.edit(path, rewrite(text), work):
                work.done.append(f"{path} {what}")


def hidden(text: str) -> str:
    """A desktop entry that is not started with a session."""
    found = _HIDDEN.search(text)
    if found and found[1].lower() == "true":
        return text
    return _ENTRY.sub(lambda one: f"{one[0]}Hidden=true\n", _HIDDEN.sub("", text), count=1)


def without_modules(text: str) -> str:
    """A list of modules, modules-load.d(5), with VMware's commented out."""
    lines = text.splitlines(keepends=True)
    return "".join(
        f"# {line}" if line.split() and line.split()[0].replace("-", "_") in _MODULES else line
        for line in lines
    )


def with_display_driver(text: str, driver: str) -> str:
    """An xorg.conf(5) whose display is no VMware SVGA, and at no place of one."""

    def anywhere(device: re.Match[str]) -> str:
        if not _DISPLAY.search(device[0]):
            return device[0]
        return _BUS.sub(r"\1# \2", _DISPLAY.sub(lambda found: f'{found[1]}{driver}"', device[0]))

    return _DEVICE.sub(anywhere, text)


def without_repositories(text: str) -> str:
    """A .repo file with VMware's tools disabled; other repositories in it stay."""
    starts = [found.start() for found in _SECTION.finditer(text)]
    sections = pairwise([*starts, len(text)])
    before = text[: starts[0]] if starts else text
    return before + "".join(_disabled(text[start:end]) for start, end in sections)


def without_sources(text: str) -> str:
    """A sources.list(5) with VMware's tools commented out."""
    lines = text.splitlines(keepends=True)
    return "".join(
        f"# {line}" if line.lstrip().startswith("deb") and _OF_VMWARE.search(line) else line for line in lines
    )


def _disabled(section: str) -> str:
    if not _OF_VMWARE.search(section) or _IS_OFF.search(section):
        return section
    if _ENABLED.search(section):
        return _ENABLED.sub(r"\g<1>0", section)
    return _SECTION.sub(lambda found: f"{found[0]}enabled=0\n", section, count=1)


def _mask_units(files: GuestFiles, work: Work) -> None:
    patterns = [f"{folder}/{unit}" for folder in UNIT_FOLDERS for unit in UNITS]
    units = {path.rpartition("/")[2] for path in files.matching(*patterns)}
    for unit in sorted(units):
        mask = f"{MASKS}/{unit}"
        if files.links_to(mask) == _DEVICE_NULL:
            continue
        if files.exists(mask) and not files.links_to(mask):
            files.guest.mv(mask, f"{mask}{RETIRED}")
        files.guest.mkdir_p(MASKS)
        files.guest.ln_sf(_DEVICE_NULL, mask)
        work.changed.append(mask)
        work.done.append(f"{unit} masked")


def _stop_scripts(files: GuestFiles, work: Work) -> None:
    """SysV's links, under which a script is started, and OpenRC's."""
    links = files.matching(*(f"{folder}/S[0-9][0-9]{name}" for folder in RC_FOLDERS for name in SCRIPTS))
    stopped: dict[str, None] = {}
    for link in links:
        folder, name = link.rsplit("/", 1)
        if not files.is_there(link):  # its folder is a link to one that came before
            continue
        script = re.sub(r"^S[0-9][0-9]", "", name)
        files.guest.mv(link, f"{folder}/K01{script}")
        work.changed.append(link)
        stopped[script] = None
    for link in files.matching(*(f"{RUNLEVELS}/{name}" for name in SCRIPTS)):
        files.guest.rm(link)
        work.changed.append(link)
        stopped[link.rpartition("/")[2]] = None
    work.done += [f"{script}'s script is not started" for script in stopped]


def _display_driver(files: GuestFiles) -> str:
    """What drives a display that any hypervisor has, of what the guest's X server has."""
    drivers = ("modesetting", "vesa", "fbdev")
    there = (name for name in drivers if files.matching(XORG_DRIVERS.format(name)))
    return next(there, drivers[0])
