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
