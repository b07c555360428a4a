"""The declared guests fit together: what cannot be built is noticed before a build."""

import re
from itertools import chain

import pytest

from deploy.dev.guest import matrix
from deploy.dev.guest.guest import Guest, Initramfs, Loader
from deploy.dev.guest.place import build_name
from deploy.dev.guest.script import build_script


def each(guests: tuple[Guest, ...] = matrix.ALL) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("guest", guests, ids=lambda guest: guest.name)


def test_the_table_has_every_guest_and_the_guests_every_value() -> None:
    listed = re.findall(r"^[* ] ([\w-]+): ", matrix.__doc__ or "", re.MULTILINE)
    assert listed == [guest.name for guest in matrix.ALL]
    assert len(matrix.ALL) >= 14
    assert {guest.suite for guest in matrix.ALL} == {"bullseye", "bookworm", "trixie"}
    assert {guest.initramfs for guest in matrix.ALL} == set(Initramfs)
    assert {guest.loader for guest in matrix.ALL} == set(Loader)
    assert {(guest.uefi, guest.fallback) for guest in matrix.ALL} == {
        (False, False),
        (True, False),
        (True, True),
    }


def _layouts(guest: Guest) -> set[str]:
    layout, devices = guest.layout, {one.mount_point: one.device for one in guest.layout.filesystems}
    found = {one.kind for one in layout.filesystems}
    found |= {"btrfs subvolumes"} if any(one.subvolume for one in layout.filesystems) else set()
    found |= {"/boot"} if "/boot" in devices else set()
    found |= {"plain"} if devices["/"].startswith("/dev/sd") and "/boot" not in devices else set()
    found |= {"mdraid"} if layout.mirrors else set()
    found |= {"LUKS"} if layout.encrypted else set()
    if layout.group:
        found |= {f"LVM on {len(layout.group.physical)}"}
    found |= {"data disk"} if any(one.startswith("/dev/sdb") for one in devices.values()) else set()
    resumes = any("resume=" in text.lower() for text in guest.files.values())
    found |= {"swap with resume="} if layout.swap and resumes else set()
    return found


_NETWORKS = {
    "ifupdown": ("/etc/network/interfaces", ""),
    "netplan": ("/etc/netplan/", ""),
    "NetworkManager": ("/etc/NetworkManager/", ""),
    "networkd": ("/etc/systemd/network/", r"\[Network\]"),
    "bond": ("", r"bond-mode|Kind=bond|type=bond|bonds:"),
    "VLAN": ("", r"vlan-raw-device|Kind=vlan|type=vlan|vlans:"),
    "bridge": ("", r"bridge_ports|Kind=bridge|type=bridge|bridges:"),
}
_SOURCES = {"sdX": r"^/dev/sd", "by-path": r"^/dev/disk/by-path/", "UUID": r"^UUID=", "LABEL": r"^LABEL="}


def test_every_layout_network_and_way_to_name_a_disk_is_there() -> None:
    assert set().union(*map(_layouts, matrix.ALL)) >= {
        *("plain", "/boot", "LVM on 1", "LVM on 2", "btrfs subvolumes", "xfs", "ext4", "mdraid", "LUKS"),
        *("data disk", "swap with resume="),
    }
    for name, (folder, text) in _NETWORKS.items():
        assert any(
            path.startswith(folder) and re.search(text, content)
            for guest in matrix.ALL
            for path, content in guest.files.items()
        ), name
    for name, source in _SOURCES.items():
        texts = [guest.files["/etc/fstab"] for guest in matrix.ALL]
        assert any(re.search(source, text, re.MULTILINE) for text in texts), name
    assert any(len(guest.nics) > 1 for guest in matrix.ALL)
    assert any(guest.other_kernel for guest in matrix.ALL)


def test_every_initramfs_is_on_every_kind_of_storage_that_it_must_put_together() -> None:
    stacks = {"LVM on 1", "LVM on 2", "mdraid", "LUKS", "btrfs", "xfs"}
    pairs = {(guest.initramfs, stack) for guest in matrix.ALL for stack in _layouts(guest) & stacks}
    for initramfs in (Initramfs.LIST, Initramfs.DRACUT):
        assert {"mdraid", "LUKS", "xfs", "btrfs"} <= {stack for one, stack in pairs if one is initramfs}
        assert {"LVM on 1", "LVM on 2"} & {stack for one, stack in pairs if one is initramfs}
    assert {"LVM on 1", "LUKS"} <= {stack for one, stack in pairs if one is Initramfs.DEP}


def test_no_two_are_taken_for_each_other() -> None:
    macs = [nic.mac for guest in matrix.ALL for nic in guest.nics]
    assert len(set(macs)) == len(macs)
    machines = [guest.files["/etc/machine-id"] for guest in matrix.ALL]
    assert len(set(machines)) == len(machines)
    assert len({build_name(guest) for guest in matrix.ALL}) == len(matrix.ALL)


@each()
def test_its_partitions_fit_on_its_disks(guest: Guest) -> None:
    layout = guest.layout
    for disk, size_mib in enumerate(layout.disks_mib):
        used = sum(partition.size_mib for partition in layout.partitions_of(disk))
        assert used + 2 <= size_mib, "one MiB before the first, one for the second table"
    if layout.group:
        sizes = {partition.device: partition.size_mib for partition in layout.partitions}
        sizes |= {f"/dev/mapper/{one.name}": sizes[one.device] - 16 for one in layout.encrypted}
        sizes |= {f"/dev/sd{chr(97 + n)}": size for n, size in enumerate(layout.disks_mib)}
        there = sum(sizes[device] - 4 for device in layout.group.physical)
        assert sum(size for _, size in layout.group.volumes) <= there


@each()
def test_every_uuid_that_its_files_ask_for_is_put_in(guest: Guest) -> None:
    script = build_script(guest, {}, guest.files)
    asked = chain.from_iterable(re.findall(r"@(/dev/[\w/]+)@", text) for text in guest.files.values())
    for device in asked:
        assert f"s|@{device}@|" in script


@each()
def test_its_addresses_are_in_its_configuration(guest: Guest) -> None:
    texts = "\n".join(guest.files.values())
    for nic in guest.nics:
        for address in nic.addresses:
            assert address.partition("/")[0] in texts
