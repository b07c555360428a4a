"""Mounting a guest's filesystems where its fstab has them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import guestfs

from hyperctl.activities.convert.devices import StableNames, tag_in
from hyperctl.activities.convert.encrypted import WAY_OUT, Encryption
from hyperctl.activities.convert.refusal import Refused
from hyperctl.workflows.errors import ErrorCode

SYSTEM_PARTITION_PLACES = ("/boot/efi", "/efi", "/boot")
NEEDED = ("/", "/boot", "/boot/efi", "/efi", "/usr", "/etc", "/var")
NO_FILESYSTEMS = frozenset({"swap", "none", "iso9660", "udf", "udf,iso9660", "iso9660,udf"})
"""Kinds of an fstab that are not mounted here, though they may be on a disk."""
READ_ONLY = 1
"""ST_RDONLY of statvfs(3)."""
_ON_DISK = re.compile(r"^(?:/dev/|(?:UUID|LABEL|PARTUUID|PARTLABEL)=)")
_IN_UNIT = re.compile(r"^[ \t]*(What|Where|Type|Options)[ \t]*=[ \t]*(\S(?:[^\n]*\S)?)", re.MULTILINE)
_OCTAL = re.compile(r"\\([0-3][0-7]{2})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One entry of fstab that is on a disk."""

    source: str
    place: str
    kind: str
    subvolume: str
    """The option that chooses a subvolume of btrfs, or an empty string."""


@dataclass(frozen=True, slots=True)
class KnownDevices:
    """What the sources in fstab can mean."""

    names: StableNames
    tags: Mapping[tuple[str, str], str]
    """By `("UUID", value)`, `LABEL`, `PARTUUID` and `PARTLABEL`, the appliance's device."""
    others: Mapping[str, str]
    """By the guest's names of volumes and arrays, the appliance's."""
    encrypted: Mapping[str, str] = field(default_factory=dict)
    """By the names of crypttab(5), the devices that encrypted volumes were opened as."""

    def device(self, source: str) -> str | None:
        """The appliance's device for a source, or None where that cannot be told."""
        if found := self.tags.get(tag_in(source)):
            return found
        return self.others.get(source) or self.names.device(source)


def unescaped(word: str) -> str:
    """A field of fstab(5), in which spaces and such are octal."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), word)


def wanted_mounts(fstab: str) -> tuple[Wanted, ...]:
    """The entries of fstab(5) with a mount point on a disk, parents first; later ones of a place win."""
    found: dict[str, Wanted] = {}
    for line in fstab.splitlines():
        words = [unescaped(word) for word in line.split()]
        if len(words) < 3 or not _ON_DISK.match(words[0]) or not words[1].startswith("/"):
            continue
        options = words[3].split(",") if len(words) > 3 else []
        place = words[1].rstrip("/") or "/"
        if words[2] in NO_FILESYSTEMS or {"bind", "rbind"} & set(options):
            continue
        if "noauto" in options and place not in NEEDED:
            continue
        subvolume = next((one for one in options if one.startswith(("subvol=", "subvolid="))), "")
        found[place] = Wanted(words[0], place, words[2], subvolume)
    return tuple(sorted(found.values(), key=lambda one: (one.place.count("/"), len(one.place))))


def as_fstab(unit: str) -> str:
    """A unit of systemd.mount(5) as a line of fstab(5); empty where it does not say what is to be where."""
    facts = {key: value.replace(" ", r"\040") for key, value in _IN_UNIT.findall(unit)}
    if not ("What" in facts and "Where" in facts):
        return ""
    return (
        f"{facts['What']} {facts['Where']} {facts.get('Type', 'auto')} {facts.get('Options', 'defaults')}\n"
    )


def is_root_of(fstab: str, subvolume: str, paths: Mapping[str, str]) -> bool:
    """Whether a subvolume of btrfs is the one that the fstab in it mounts as `/`.

    `subvolume` is empty for the filesystem's default; `paths` are those of subvolumes by their number.
    """
    option = next((one.subvolume for one in wanted_mounts(fstab) if one.place == "/"), "")
    key, _, value = option.partition("=")
    wanted = paths.get(value, "") if key == "subvolid" else value
    return wanted.strip("/") == subvolume.strip("/")


def filesystem_of(path: str, mounts: Mapping[str, str]) -> str:
    """Where the filesystem is mounted that a path is on."""
    above = [place for place in mounts if f"{path}/".startswith(f"{place.rstrip('/')}/")]
    return max(above, key=len, default="/")


def mount_root(guest: guestfs.GuestFS, root: str) -> None:
    """Raises `Refused` where it cannot be mounted, or only for reading."""
    guest.umount_all()
    try:
        guest.mount(root, "/")
    except RuntimeError as error:
        raise _not_mounted("/", root, error) from error
    _assert_writable(guest, "/", root)


def mount_all(
    guest: guestfs.GuestFS,
    root: str,
    wanted: tuple[Wanted, ...],
    known: KnownDevices,
    encryption: Encryption,
    untold: tuple[str, ...] = (),
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Mount below the root, which is mounted; by mount point the devices, and what could not be mounted.
    `untold` says of which devices nobody knows what is on them.

    Raises `Refused` where one that a conversion needs cannot be mounted, or only for reading.
    """
    mounts: dict[str, str] = {"/": root}
    warnings: list[str] = []
    for one in wanted:
        if one.place == "/":
            continue
        device = known.device(one.source)
        if device is None and one.place in NEEDED:
            raise _not_found(one, encryption, untold)
        try:
            if device is None:
                raise RuntimeError("; ".join((f"{one.source} is on none of the disks", *untold)))
            guest.mkdir_p(one.place)
            guest.mount_options(one.subvolume, device, one.place)
        except RuntimeError as error:
            if one.place in NEEDED:
                raise _not_mounted(one.place, one.source, error) from error
            warnings.append(f"{one.place} ({one.source}) cannot be mounted: {error}")
            continue
        mounts[one.place] = device
        if one.place in NEEDED:
            _assert_writable(guest, one.place, one.source)
    return mounts, tuple(warnings)


