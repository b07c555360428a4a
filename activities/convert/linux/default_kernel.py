"""The kernel that is booted when nobody chooses: one that has virtio."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.drivers import drivers_for
from hyperctl.activities.convert.linux.entries import BootEntry, find_entries
from hyperctl.activities.convert.linux.grub_environment import saved_entry, with_saved_entry
from hyperctl.activities.convert.linux.kernels import Kernel, version_key
from hyperctl.activities.convert.linux.menus import (
    GRUB_CONFIGURATIONS,
    GRUB_ON_SYSTEM_PARTITION,
    LEGACY_MENUS,
    SYSLINUX_MENUS,
)
from hyperctl.activities.convert.linux.plain_menus import image_version, legacy_default, syslinux_defaults
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.machine import Firmware

GRUB_SETTINGS = "/etc/default/grub"
LOADER_CONFIGURATIONS = (
    "/boot/efi/loader/loader.conf",
    "/efi/loader/loader.conf",
    "/boot/loader/loader.conf",
)

DEEPEST = 16
"""So many menus may lie in one another; nobody has more."""
_MENU = re.compile(
    r"^\s*(?:(?P<kind>menuentry|submenu)\s+(?P<rest>(?:\S.*)?)\{\s*$"
    r"|linux(?:16|efi)?\s+(?P<kernel>\S+)|\}\s*$)"
)
_IDENTITY = re.compile(r"(?:\$menuentry_id_option|--id)\s+['\"]([^'\"]+)['\"]")
_TITLE = re.compile(r"^['\"]([^'\"]*)['\"]")
_SET_DEFAULT = re.compile(r"^([ \t]*set default=)\"(?!\$)([^\"]*)\"", re.MULTILINE)
_ANY_DEFAULT = re.compile(r"^[ \t]*(?:set\s+)?default=", re.MULTILINE)
_SET_SAVED = re.compile(r'^[ \t]*set default="\$\{saved_entry\}"', re.MULTILINE)
_READS_ENTRIES = re.compile(r"^[ \t]*blscfg\b", re.MULTILINE)
_GRUB_DEFAULT = re.compile(r"^([ \t]*GRUB_DEFAULT=).*$", re.MULTILINE)
_TRIES = re.compile(r"\+\d+(?:-\d+)?(?=\.(?:conf|efi)$)")
_NO_KERNEL = "no kernel's version"
"""None has a blank in it."""
_LOADER_DEFAULT = re.compile(r"^[ \t]*default\s+(\S+)[^\n]*\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """One entry of GRUB's menu that boots a kernel."""

    address: str
    """As `default` names it: `ID`, or `SUBMENU>ID`."""
    place: str
    """The same by numbers, `1>0`."""
    title: str
    """And by titles."""
    kernel: str


def ensure_default(inspected: Inspected, work: Work) -> None:
    """Let the newest kernel with virtio be the default where the default has none.

    Raises `StepFailed` where the loader's default cannot be told or set.
    """
    needed = drivers_for(inspected.order.hardware).needed
    able = [kernel.version for kernel in inspected.kernels if kernel.boots_with(needed)]
    without = {
        version
        for kernel in inspected.kernels
        if kernel.version not in able
        for version in (kernel.version, *map(image_version, kernel.names))
    }
    if without and able:
        _ensure(inspected, without, able, work)


def may_be_default(inspected: Inspected, kernel: Kernel) -> bool:
    """Whether a loader boots this kernel when nobody chooses, or that cannot be told."""
    work = Work()
    names = {kernel.version, *map(image_version, (kernel.image, *kernel.names))}
    try:
        _ensure(inspected, names, [_NO_KERNEL], work)
    except StepFailed:
        return True
    return bool(work.warnings)


def _ensure(inspected: Inspected, without: set[str], able: Sequence[str], work: Work) -> None:
    """`without` and `able` are versions of kernels, these the newest first."""
    entries = find_entries(inspected.files)
    images = unified_entries(inspected.kernels)
    if _ensured_in_menus_of_grub(inspected, entries, without, able, work):
        return
    if entries or images:
        top = re.split("/loader/entries/|/EFI/Linux/", (entries or images)[0].path)[0]
        there = [path for path in LOADER_CONFIGURATIONS if inspected.files.exists(path)]
        own = next(iter(there), f"{top}/loader/loader.conf")
        _ensure_in_loader(inspected, own, (*entries, *images), without, able, work)
        return
    if _ensured_in_plain_menu(inspected, without, able[0], work):
        return
    if inspected.kernels[0].version in without:
        raise StepFailed(_cannot(inspected.kernels[0].version, able[0]))


