"""What is on a guest's disks before anything is mounted, and what of it stands in a conversion's way."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import guestfs

from hyperctl.activities.convert.devices import BlockDevice
from hyperctl.activities.convert.refusal import Refused
from hyperctl.workflows.errors import ErrorCode

HIBERNATED = "swsuspend"
RAID_MEMBER = "linux_raid_member"
BITLOCKER = "BitLocker"
ZFS = "zfs_member"
VOLUMES = "LVM2_member"
MAPPED = "/dev/mapper/"
"""Where, beside what was opened, LVM has the parts of its volumes, on which blkid(8) fails."""
SYSTEM_PARTITION_TYPES = ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0xef")
"""In a GPT and in an MBR."""
EXTENDED_BOOT_TYPE = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
"""Of the extended boot partition (XBOOTLDR)."""
EXT = ("ext2", "ext3", "ext4")
_ESCAPED = re.compile(r"\\(.)")
"""How blkid(8) exports spaces and quotes."""
PARTIAL = "p"
"""The fourth letter of a volume group's attributes (vgs(8)) when it lacks a disk."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What blkid(8) finds on a device, and why it fails, where it does. On a blank one it does not."""

    facts: Mapping[str, str]
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Storage:
    """The block devices, by the appliance's names."""

    kinds: Mapping[str, str]
    """What blkid(8) calls what is on them."""
    disks: Mapping[str, BlockDevice]
    """Whole disks and partitions."""
    tags: Mapping[tuple[str, str], str]
    """By `("UUID", value)`, `LABEL`, `PARTUUID` and `PARTLABEL`, the device."""
    system_partitions: tuple[str, ...]
    """Those that a UEFI firmware looks into."""
    boot_partitions: tuple[str, ...]
    """Where, by their type, kernels are beside those on a system partition."""
    untold: tuple[str, ...]
    """Devices that blkid(8) fails on, and why: what is on them may be what somebody looks for."""
    warnings: tuple[str, ...]
    """`untold` among them."""


def survey(guest: guestfs.GuestFS, devices: Mapping[str, Probe], opened: Collection[str] = ()) -> Storage:
    """Look at everything; `devices` are what `probe_devices` gives, `opened` the mapped ones of encrypted
    volumes.

    Raises `Refused` with all that cannot be worked on safely, together.
    """
    own = {*guest.list_devices(), *guest.list_partitions()}
    kinds: dict[str, str] = {}
    disks: dict[str, BlockDevice] = {}
    snapshots = _snapshots(guest, devices)
    tags: dict[tuple[str, str], str] = {}
    members: dict[str, list[str]] = {}
    system_partitions, boot_partitions = [], []
    untold = []
    for device, probe in devices.items():
        if device in snapshots:
            continue
        facts, failure = probe.facts, probe.failure
        if failure and (device in opened or not device.startswith(MAPPED)):
            untold.append(
                f"what is on {device} cannot be told: it is not active, or has traces of more than one "
                f"filesystem, which wipefs(8) lists ({failure})"
            )
        kind, uuid = facts.get("TYPE", ""), facts.get("UUID", "")
        if device in own:
            disks[device] = BlockDevice(uuid, facts.get("PART_ENTRY_UUID", ""), kind)
        if kind == RAID_MEMBER:
            members.setdefault(uuid, []).append(device)
            continue
        if kind:
            kinds[device] = kind
        if kind == "vfat" and facts.get("PART_ENTRY_TYPE", "").lower() in SYSTEM_PARTITION_TYPES:
            system_partitions.append(device)
        if kind and facts.get("PART_ENTRY_TYPE", "").lower() == EXTENDED_BOOT_TYPE:
            boot_partitions.append(device)
        for tag, fact in (
            ("UUID", "UUID"),
            ("LABEL", "LABEL"),
            ("PARTUUID", "PART_ENTRY_UUID"),
            ("PARTLABEL", "PART_ENTRY_NAME"),
        ):
            if value := _ESCAPED.sub(r"\1", facts.get(fact, "")):
                tags.setdefault((tag, value.lower() if "UUID" in tag else value), device)
    problems = [
        *_hibernated(kinds),
        *_incomplete_groups(guest),
        *_incomplete_arrays(guest, members),
    ]
    errors, warnings = _ext_states(guest, kinds)
    if pools := [device for device, kind in kinds.items() if kind == ZFS]:
        warnings.append(
            f"{', '.join(pools)} is of a ZFS pool, which may know its disks by VMware's names: where it is "
            "missing on KVM, run zpool import -a -d /dev once in the guest"
        )
    if problems + errors:
        raise Refused(
            ErrorCode.GUEST_UNSUPPORTED if problems else ErrorCode.CONVERSION_FAILED,
            "; ".join(problems + errors),
            "Put it right in the source: start the VM in vSphere with all its disks, let it check its "
            "filesystems, and shut it down.",
        )
    return Storage(
        kinds,
        disks,
        tags,
        tuple(system_partitions),
        tuple(boot_partitions),
        tuple(untold),
        warnings=(*untold, *warnings),
    )