def mount_unlisted(
    guest: guestfs.GuestFS,
    mounts: Mapping[str, str],
    boot_partitions: tuple[str, ...],
    system_partitions: tuple[str, ...],
) -> dict[str, str]:
    """Mount what fstab leaves out of the extended boot partition and the EFI system partition, where
    systemd-gpt-auto-generator(8) would; both may have a folder EFI."""
    found = {} if "/boot" in mounts else _mount_boot_partition(guest, boot_partitions)
    there = {**mounts, **found}
    places = [place for place in SYSTEM_PARTITION_PLACES if there.get(place) not in boot_partitions]
    if not any(guest.is_dir(f"{place}/EFI") for place in places):
        found |= _mount_system_partition(guest, system_partitions)
    return found


def _mount_system_partition(guest: guestfs.GuestFS, candidates: tuple[str, ...]) -> dict[str, str]:
    for device in candidates:
        place = next((one for one in ("/efi", "/boot/efi") if guest.is_dir(one)), "/boot")
        if place == "/boot" and guest.is_dir(place) and guest.ls(place):
            place = "/boot/efi"
        guest.mkdir_p(place)
        guest.mount(device, place)
        if guest.is_dir(f"{place}/EFI"):
            return {place: device}
        guest.umount(place)
    return {}


def _mount_boot_partition(guest: guestfs.GuestFS, candidates: tuple[str, ...]) -> dict[str, str]:
    """Where /boot has nothing of its own."""
    if len(candidates) != 1 or (guest.is_dir("/boot") and set(guest.ls("/boot")) - {"efi"}):
        return {}
    guest.mkdir_p("/boot")
    guest.mount(candidates[0], "/boot")
    return {"/boot": candidates[0]}


def _not_found(one: Wanted, encryption: Encryption, untold: tuple[str, ...]) -> Refused:
    what = f"the filesystem of {one.place} ({one.source})"
    if encryption.closed:
        found = f"{what} is not found: {encryption.reason}"
        return Refused(ErrorCode.GUEST_UNSUPPORTED, found, WAY_OUT)
    return Refused(
        ErrorCode.GUEST_UNSUPPORTED,
        "; ".join((f"{what} is on none of the disks by that name", *untold)),
        "See in the source that all its disks are there, and have /etc/fstab name it by UUID, as blkid(8) "
        "shows it.",
    )


def _not_mounted(place: str, source: str, error: RuntimeError) -> Refused:
    return Refused(
        ErrorCode.CONVERSION_FAILED,
        f"the filesystem of {place} ({source}) cannot be mounted: {error}",
        "Start the VM once more in vSphere, let it check its filesystems, and shut it down.",
    )


def _assert_writable(guest: guestfs.GuestFS, place: str, source: str) -> None:
    if guest.statvfs(place)["flag"] & READ_ONLY or _is_read_only_subvolume(guest, place):
        raise Refused(
            ErrorCode.CONVERSION_FAILED,
            f"the filesystem of {place} ({source}) can only be mounted for reading",
            "A filesystem with errors, or one made read-only on purpose: make it writable in the source.",
        )


def _is_read_only_subvolume(guest: guestfs.GuestFS, place: str) -> bool:
    """Of btrfs, as transactional systems have their root; statvfs(3) does not show it."""
    try:
        guest.rmdir(guest.mkdtemp(f"{place.rstrip('/')}/hyperctl-XXXXXX"))
        return False
    except RuntimeError:
        pass
    try:
        return "readonly" in guest.btrfs_subvolume_show(place).get("Flags", "")
    except RuntimeError:
        return False
