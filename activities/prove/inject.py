"""Puts the reporter into throw-away overlays; a process of its own, so that a cancel can kill it.

Reads an `Injection` as JSON on stdin and prints an `Injected` as JSON. The guest's filesystems are opened in
libguestfs' appliance only. Run as `python -m hyperctl.activities.prove.inject`.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import guestfs
from pydantic import BaseModel, ConfigDict

from hyperctl.activities.convert.disk_keys import read_disk_keys
from hyperctl.activities.convert.encrypted import KEY_DERIVATION_MEMORY_MIB, open_encrypted
from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.linux.selinux import AUTORELABEL, is_on, label_of, set_label
from hyperctl.activities.convert.storage import Probe
from hyperctl.activities.convert.work import Work
from hyperctl.activities.prove import reporter

GRUB_CONFIGURATIONS = ("/grub/grub.cfg", "/boot/grub/grub.cfg", "/grub2/grub.cfg", "/boot/grub2/grub.cfg")
SYSLINUX_FOLDERS = ("/extlinux", "/boot/extlinux", "/syslinux", "/boot/syslinux")
BLS_FOLDERS = ("/loader/entries", "/boot/loader/entries")
DHCP_CLIENTS = ("/etc/dhcp/dhclient.conf", "/etc/dhclient.conf")
MANAGER_FOLDER = "/etc/systemd/system.conf.d"
INITS = ("/sbin/init", "/usr/sbin/init", "/usr/bin/init")
LARGEST_CONFIGURATION_BYTES = 4 << 20
SERIAL_CONSOLE = "console=tty0 console=ttyS0,115200"
NO_SPLASH = "plymouth.enable=0"
"""plymouth would ask for a disk's passphrase on a screen of its own."""

_GRUB_LINE = re.compile(r"^([ \t]*(?:linux|linux16|linuxefi)[ \t]+\S[^\n]*)$", re.MULTILINE)
_ENTRY_LINE = re.compile(r"^([ \t]*(?:options|append)[ \t]+\S[^\n]*)$", re.MULTILINE | re.IGNORECASE)
_MENU_WAITS = re.compile(r"^([ \t]*set timeout=)[1-9][0-9]*[ \t]*$", re.MULTILINE)
_IS_ENTRY = re.compile(r"^[ \t]*(?:options|append)[ \t]", re.MULTILINE | re.IGNORECASE)
"""A boot loader entry has its kernel's arguments in a line of its own, and nothing but a path after `linux`;
so has an entry of the syslinux family."""


class Injection(BaseModel):
    model_config = ConfigDict(frozen=True)

    disks: tuple[str, ...]
    """The overlays, qcow2, in the guest's order."""
    patience_seconds: int = 0
    """For how long the guest's systemd waits for devices and services; 0 leaves that to the guest."""
    machine_name: str = ""
    disk_keys_file: Path | None = None
    """Keys of encrypted disks; read by this process itself, so that they travel nowhere."""


class Injected(BaseModel):
    model_config = ConfigDict(frozen=True)

    roots: tuple[str, ...] = ()
    """The filesystems that got the reporter."""
    without_systemd: tuple[str, ...] = ()
    """Root filesystems of systems that the reporter cannot run on."""
    boot_entries: tuple[str, ...] = ()
    """Boot loader files that were edited for the trial."""
    keys_used: tuple[int, ...] = ()
    """Which of the worker's keys have opened the disks, by their place."""
    relabels: int = 0
    """How many files a guest first labels for SELinux, before it boots again; 0 where it does not."""
    notes: tuple[str, ...] = ()


