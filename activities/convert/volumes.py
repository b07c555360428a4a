"""Logical volumes, encrypted volumes and arrays by every name that a guest has for them.

Sources: LVM's and mdadm's udev rules (10-dm.rules, 13-dm-disk.rules, 63-md-raid-arrays.rules), crypttab(5),
mdadm.conf(5).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import guestfs

from hyperctl.activities.convert.devices import StableNames
from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.linux.storage import MDADM
from hyperctl.activities.convert.mounts import KnownDevices, Wanted

CRYPTTAB = "/etc/crypttab"
BY_ID = "/dev/disk/by-id"
LVM_UUID = "dm-uuid-LVM-"
_NOT_OF_UDEV = re.compile(r"[^\w#+\-.:=@/]")
"""What udev puts an underscore in the place of."""
_ARRAY = re.compile(r"^[ \t]*ARRAY\s+(\S+)(?!\S)[^\n]*?\bUUID=(\S+)", re.MULTILINE | re.IGNORECASE)


def known_devices(
    guest: guestfs.GuestFS,
    files: GuestFiles,
    wanted: tuple[Wanted, ...],
    root: str,
    *,
    names: StableNames,
    tags: Mapping[tuple[str, str], str],
    opened: Mapping[str, str],
) -> KnownDevices:
    """What the sources in a guest's tables can mean. `root` is the device that its `/` is on; `opened` are
    the mapped devices of encrypted volumes by theirs."""
    crypttab = files.text(CRYPTTAB) or ""
    volumes = list(guest.lvs())
    by_uuid = any(LVM_UUID in text for text in (crypttab, *(one.source for one in wanted)))
    uuids = _lvm_uuids(guest, volumes) if by_uuid else {}
    others: dict[str, str] = {}
    for volume in volumes:
        others |= dict.fromkeys(volume_names(volume, uuids.get(volume, "")), volume)
    arrays = {array: dict(guest.md_detail(array)) for array in guest.list_md_devices()}
    configurations = [files.text(path) or "" for path in MDADM]
    of_arrays = names_of_arrays(arrays, "\n".join(configurations))
    others |= of_arrays | names_of_partitions(of_arrays, list(tags.values()))
    known = KnownDevices(names, tags, others)
    encrypted = encrypted_names(crypttab, known, opened)
    for name, mapped in encrypted.items():
        others |= dict.fromkeys((f"/dev/mapper/{name}", f"{BY_ID}/dm-name-{name}"), mapped)
    known = replace(known, encrypted=encrypted)
    source = next((one.source for one in wanted if one.place == "/"), "")
    return known if not source or known.device(source) else replace(known, others={**others, source: root})


def volume_names(volume: str, uuid: str = "") -> tuple[str, ...]:
    """Of a logical volume that the appliance has as /dev/GROUP/VOLUME; `uuid` is its group's and its own."""
    mapper = mapper_name(volume)
    by_uuid = (f"{BY_ID}/{LVM_UUID}{uuid}",) if uuid else ()
    return (volume, f"/dev/mapper/{mapper}", f"{BY_ID}/dm-name-{mapper}", *by_uuid)


def mapper_name(volume: str) -> str:
    """`vg--0-root` of `/dev/vg-0/root`: LVM doubles the hyphens of its names."""
    group, _, name = volume.removeprefix("/dev/").replace("-", "--").partition("/")
    return f"{group}-{name}"


def names_of_arrays(details: Mapping[str, Mapping[str, str]], configuration: str) -> dict[str, str]:
    """By the guest's names, the appliance's arrays.

    `details` is what `mdadm --detail --export` says of each. Where mdadm.conf(5) gives no name, an array has
    its own: `web:0` is /dev/md/0 and /dev/md0.
    """
    found = {array: array for array in details}
    by_uuid = {}
    for array, detail in details.items():
        uuid, name = detail.get("uuid", "").lower(), detail.get("name", "")
        own = name.rpartition(":")[2]
        names = [
            f"{BY_ID}/md-uuid-{uuid}",
            f"{BY_ID}/md-name-{_NOT_OF_UDEV.sub('_', name)}",
            f"/dev/md/{own}",
        ]
        found |= dict.fromkeys(names if own else names[:1], array)
        if own.isdecimal():
            found[f"/dev/md{own}"] = array
        by_uuid[uuid] = array
    for given, uuid in _ARRAY.findall(configuration):
        if uuid.lower() in by_uuid:
            found[given] = by_uuid[uuid.lower()]
    return found


def names_of_partitions(arrays: Mapping[str, str], devices: Sequence[str]) -> dict[str, str]:
    """The same of partitions in arrays: /dev/md0p1, /dev/md/data1 and md-uuid-UUID-part1."""
    found = {}
    for name, array in arrays.items():
        gap = "-part" if name.startswith(BY_ID) else "p" if name[-1:].isdecimal() else ""
        for device in devices:
            number = device.removeprefix(f"{array}p")
            if number != device and number.isdecimal():
                found[f"{name}{gap}{number}"] = device
    return found


def encrypted_names(crypttab: str, known: KnownDevices, opened: Mapping[str, str]) -> dict[str, str]:
    """By the names of crypttab(5), where the encrypted volumes were opened; else by the names that systemd
    has for them, `luks-UUID`, which are the appliance's, too."""
    found = {}
    for line in crypttab.splitlines():
        words = line.split()
        if len(words) < 2 or words[0].startswith("#"):
            continue
        device = known.device(words[1])
        if device is not None and device in opened:
            found[words[0]] = opened[device]
    for mapped in opened.values():
        found.setdefault(mapped.rpartition("/")[2], mapped)
    return found


def _lvm_uuids(guest: guestfs.GuestFS, volumes: Sequence[str]) -> dict[str, str]:
    """By volume, its group's and its own, without the hyphens that LVM shows."""
    groups = {one["vg_name"]: one["vg_uuid"] for one in guest.vgs_full()}
    return {
        volume: f"{groups.get(volume.split('/')[2], '')}{guest.lvuuid(volume)}".replace("-", "")
        for volume in volumes
    }
