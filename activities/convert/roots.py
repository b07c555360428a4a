"""Which systems are on a guest's disks, and what they say of themselves.

libguestfs knows every system there is. Most guests are one Linux on plain filesystems that says its name;
finding that out ourselves takes a tenth of the time.

Sources: os-release(5), hostname(5), and the files that Debian and old Red Hat and SUSE have for the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import guestfs

from hyperctl.activities.convert.devices import SHARED_UUID
from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.mounts import is_root_of
from hyperctl.activities.convert.refusal import Refused
from hyperctl.activities.convert.storage import EXT, Storage
from hyperctl.workflows.errors import ErrorCode

LINUX, WINDOWS = "linux", "windows"
UNKNOWN = "unknown"
PLAIN = (*EXT, "xfs")
"""Filesystems that hold one system or none; btrfs has subvolumes."""
NO_SYSTEM = ("swap", "LVM2_member", "crypto_LUKS")
"""What a system lies in or beside, as blkid(8) calls it."""
OS_RELEASE = "/etc/os-release"
DEBIAN_VERSION, RED_HAT_RELEASE = "/etc/debian_version", "/etc/redhat-release"
"""Have the point release, which os-release may leave out."""
HOST_NAMES = ("/etc/hostname", "/etc/HOSTNAME", "/etc/sysconfig/network")
_PROGRAMMES = ("/bin", "/usr/bin")
_DISTRIBUTIONS = {
    "alpine": "alpinelinux",
    "arch": "archlinux",
    "kali": "kalilinux",
    "ol": "oraclelinux",
    "opensuse-leap": "opensuse",
    "opensuse-tumbleweed": "opensuse",
    "sled": "sles",
    "sles_sap": "sles",
    "void": "voidlinux",
} | {
    name: name
    for name in (
        "almalinux",
        "centos",
        "debian",
        "fedora",
        "gentoo",
        "linuxmint",
        "mageia",
        "opensuse",
        "rhel",
        "rocky",
        "sles",
        "ubuntu",
    )
}
"""What libguestfs calls them, by the identifier of os-release."""
_NUMBERS = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?")
_HOST_NAME = re.compile(r"^(?:HOSTNAME=)?[\"']?([A-Za-z0-9][A-Za-z0-9.-]{0,252})[\"']?\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Root:
    """A system."""

    mountable: str
    """Where its `/` is: a device, or a subvolume as libguestfs writes it, `btrfsvol:/dev/sda2/@`."""
    kind: str
    """`LINUX`, `WINDOWS`, or what else libguestfs calls it."""
    product_name: str
    distribution: str
    """As libguestfs has it, `UNKNOWN` for those that it does not know."""
    major_version: int = 0
    """0 for a distribution without versions."""
    minor_version: int = 0
    host_name: str = UNKNOWN


def find_roots(guest: guestfs.GuestFS, storage: Storage) -> tuple[Root, ...]:
    """Every system; nothing is mounted afterwards. A Windows was found by libguestfs' own inspection."""
    plain = plain_root(guest, storage)
    return (plain,) if plain else inspected_roots(guest)


def plain_root(guest: guestfs.GuestFS, storage: Storage) -> Root | None:
    """The only system of a guest that has nothing but plain filesystems; None where that is not certain."""
    found: list[Root] = []
    if storage.untold:
        return None
    guest.umount_all()
    for device, kind in storage.kinds.items():
        if kind in NO_SYSTEM or device in storage.system_partitions:
            continue
        if kind not in PLAIN:
            return None
        try:
            guest.mount_ro(device, "/")
            files = GuestFiles(guest)
            if files.is_folder("/etc") and any(files.is_there(path) for path in _PROGRAMMES):
                root = described(device, _texts(files))
                if root is None:
                    return None
                found.append(root)
        except RuntimeError:  # libguestfs' inspection passes over it, and a refusal says why
            return None
        finally:
            guest.umount_all()
    return found[0] if len(found) == 1 else None