def for_trial(configuration: str, *, is_asked_for_keys: bool = False) -> str:
    """A GRUB or boot loader entry file whose kernels also speak on the first serial port.

    Lines that name a console already are the owner's choice and stay. A menu that would go on by itself does
    so at once.
    """

    def extended(found: re.Match[str]) -> str:
        line = found[1]
        more = [] if "console=" in line else [SERIAL_CONSOLE]
        more += [NO_SPLASH] if is_asked_for_keys and NO_SPLASH not in line else []
        return " ".join([line, *more])

    line = _ENTRY_LINE if _IS_ENTRY.search(configuration) else _GRUB_LINE
    return _MENU_WAITS.sub(r"\g<1>0", line.sub(extended, configuration))


def inject(injection: Injection) -> Injected:
    """One appliance launch; every filesystem that looks like a system's root gets the reporter."""
    keys = read_disk_keys(injection.disk_keys_file, injection.machine_name)
    guest = guestfs.GuestFS(python_return_dict=True)
    try:
        for disk in injection.disks:
            guest.add_drive_opts(disk, format="qcow2", cachemode="unsafe")
        if keys:
            guest.set_memsize(max(guest.get_memsize(), KEY_DERIVATION_MEMORY_MIB))
        guest.launch()
        encryption = open_encrypted(guest, keys)
        roots: list[str] = []
        without: list[str] = []
        entries: list[str] = []
        notes: list[str] = []
        relabels, files = False, 0
        for filesystem, kind in _filesystems(guest, encryption.devices):
            try:
                guest.mount(filesystem, "/")
                try:
                    if _is_root(guest):
                        if _has_systemd(guest):
                            _put_reporter(guest)
                            _slow_down(guest, injection.patience_seconds)
                            _wait_less(guest, injection.patience_seconds)
                            roots.append(filesystem)
                        else:
                            without.append(filesystem)
                        relabels |= bool(guest.exists(AUTORELABEL)) and is_on(GuestFiles(guest))
                    space = guest.statvfs("/")
                    files += space["files"] - space["ffree"]  # btrfs does not count them
                    entries += edit_for_trial(guest, filesystem, bool(encryption.used))
                finally:
                    guest.umount_all()
            except RuntimeError as error:
                notes.append(f"{filesystem} ({kind}): {error}")
        guest.shutdown()
    finally:
        guest.close()
    return Injected(
        roots=tuple(roots),
        without_systemd=tuple(without),
        boot_entries=tuple(entries),
        keys_used=encryption.used,
        relabels=max(1, files) if relabels else 0,
        notes=tuple(notes),
    )


def _filesystems(guest: guestfs.GuestFS, devices: Mapping[str, Probe]) -> Iterator[tuple[str, str]]:
    """What may be mounted, subvolumes too, each with its kind.

    libguestfs' own list asks for every partition's type as well, which takes longer than all else here.
    """
    for device, probe in devices.items():
        kind = probe.facts.get("TYPE", "")
        if kind in ("swap", "") or kind.endswith("_member") or kind.startswith("crypto"):
            continue
        yield device, kind
        if kind == "btrfs":
            try:
                default = guest.btrfs_subvolume_get_default(device)
                subvolumes = guest.btrfs_subvolume_list(device)
            except RuntimeError:  # it is not mounted either, which is noted
                continue
            for one in subvolumes:
                if one["btrfssubvolume_id"] != default:
                    yield f"btrfsvol:{device}/{one['btrfssubvolume_path']}", kind


def _is_root(guest: guestfs.GuestFS) -> bool:
    return bool(guest.is_dir("/etc")) and any(
        guest.exists(path) for path in ("/etc/os-release", "/usr/lib/os-release", "/etc/fstab")
    )


def _has_systemd(guest: guestfs.GuestFS) -> bool:
    """Whether it is what the kernel starts: packages leave files for systemd on every system."""
    for path in INITS:
        if guest.is_symlink(path):
            return bool(guest.readlink(path).rpartition("/")[2] == "systemd")
        if guest.is_file(path):
            return False
    return bool(guest.is_dir(reporter.UNIT_FOLDER))


