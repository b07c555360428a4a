"""An initramfs that goes to the network finds its NICs by the names that it was told on VMware."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.cpio import Archive, Entry
from hyperctl.activities.convert.linux.early_network import naming_files, network_user, network_without
from hyperctl.activities.convert.linux.interfaces import Clue, read_arguments
from hyperctl.activities.convert.linux.network import link_file, nic_names, udev_rule
from hyperctl.workflows.machine import MachineNic
from hyperctl.workflows.request import Fixers
from tests.unit.machines import machine, nic
from tests.unit.test_kernels import FILE, VERSION, kernel, usrmerged
from tests.unit.tree import tree

ONE, TWO = "00:50:56:aa:bb:01", "00:50:56:aa:bb:02"
SYSTEMD = {"/usr/lib/systemd/libsystemd-shared-252.so": ""}
SLOTS = {"/usr/lib/udev/rules.d/80-net-setup-link.rules": ""}
NAMING = Entry("usr/lib/udev/rules.d/80-net-setup-link.rules", FILE)
DROPBEAR = Entry("usr/sbin/dropbear", FILE)
OLD_DRIVER = Entry(f"usr/lib/modules/{VERSION}/kernel/drivers/net/vmxnet3/vmxnet3.ko.xz", FILE)
IP_MODULE = Entry("usr/lib/dracut/hooks/cmdline/91-parse-ip-opts.sh", FILE)
ENS224 = Clue("ens224", "f", addresses=("192.0.2.10",))
IP = "ip=192.0.2.10::192.0.2.1:255.255.255.0:web:ens192:none"


def guest(
    folder: Path, files: dict[str, str], nics: tuple[MachineNic, ...] = (nic(1),), *, fix: bool = True
) -> Inspected:
    fixers = Fixers(network=fix)
    return cast(
        Inspected,
        SimpleNamespace(
            files=tree(folder, files), machine=machine(nics=nics), order=SimpleNamespace(fix=fixers)
        ),
    )


@pytest.mark.parametrize(
    ("arguments", "clues"),
    [
        (f"quiet {IP} ro", [Clue("ens192", "f", addresses=("192.0.2.10",))]),
        ("ip=ens192:dhcp rd.neednet=1", [Clue("ens192", "f")]),
        ("ip=[2001:db8::2]::[2001:db8::1]:64:web:ens224:none", [Clue("ens224", "f")]),
        (f"ifname=lan:{ONE.upper()} ip=lan:dhcp", [Clue("lan", "f", ONE), Clue("", "f")]),
        (
            "bond=bond0:ens192,ens224:mode=active-backup vlan=bond0.5:bond0 bridge=br0:ens256",
            [Clue(name, "f") for name in ("ens192", "ens224", "bond0", "ens256")],
        ),
        ("rd.route=198.51.100.0/24:192.0.2.1:ens192", [Clue("ens192", "f")]),
        (
            '\nDEVICE=ens192\nIP="192.0.2.10::192.0.2.1:255.255.255.0::ens224:none"',
            [Clue("ens192", "f"), ENS224],
        ),
        ("zip=1 root=/dev/sda1", []),
    ],
)
def test_nics_in_a_kernels_arguments(arguments: str, clues: list[Clue]) -> None:
    assert list(read_arguments(f"linux /vmlinuz {arguments}\n", "f")) == clues


@pytest.mark.parametrize(
    ("held", "is_told"),
    [
        (DROPBEAR, True),
        (Entry("usr/bin/clevis-decrypt-tang", FILE), True),
        (Entry("etc/cmdline.d/40-ip.conf", FILE, f"{IP}\n".encode()), True),
        (Entry("etc/cmdline.d/40-bond.conf", FILE, b"bond=bond0:ens192,ens224\n"), True),
        (Entry("etc/cmdline.d/20-root.conf", FILE, b"root=UUID=1 zip=1\n"), False),
        (Entry("etc/cmdline.d/30-ip.conf", FILE, b"ip=off\n"), False),
        (Entry("usr/bin/dropbearkey", FILE), False),
        (IP_MODULE, False),
    ],
)
def test_an_initramfs_that_goes_to_the_network_needs_its_driver(
    tmp_path: Path, held: Entry, is_told: bool
) -> None:
    of = guest(tmp_path, {})

    def without(archive: Archive, builtin: str = "") -> str:
        return network_without(archive, "virtio_net", kernel(builtin=builtin), of)

    assert ("virtio_net" in without(usrmerged(held))) is is_told
    driver = Entry(f"usr/lib/modules/{VERSION}/kernel/drivers/net/virtio_net.ko.xz", FILE)
    assert without(usrmerged(held, driver)) == ""
    assert without(usrmerged(held), "kernel/net/virtio_net.ko\n") == ""


@pytest.mark.parametrize(
    ("options", "held", "user"),
    [
        (
            f"rd.neednet=1 {IP}",
            (IP_MODULE, OLD_DRIVER),
            "as /boot/loader/entries/a.conf tells it by rd.neednet=",
        ),
        (IP, (IP_MODULE,), ""),  # without a driver it went nowhere on VMware either
        (IP, (OLD_DRIVER,), ""),
        ("quiet", (IP_MODULE, OLD_DRIVER), ""),
    ],
)
def test_a_boot_entry_may_ask_for_the_network(
    tmp_path: Path, options: str, held: tuple[Entry, ...], user: str
) -> None:
    files = {"/boot/loader/entries/a.conf": f"title a\noptions root=UUID=1 {options}\n"}
    assert network_user(usrmerged(*held), guest(tmp_path, files)) == user


def test_nics_have_their_names_in_there(tmp_path: Path) -> None:
    files = {**SYSTEMD, **SLOTS, "/etc/kernel/cmdline": f"root=UUID=1 {IP}\n"}
    (made,) = naming_files(usrmerged(DROPBEAR, NAMING), guest(tmp_path, files))
    assert made == Entry(
        "etc/systemd/network/10-hyperctl-ens192.link", FILE, link_file(ONE, "ens192").encode()
    )
    assert naming_files(usrmerged(DROPBEAR, NAMING, made), guest(tmp_path, files)) == []


def test_a_udev_that_has_no_links_gets_a_rule(tmp_path: Path) -> None:
    of = guest(tmp_path, {**SLOTS, "/etc/kernel/cmdline": f"root=UUID=1 {IP}\n"})
    (made,) = naming_files(usrmerged(DROPBEAR, NAMING), of)
    assert made.name == "etc/udev/rules.d/71-hyperctl-nic-names.rules"
    assert udev_rule(ONE, "ens192").encode() in bytes(made.data)
    assert naming_files(usrmerged(DROPBEAR, NAMING, made), of) == []


@pytest.mark.parametrize(
    ("held", "fix"),
    [
        ((NAMING,), True),  # nobody goes to the network
        ((DROPBEAR,), True),  # the kernel's own names
        ((DROPBEAR, NAMING), False),
        (
            (
                DROPBEAR,
                NAMING,
                Entry("etc/systemd/network/1.link", FILE, f"[Match]\nMACAddress={ONE}\n".encode()),
            ),
            True,
        ),
    ],
)
def test_all_else_keeps_its_names(tmp_path: Path, held: tuple[Entry, ...], fix: bool) -> None:
    of = guest(tmp_path, {**SYSTEMD, **SLOTS, "/etc/kernel/cmdline": IP}, fix=fix)
    assert naming_files(usrmerged(*held), of) == []


def test_a_nic_that_only_a_boot_entry_names_keeps_its_name(tmp_path: Path) -> None:
    """Its address tells which it is, as in any other configuration."""
    two = (nic(1, addresses=("198.51.100.7/24",)), nic(2, addresses=("192.0.2.10/24",)))
    entry = f"linux /vmlinuz ro {IP} rd.route=203.0.113.0/24:198.51.100.1:ens224\n"
    names, guesses, _ = nic_names(guest(tmp_path, {"/boot/grub2/grub.cfg": entry}, two))
    assert (names, guesses) == ({TWO: "ens192", ONE: "ens224"}, [])
