"""The guest's own settings for its initramfs, so that its next rebuild has the drivers too.

Formats: initramfs-tools(7), dracut.conf(5), mkinitcpio.conf(5), SUSE's /etc/sysconfig/kernel, Alpine's
mkinitfs(1), and modprobe.conf(5) as Red Hat's mkinitrd reads it.
"""

import re
from collections.abc import Sequence

from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.arguments import stable_arguments
from hyperctl.activities.convert.linux.drivers import Drivers
from hyperctl.activities.convert.work import Work

INITRAMFS_TOOLS_MODULES = "/etc/initramfs-tools/modules"
INITRAMFS_TOOLS_SETTINGS = ("/etc/initramfs-tools/conf.d/*", "/etc/initramfs-tools/initramfs.conf")
DRACUT_OWN = "/etc/dracut.conf.d/50-hyperctl-virtio.conf"
DRACUT = ("/etc/dracut.conf", "/etc/dracut.conf.d/*.conf")
MKINITCPIO = "/etc/mkinitcpio.conf"
MKINITCPIO_FILES = (MKINITCPIO, "/etc/mkinitcpio.conf.d/*.conf")
PRESETS = "/etc/mkinitcpio.d/*.preset"
SUSE = "/etc/sysconfig/kernel"
MKINITFS = "/etc/mkinitfs/mkinitfs.conf"
MODPROBE_CONF = "/etc/modprobe.conf"

_OMITTED = re.compile(r"^([ \t]*omit_drivers\+?=)([\"'])([^\"'\n]*)\2", re.MULTILINE)
_ARRAY = re.compile(r"^([ \t]*MODULES\+?=\()([^)]*)\)", re.MULTILINE)
_STRING = re.compile(r"^([ \t]*MODULES\+?=\")([^\"]*)\"", re.MULTILINE)
_FEATURES = re.compile(r"^([ \t]*features=)(?:([\"'])([^\"']*)\2|([^\s\"'#;]*))(?=[\s;]|\Z)", re.MULTILINE)
_PRESET_CONFIGURATION = re.compile(r"^[ \t]*\w+_config=[\"']?([^\"'\s]+)", re.MULTILINE)
_INITRD_MODULES = re.compile(r"^([ \t]*INITRD_MODULES=\")([^\"]*)\"", re.MULTILINE)
_ADAPTER = re.compile(
    r"^([ \t]*alias[ \t]+scsi_hostadapter\d*[ \t]+)"
    r"(?:mptspi|mptscsih|mptsas|mptbase|BusLogic|vmw_pvscsi|pvscsi|ata_piix|ahci)[ \t]*$",
    re.MULTILINE,
)
_ETHERNET = re.compile(
    r"^([ \t]*alias[ \t]+eth\d+[ \t]+)(?:vmxnet3?|vmnet|pcnet32|e1000e?|virtio_net)[ \t]*$", re.MULTILINE
)


def agree(inspected: Inspected, drivers: Drivers, work: Work) -> None:
    """Set what the guest has of these files. A tool that is not the guest's gets no file of its own."""
    files, names = inspected.files, drivers.all

    def edit(path: str, text: str) -> None:
        if files.edit(path, text, work):
            work.done.append(f"{path} keeps them")

    tool = inspected.system.initramfs_tool
    if tool == "initramfs-tools":
        text = files.text(INITRAMFS_TOOLS_MODULES) or ""
        edit(INITRAMFS_TOOLS_MODULES, with_lines(text, names))
        for path in files.matching(*INITRAMFS_TOOLS_SETTINGS):
            files.edit(path, stable_arguments(files.text(path) or "", inspected.names), work)
    elif tool == "dracut":
        for path in files.matching(*DRACUT):
            edit(path, nothing_omitted(files.text(path) or "", names))
        files.edit(DRACUT_OWN, f'add_drivers+=" {" ".join(names)} "\n', work)
    elif tool == "mkinitcpio":
        named = {
            found
            for preset in files.matching(PRESETS)
            for found in _PRESET_CONFIGURATION.findall(files.text(preset) or "")
        }
        there = {path for path in named if files.exists(path)}
        for path in sorted(there.union(files.matching(*MKINITCPIO_FILES))):
            edit(path, with_modules(files.text(path) or "", names, is_main=path == MKINITCPIO))
    elif tool == "mkinitfs":
        wanted = features_for(drivers.storage)
        listed = with_features(files.text(MKINITFS) or "", wanted)
        if listed is None:
            work.warnings.append(
                f"{MKINITFS} has no list of features that can be read: see to it that the guest's next "
                f"initramfs has {' and '.join(wanted)}"
            )
        else:
            edit(MKINITFS, listed)
    elif tool == "mkinitrd" and files.exists(SUSE):
        able = [kernel for kernel in inspected.kernels if kernel.boots_with(drivers.needed)]
        known = [name for name in names if all(name in kernel.modules for kernel in able)]
        edit(SUSE, with_initrd_modules(files.text(SUSE) or "", known))
    if files.exists(MODPROBE_CONF):
        edit(MODPROBE_CONF, adapters_of(files.text(MODPROBE_CONF) or "", drivers))