def described(mountable: str, texts: Mapping[str, str]) -> Root | None:
    """What a Linux system's files say of it, by their paths; None where it is no distribution known here."""
    release = texts.get(OS_RELEASE, "")
    distribution = _field(release, "ID").lower()
    product = _field(release, "PRETTY_NAME") or _field(release, "NAME")
    if distribution not in _DISTRIBUTIONS or not product:
        return None
    version = _field(release, "VERSION_ID")
    points = texts.get(DEBIAN_VERSION if distribution == "debian" else RED_HAT_RELEASE, "")
    precise = _NUMBERS.search(points)
    numbers = precise if precise and precise[1] == version else _NUMBERS.match(version)
    host_names = (_HOST_NAME.search(texts.get(path, "")) for path in HOST_NAMES)
    return Root(
        mountable=mountable,
        kind=LINUX,
        product_name=product,
        distribution=_DISTRIBUTIONS[distribution],
        major_version=int(numbers[1]) if numbers else 0,
        minor_version=int(numbers[2] or 0) if numbers else 0,
        host_name=next((found[1] for found in host_names if found), UNKNOWN),
    )


def product_name(files: GuestFiles) -> str:
    """The system's name for people; empty where it has no os-release."""
    return _field(files.text(OS_RELEASE) or "", "PRETTY_NAME")


def inspected_roots(guest: guestfs.GuestFS) -> tuple[Root, ...]:
    """What libguestfs' inspection finds, which is there for its other calls afterwards.

    Raises `Refused` where it gives up, as on an fstab with CRLF line ends.
    """
    try:
        roots = _without_snapshots(guest, _once(guest, list(guest.inspect_os())))
    except RuntimeError as error:
        guest.ping_daemon()  # fails where the appliance is gone, which says nothing of the guest
        raise Refused(
            ErrorCode.GUEST_UNSUPPORTED,
            f"which systems are on the disks cannot be told: {error}",
            "What is named here must be readable in the source, with line ends of Linux.",
        ) from error
    return tuple(
        Root(
            mountable=root,
            kind=guest.inspect_get_type(root),
            product_name=guest.inspect_get_product_name(root),
            distribution=guest.inspect_get_distro(root),
            major_version=guest.inspect_get_major_version(root),
            minor_version=guest.inspect_get_minor_version(root),
            host_name=guest.inspect_get_hostname(root),
        )
        for root in roots
    )


def _texts(files: GuestFiles) -> dict[str, str]:
    return {
        path: files.text(path) or "" for path in (OS_RELEASE, DEBIAN_VERSION, RED_HAT_RELEASE, *HOST_NAMES)
    }


def _field(release: str, name: str) -> str:
    found = re.search(rf"^{name}=[\"']?([^\"'\r\n]*)", release, re.MULTILINE)
    return found[1].strip().encode(errors="surrogateescape").decode(errors="replace") if found else ""


def _once(guest: guestfs.GuestFS, roots: list[str]) -> list[str]:
    """Without those on a further disk of a btrfs: libguestfs finds it on each of its disks."""
    first: dict[str, str] = {}
    kept = []
    for root in roots:
        device = str(guest.mountable_device(root))
        own = guest.vfs_uuid(device) if guest.vfs_type(device) == SHARED_UUID else device
        if first.setdefault(own, device) == device:
            kept.append(root)
    return kept


def _without_snapshots(guest: guestfs.GuestFS, roots: list[str]) -> list[str]:
    """Of a btrfs' subvolumes with the same system, the one that is its root; the others are copies of it."""
    kept: list[str] = []
    by_device: dict[str, list[str]] = {}
    for root in roots:
        by_device.setdefault(str(guest.mountable_device(root)), []).append(root)
    for same in by_device.values():
        booted = [root for root in same if len(same) > 1 and _is_booted(guest, root)]
        kept += booted if len(booted) == 1 else same
    return kept


def _is_booted(guest: guestfs.GuestFS, root: str) -> bool:
    device = guest.mountable_device(root)
    subvolume = guest.mountable_subvolume(root) if root != device else ""
    guest.mount_ro(root, "/")
    try:
        fstab = GuestFiles(guest).text("/etc/fstab") or ""
        paths = {
            str(one["btrfssubvolume_id"]): one["btrfssubvolume_path"]
            for one in guest.btrfs_subvolume_list("/")
        }
        if not subvolume:  # the default, which fstab may name all the same
            default = paths.get(str(guest.btrfs_subvolume_get_default("/")), "")
            return any(is_root_of(fstab, one, paths) for one in ("", default))
        return is_root_of(fstab, subvolume, paths)
    finally:
        guest.umount_all()