def _ensured_in_menus_of_grub(
    inspected: Inspected, entries: Sequence[BootEntry], without: set[str], able: Sequence[str], work: Work
) -> bool:
    """In each of them that has the guest's kernels, as nobody can say which of them the firmware's loader
    reads; says whether there is one.

    What cannot be set in one of several is a warning.
    """
    on_uefi = inspected.machine.firmware is Firmware.EFI
    places = (*GRUB_ON_SYSTEM_PARTITION, *GRUB_CONFIGURATIONS) if on_uefi else GRUB_CONFIGURATIONS
    installed = {kernel.version for kernel in inspected.kernels}
    menus: dict[str, list[MenuEntry]] = {}
    strange: dict[str, list[MenuEntry]] = {}
    for path in inspected.files.matching(*places):
        text = inspected.files.text(path) or ""
        if entries and _READS_ENTRIES.search(text):
            menus[path] = []
        elif menu := grub_menu(text):
            is_known = any(image_version(one.kernel) in installed for one in menu)
            (menus if is_known else strange)[path] = menu
    failures = []
    for path, menu in (menus or strange).items():
        try:
            if menu:
                _ensure_in_grub(inspected, path, menu, without, able[0], work)
            else:
                _ensure_in_entries_of_grub(inspected, path, entries, without, able, work)
        except StepFailed as failure:
            failures.append(f"{path}: {failure}")
    if failures and len(failures) == len(menus or strange):
        raise StepFailed(failures[0])
    work.warnings += failures
    return bool(menus or strange)


def unified_entries(kernels: Sequence[Kernel]) -> tuple[BootEntry, ...]:
    """What systemd-boot's menu has of unified kernel images, for which there are no files of entries."""
    return tuple(
        BootEntry(path, kernel.version, path, ())
        for kernel in kernels
        for path in kernel.unified
        if "/EFI/Linux/" in path
    )


def grub_menu(text: str) -> list[MenuEntry]:
    """The entries of a grub.cfg as grub-mkconfig writes it, in its order."""
    found: list[MenuEntry] = []
    above: list[tuple[str, int, str, bool]] = []
    counters = [0]
    for line in text.splitlines():
        part = _MENU.match(line)
        if not part:
            continue
        if part["kind"]:
            identity = _IDENTITY.search(part["rest"]) or _TITLE.search(part["rest"])
            title = _TITLE.search(part["rest"])
            above.append(
                (
                    identity[1] if identity else "",
                    counters[-1],
                    title[1] if title else "",
                    part["kind"] == "submenu",
                )
            )
            counters[-1] += 1
            counters.append(0)
        elif part["kernel"]:
            if above and not above[-1][3] and len(above) <= DEEPEST:
                address, place, titles = (">".join(str(one[n]) for one in above) for n in range(3))
                found.append(MenuEntry(address, place, titles, part["kernel"]))
        elif above:
            above.pop()
            counters.pop()
    return found


def _ensure_in_grub(
    inspected: Inspected,
    path: str,
    menu: Sequence[MenuEntry],
    without: set[str],
    able: str,
    work: Work,
) -> None:
    files = inspected.files
    text = files.text(path) or ""
    found = _SET_DEFAULT.search(text)
    environment = f"{path.rpartition('/')[0]}/grubenv"
    block = files.text(environment) or ""
    saved = found is None and _SET_SAVED.search(text) is not None
    default = found[2] if found else saved_entry(block)
    booted = next((one for one in menu if default in (one.address, one.place, one.title)), None)
    unset = _ANY_DEFAULT.search(text) is None
    if booted is None and (saved or unset or default == "0"):
        booted = menu[0]
    if booted is not None and image_version(booted.kernel) not in without:
        return
    wanted = next((one for one in menu if image_version(one.kernel) == able), None)
    if not (found or saved or unset) or wanted is None:
        raise StepFailed(_cannot(inspected.kernels[0].version, able))
    if saved:
        files.edit(environment, with_saved_entry(block, wanted.address), work)
        work.done.append(f"{path} has {able} as its default kernel, which has the drivers")
        return
    line = f'set default="{wanted.address}"\n'
    changed = _SET_DEFAULT.sub(lambda one: f'{one[1]}"{wanted.address}"', text, count=1)
    files.edit(path, f"{line}{text}" if unset else changed, work)
    settings = files.text(GRUB_SETTINGS)
    if settings is not None:
        files.edit(
            GRUB_SETTINGS, _GRUB_DEFAULT.sub(lambda one: f'{one[1]}"{wanted.address}"', settings), work
        )
    work.done.append(f"{path} has {able} as its default kernel, which has the drivers")