def with_lines(text: str, names: Sequence[str]) -> str:
    """A list of modules with these in it."""
    listed = {line.split()[0].replace("-", "_") for line in text.splitlines() if line.strip()}
    missing = [name for name in names if name not in listed]
    if not missing:
        return text
    end = "" if text.endswith("\n") or not text else "\n"
    return f"{text}{end}{''.join(f'{name}{chr(10)}' for name in missing)}"


def nothing_omitted(text: str, names: Sequence[str]) -> str:
    """dracut.conf(5) whose `omit_drivers`, which wins over `add_drivers`, leaves these in."""

    def shortened(found: re.Match[str]) -> str:
        kept = [word for word in found[3].split() if not any(_omits(word, name) for name in names)]
        if len(kept) == len(found[3].split()):
            return found[0]
        return f"{found[1]}{found[2]} {' '.join(kept)} {found[2]}"

    return _OMITTED.sub(shortened, text)


def with_modules(text: str, names: Sequence[str], *, is_main: bool) -> str:
    """mkinitcpio.conf(5): every assignment of MODULES has them, the old form `MODULES="..."` too.

    The main file gets an assignment where it has none; another file is left to it.
    """

    def extended(found: re.Match[str]) -> str:
        return f"{found[1]}{_with_words(found[2], names)}{found[0][-1]}"

    if not (_ARRAY.search(text) or _STRING.search(text)):
        end = "" if text.endswith("\n") or not text else "\n"
        return f"{text}{end}MODULES=({' '.join(names)})\n" if is_main else text
    return _STRING.sub(extended, _ARRAY.sub(extended, text))


def features_for(names: Sequence[str]) -> tuple[str, ...]:
    """mkinitfs' groups of modules that have these drivers of disks."""
    groups = {"ahci": "ata", "sd_mod": "scsi"}
    return tuple(dict.fromkeys(groups.get(name, "virtio") for name in names))


def with_features(text: str, wanted: Sequence[str]) -> str | None:
    """mkinitfs.conf whose list has these features; None where it has no list."""

    def extended(found: re.Match[str]) -> str:
        before, quote = found[3] or found[4] or "", found[2] or '"'
        after = _with_words(before, wanted)
        return found[0] if after == before else f"{found[1]}{quote}{after}{quote}"

    return _FEATURES.sub(extended, text) if _FEATURES.search(text) else None


def with_initrd_modules(text: str, names: Sequence[str]) -> str:
    """SUSE's /etc/sysconfig/kernel: mkinitrd puts INITRD_MODULES in, loads them, and fails for one that a
    kernel does not have."""
    if not _INITRD_MODULES.search(text):
        end = "" if text.endswith("\n") or not text else "\n"
        return f'{text}{end}INITRD_MODULES="{" ".join(names)}"\n'
    return _INITRD_MODULES.sub(lambda found: f'{found[1]}{_with_words(found[2], names)}"', text)


def adapters_of(text: str, drivers: Drivers) -> str:
    """modprobe.conf as Red Hat's mkinitrd reads it: the first adapter's driver is what it puts in."""
    disk = next(name for name in drivers.storage if name not in ("virtio_pci", "sd_mod"))
    text = _ADAPTER.sub(lambda found: f"{found[1]}{disk}", text)
    return _ETHERNET.sub(lambda found: f"{found[1]}{drivers.nic}", text)


def _with_words(text: str, names: Sequence[str]) -> str:
    """A shell's list of words with these behind it; a comment ends with its line."""
    words = [word for line in text.splitlines() for word in line.partition("#")[0].split()]
    known = {word.rstrip("?").replace("-", "_") for word in words}
    missing = " ".join(name for name in names if name not in known)
    if not missing:
        return text
    gap = "\n" if "#" in text.rpartition("\n")[2] else " " if text.strip() and not text[-1].isspace() else ""
    return f"{text}{gap}{missing}"


def _omits(pattern: str, name: str) -> bool:
    """dracut takes each word for a regular expression, with either kind of dash."""
    try:
        return re.fullmatch(pattern.replace("-", "_"), name) is not None
    except re.error:
        return pattern.replace("-", "_") == name