def what_stands_in_the_way(guest: guestfs.GuestFS, kinds: Mapping[str, str]) -> str:
    """Why no system was found, where the devices say so; empty where they do not."""
    reasons = []
    for device, kind in kinds.items():
        if kind == BITLOCKER:
            reasons.append(f"{device} is encrypted with BitLocker")
        elif kind == ZFS:
            reasons.append(f"{device} is ZFS, from which no system can be converted")
        elif kind in (*EXT, "xfs", "btrfs"):
            try:
                guest.mount_ro(device, "/")
                guest.umount_all()
            except RuntimeError as error:
                reasons.append(f"the filesystem on {device} ({kind}) cannot be mounted: {error}")
    return "; ".join(reasons)


def probe_devices(guest: guestfs.GuestFS) -> dict[str, Probe]:
    """Disks, partitions, arrays, volumes and what is mapped over others; also what is encrypted."""
    found = [*guest.list_devices(), *guest.list_partitions(), *guest.list_md_devices()]
    return {device: _probe(guest, device) for device in [*found, *guest.lvs(), *guest.list_dm_devices()]}


def _probe(guest: guestfs.GuestFS, device: str) -> Probe:
    try:
        return Probe(dict(guest.blkid(device)))
    except RuntimeError as error:
        return Probe({}, str(error))


def _snapshots(guest: guestfs.GuestFS, devices: Mapping[str, Probe]) -> frozenset[str]:
    """LVM's volumes that are copies of others as they were, with the same labels and UUIDs. Snapshots of thin
    volumes are left out by libguestfs itself, since they are not activated."""
    if not any(probe.facts.get("TYPE") == VOLUMES for probe in devices.values()):
        return frozenset()
    listed = guest.debug("sh", ["lvm lvs --noheadings -o lv_path -S 'lv_attr=~^[sS]' 2>/dev/null || :"])
    return frozenset(listed.split())


def _hibernated(kinds: Mapping[str, str]) -> list[str]:
    return [
        f"the system is hibernated: the swap space on {device} holds a suspended system"
        for device, kind in kinds.items()
        if kind == HIBERNATED
    ]


def _incomplete_groups(guest: guestfs.GuestFS) -> list[str]:
    present = {
        volume["pv_uuid"].replace("-", "")
        for volume in guest.pvs_full()
        if "unknown" not in volume["pv_name"]
    }
    problems = []
    for group in guest.vgs_full():
        if group["vg_attr"][3:4] != PARTIAL:
            continue
        wanted = [uuid.replace("-", "") for uuid in guest.vgpvuuids(group["vg_name"])]
        missing = [uuid for uuid in wanted if uuid not in present]
        problems.append(
            f"the volume group {group['vg_name']} lacks {len(missing) or 'some'} of its {len(wanted)} disks "
            f"(physical volumes {', '.join(missing)})"
        )
    return problems


def _incomplete_arrays(guest: guestfs.GuestFS, members: Mapping[str, list[str]]) -> list[str]:
    running = {
        guest.md_detail(array).get("uuid", "").replace(":", "").lower() for array in guest.list_md_devices()
    }
    return [
        f"the RAID array on {', '.join(devices)} is not complete"
        for uuid, devices in members.items()
        if uuid.replace("-", "").lower() not in running
    ]


def _ext_states(guest: guestfs.GuestFS, kinds: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Filesystems with errors, and those that were not unmounted."""
    errors, dirty = [], []
    for device, kind in kinds.items():
        if kind not in EXT:
            continue
        try:
            facts = guest.tune2fs_l(device)
        except RuntimeError as error:
            errors.append(f"the filesystem on {device} ({kind}) cannot be read: {error}")
            continue
        state = facts.get("Filesystem state", "")
        if "errors" in state:
            errors.append(f"the filesystem on {device} ({kind}) has errors: its state is {state!r}")
        elif "needs_recovery" in facts.get("Filesystem features", "") or state != "clean":
            dirty.append(f"{device} ({kind}) was not unmounted: the VM was switched off, not shut down")
    return errors, dirty