def _ensure_in_entries_of_grub(
    inspected: Inspected,
    path: str,
    entries: Sequence[BootEntry],
    without: set[str],
    able: Sequence[str],
    work: Work,
) -> None:
    """Red Hat's GRUB, whose command blscfg makes its menu of boot entries: the newest first, or the saved."""
    environment = f"{path.rpartition('/')[0]}/grubenv"
    block = inspected.files.text(environment) or ""
    saved = saved_entry(block)
    menu = sorted(entries, key=lambda one: version_key(one.name), reverse=True)
    by_number = menu[int(saved)] if saved.isdigit() and int(saved) < len(menu) else menu[0]
    booted = next((one for one in menu if one.name.removesuffix(".conf") == saved), by_number)
    wanted = _in_its_place(booted, menu, without, able)
    if wanted is None:
        return
    name = wanted.name.removesuffix(".conf")
    inspected.files.edit(environment, with_saved_entry(block, name), work)
    work.done.append(f"{path} has {name} as its default entry, whose kernel has the drivers")


def _ensure_in_loader(
    inspected: Inspected,
    path: str,
    entries: Sequence[BootEntry],
    without: set[str],
    able: Sequence[str],
    work: Work,
) -> None:
    """systemd-boot takes the newest where its loader.conf(5) names none."""
    text = inspected.files.text(path) or ""
    named = _LOADER_DEFAULT.search(text)
    newest_first = sorted(entries, key=lambda one: version_key(one.version), reverse=True)
    pattern = named[1] if named else "*"
    booted = next((one for one in newest_first if fnmatchcase(_identity(one), pattern)), newest_first[0])
    wanted = _in_its_place(booted, newest_first, without, able)
    if wanted is None:
        return
    inspected.files.edit(path, f"default {_identity(wanted)}\n{_LOADER_DEFAULT.sub('', text)}", work)
    work.done.append(f"{wanted.version} is the default kernel, which has the drivers")


def _in_its_place(
    booted: BootEntry, menu: Sequence[BootEntry], without: set[str], able: Sequence[str]
) -> BootEntry | None:
    """The entry to boot where this one's kernel has no drivers. `StepFailed` where the menu has none."""
    if not without & set(booted.versions):
        return None
    wanted = next((one for version in able for one in menu if version in one.versions), None)
    if wanted is None:
        raise StepFailed(_cannot(booted.version, able[0]))
    return wanted


def _identity(entry: BootEntry) -> str:
    """By which systemd-boot knows it: without the tries that a name counts (Automatic Boot Assessment)."""
    return _TRIES.sub("", entry.name)


def _ensured_in_plain_menu(inspected: Inspected, without: set[str], able: str, work: Work) -> bool:
    """GRUB legacy and the syslinux family; says whether there is such a menu."""
    files = inspected.files
    for patterns in (LEGACY_MENUS, *SYSLINUX_MENUS):
        paths = dict.fromkeys(path for pattern in patterns for path in files.matching(pattern))
        if patterns is LEGACY_MENUS and inspected.machine.firmware is Firmware.BIOS:
            paths = dict.fromkeys(path for path in paths if path.startswith("/boot/grub/"))
        texts = {path: text for path in paths if (text := files.text(path)) is not None}
        if not texts:
            continue
        if patterns is LEGACY_MENUS:
            changed = _legacy_menus(texts, inspected, without, able, work)
        else:
            changed = syslinux_defaults(texts, without, able) or {}
        if not changed:
            raise StepFailed(_cannot(inspected.kernels[0].version, able))
        edited = [path for path, text in changed.items() if files.edit(path, text, work)]
        if edited:
            work.done.append(f"{able} is the default kernel, which has virtio")
        return True
    return False


def _legacy_menus(
    texts: Mapping[str, str], inspected: Inspected, without: set[str], able: str, work: Work
) -> dict[str, str]:
    """Each of GRUB legacy's menus, as which of them it reads stands in its stage 2. What cannot be set in one
    of several is a warning; all of them, and nothing comes back."""
    changed = {}
    for path, text in texts.items():
        saved = inspected.files.text(f"{path.rpartition('/')[0]}/default") or ""
        menu = legacy_default(text, without, able, saved)
        if menu is not None:
            changed[path] = menu
    if changed:
        cannot = _cannot(inspected.kernels[0].version, able)
        work.warnings += [f"{path}: {cannot}" for path in texts if path not in changed]
    return changed


def _cannot(default: str, able: str) -> str:
    return (
        f"the kernel that is booted, {default}, lacks the disks' drivers ({able} has them), and the boot "
        "loader's default could not be changed: make another the default in the source"
    )