def _put_reporter(guest: guestfs.GuestFS) -> None:
    unit = f"{reporter.UNIT_FOLDER}/{reporter.UNIT_NAME}"
    guest.mkdir_p(reporter.FOLDER)
    guest.write(reporter.SCRIPT_PATH, reporter.SCRIPT.encode())
    guest.chmod(0o755, reporter.SCRIPT_PATH)
    guest.write(unit, reporter.UNIT.encode())
    made = [reporter.FOLDER, reporter.SCRIPT_PATH, unit]
    for target in reporter.WANTED_BY:
        wants = f"{reporter.UNIT_FOLDER}/{target}.wants"
        guest.mkdir_p(wants)
        guest.ln_sf(unit, f"{wants}/{reporter.UNIT_NAME}")
        made += [wants, f"{wants}/{reporter.UNIT_NAME}"]
    _label(guest, made)


def _label(guest: guestfs.GuestFS, made: list[str]) -> None:
    """A system with SELinux reads nothing that has no label; others have no label to copy."""
    label = label_of(guest, reporter.UNIT_FOLDER)
    for path in made if label else ():
        set_label(guest, path, label)


def _slow_down(guest: guestfs.GuestFS, patience_seconds: int) -> None:
    """A software-emulated machine has the time that it needs; devices time out as services do."""
    if not patience_seconds:
        return
    made = [f"{MANAGER_FOLDER}/hyperctl-proof.conf"]
    if not guest.is_dir(MANAGER_FOLDER):
        guest.mkdir_p(MANAGER_FOLDER)
        made.append(MANAGER_FOLDER)
    limits = "".join(f"Default{what}Sec={patience_seconds}s\n" for what in ("TimeoutStart", "DeviceTimeout"))
    settings = f"[Manager]\n{limits}"
    guest.write(made[0], settings.encode())
    _label(guest, made)


def _wait_less(guest: guestfs.GuestFS, patience_seconds: int) -> None:
    """A trial has no network: who only waits for one gives up soon, and ISC's DHCP client, for whose minutes
    ifupdown and initscripts hold up the whole boot."""
    seconds = max(30, patience_seconds // 4)
    made = []
    for unit in reporter.WAIT_FOR_NETWORK:
        folder = f"{reporter.UNIT_FOLDER}/{unit}.d"
        path = f"{folder}/hyperctl-proof.conf"
        if not guest.is_dir(folder):
            guest.mkdir_p(folder)
            made.append(folder)
        guest.write(path, f"[Service]\nTimeoutStartSec={seconds}s\n".encode())
        made.append(path)
    _label(guest, made)
    files = GuestFiles(guest)
    for path in DHCP_CLIENTS:
        settings = files.text(path)
        if settings is not None:
            files.edit(path, f"{settings}\ntimeout {seconds};\n", Work())


def edit_for_trial(guest: guestfs.GuestFS, filesystem: str, is_asked_for_keys: bool) -> list[str]:
    """Every boot loader's menu on a mounted filesystem; returns which were changed."""
    candidates = [path for path in GRUB_CONFIGURATIONS if guest.is_file(path)]
    for folder in (*BLS_FOLDERS, *SYSLINUX_FOLDERS):
        if guest.is_dir(folder):
            named = (f"{folder}/{name}" for name in guest.ls(folder) if name.endswith((".conf", ".cfg")))
            candidates += [path for path in named if guest.is_file(path, followsymlinks=True)]
    changed = []
    for path in candidates:
        if guest.filesize(path) > LARGEST_CONFIGURATION_BYTES:
            continue
        files = GuestFiles(guest)
        before = files.content(path).decode("utf-8", "surrogateescape")
        after = for_trial(before, is_asked_for_keys=is_asked_for_keys)
        if after != before:
            files.replace(path, after, Work())
            changed.append(f"{filesystem}:{path}")
    return changed


if __name__ == "__main__":
    print(inject(Injection.model_validate_json(sys.stdin.buffer.read())).model_dump_json())
