"""Which name each NIC had, from every kind of configuration, and how it keeps it."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.interfaces import (
    Clue,
    find_clues,
    of_nics,
    read_dhcpcd,
    read_ifcfg,
    read_ifupdown,
    read_netifrc,
    read_netplan,
    read_rules,
    read_sections,
    sourced,
)
from hyperctl.activities.convert.linux.matches import Place, for_driver, left_over, tolerant_tuning
from hyperctl.activities.convert.linux.network import (
    assign_names,
    fix_network,
    link_file,
    named_by_slot,
    order_for_kernel,
    udev_rule,
)
from hyperctl.activities.convert.linux.pci import order
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.hardware import Hardware
from hyperctl.workflows.machine import MachineNic
from tests.unit.machines import machine
from tests.unit.tree import tree

ONE, TWO = "00:50:56:aa:bb:01", "00:50:56:aa:bb:02"


def nic(mac: str, *addresses: str, pci_slot: int = 0) -> MachineNic:
    return MachineNic(
        key=4000,
        label="",
        mac=mac.upper(),
        network="",
        adapter="vmxnet3",
        addresses=addresses,
        pci_slot=pci_slot,
    )


def clue(name: str, mac: str = "", *addresses: str) -> Clue:
    return Clue(name, "file", mac, addresses=addresses)


IFUPDOWN = """\
source /etc/network/interfaces.d/*
auto lo ens192
iface lo inet loopback
allow-hotplug ens224
iface ens192 inet static
    address 192.0.2.10/24
    gateway 192.0.2.1
iface ens192 inet6 static
    address 2001:db8::10
    netmask 64
# iface ens999 inet dhcp
iface bond0 inet manual
    bond-slaves ens256 ens161
iface ens224.100 inet static
    address 198.51.100.7
"""


def test_ifupdown() -> None:
    found = list(read_ifupdown(IFUPDOWN, "interfaces"))
    names = {one.name for one in found}
    assert {"ens192", "ens224", "ens256", "ens161"} <= names
    assert "ens999" not in names
    addresses = {one.name: one.addresses for one in found if one.addresses}
    assert addresses["ens224"] == ("198.51.100.7",)
    held = {address for one in found if one.name == "ens192" for address in one.addresses}
    assert held == {"192.0.2.10", "2001:db8::10"}, "a gateway is no address of the NIC"


def test_netplan() -> None:
    text = f"""\
network:
  version: 2
  ethernets:
    ens192: {{addresses: [192.0.2.10/24], routes: [{{to: default, via: 192.0.2.1}}]}}
    lan:
      match: {{macaddress: "{TWO.upper()}"}}
      set-name: lan0
    other:
      match: {{driver: vmxnet3}}
"""
    found = list(read_netplan(text, "netplan"))
    assert found == [
        Clue("ens192", "netplan", addresses=("192.0.2.10",)),
        Clue("lan0", "netplan", TWO, pinned=True),
    ]
    assert list(read_netplan("network: [what\n", "netplan")) == []
    assert list(read_netplan("just text", "netplan")) == []


def test_systemd_and_network_manager() -> None:
    network = "[Match]\nName=ens192 ens224\n[Network]\nAddress=192.0.2.10/24\n"
    assert [(one.name, one.addresses) for one in read_sections(network, "n")] == [
        ("ens192", ("192.0.2.10",)),
        ("ens224", ("192.0.2.10",)),
    ]
    link = f"[Match]\nMACAddress={ONE}\n[Link]\nName=lan0\n"
    assert list(read_sections(link, "l")) == [Clue("lan0", "l", ONE, pinned=True)]
    keyfile = (
        f"[connection]\ninterface-name=ens192\n[ethernet]\nmac-address={ONE.upper()}\n"
        "[ipv4]\naddress1=192.0.2.10/24,192.0.2.1\n"
    )
    (found,) = read_sections(keyfile, "k")
    assert (found.name, found.mac) == ("ens192", ONE)
    assert "192.0.2.10" in found.addresses
    assert list(read_sections("[Match]\nName=en*\n", "n")) == []


def test_ifcfg_and_persistent_rules() -> None:
    (found,) = read_ifcfg(f'DEVICE="ens192"\nHWADDR={ONE.upper()}\nIPADDR=192.0.2.10\n', "ifcfg-ens192")
    assert found == Clue("ens192", "ifcfg-ens192", ONE, addresses=("192.0.2.10",))
    said = f"DEVICE='ens192' # the front\nHWADDR={ONE}# vmxnet3\nIPADDR=\n# DEVICE=eth0\n"
    assert list(read_ifcfg(said, "i")) == [Clue("ens192", "i", ONE)]
    (unnamed,) = read_ifcfg("BOOTPROTO=dhcp\n", "/etc/sysconfig/network/ifcfg-eth0")
    assert unnamed.name == "eth0"
    rules = f'# a comment\nSUBSYSTEM=="net", ATTR{{address}}=="{TWO}", KERNEL=="eth*", NAME="eth1"\n'
    assert list(read_rules(rules, "r")) == [Clue("eth1", "r", TWO, pinned=True)]


@pytest.mark.parametrize(
    ("nics", "clues", "names"),
    [
        ([nic(ONE)], [clue("ens192")], {ONE: "ens192"}),
        ([nic(ONE)], [], {}),
        ([nic(ONE), nic(TWO)], [clue("ens192", TWO), clue("ens224")], {TWO: "ens192", ONE: "ens224"}),
        (
            [nic(ONE, "192.0.2.10/24"), nic(TWO, "198.51.100.7/24")],
            [clue("ens192", "", "198.51.100.7"), clue("ens224", "", "192.0.2.10")],
            {ONE: "ens224", TWO: "ens192"},
        ),
        ([nic(ONE), nic(TWO)], [clue("ens224"), clue("ens192")], {ONE: "ens192", TWO: "ens224"}),
        ([nic(ONE)], [clue("bond0"), clue("br0")], {}),
        ([nic(ONE)], [clue("eth0", "00:00:00:00:00:99"), clue("ens192")], {ONE: "ens192"}),
    ],
)
def test_each_nic_gets_the_name_it_had(
    nics: list[MachineNic], clues: list[Clue], names: dict[str, str]
) -> None:
    assert assign_names(nics, clues)[0] == names


def test_ifupdowns_lines_go_on_and_it_takes_in_other_files() -> None:
    found = read_ifupdown(
        "auto bond0 ens192=lan\niface bond0 inet manual\n  bond_slaves ens224 \\\n  ens256\n", "i"
    )
    assert {"ens192", "ens224", "ens256"} <= {one.name for one in found}
    assert sourced("source interfaces.d/*.cfg /etc/lan\n# source no\nsource-directory more\nauto lo\n") == [
        ("/etc/network/interfaces.d/*.cfg", False),
        ("/etc/lan", False),
        ("/etc/network/more/*", True),
    ]


RULE_BY_SLOT = "/usr/lib/udev/rules.d/80-net-setup-link.rules"
IFCFG = "/etc/sysconfig/network-scripts/ifcfg-"


def test_what_was_kept_from_another_time_tells_nothing(tmp_path: Path) -> None:
    """A template's file with the NIC's own MAC, which initscripts and NetworkManager pass over."""
    files = tree(
        tmp_path,
        {
            f"{IFCFG}ens192": "DEVICE=ens192\nONBOOT=yes\n",
            f"{IFCFG}eth0.bak": f"DEVICE=eth0\nHWADDR={ONE}\n",
            f"{IFCFG}eth1.rpmsave": "DEVICE=eth1\n",
            "/etc/NetworkManager/system-connections/lan.nmconnection~": "[connection]\ninterface-name=eth2\n",
            "/etc/network/interfaces": "source-directory interfaces.d\n",
            "/etc/network/interfaces.d/eth3.dpkg-old": "iface eth3 inet dhcp\n",
            "/etc/network/interfaces.d/ens224": "iface ens224 inet dhcp\n",
        },
    )
    assert [(one.name, one.mac) for one in find_clues(files)] == [("ens192", ""), ("ens224", "")]


def test_an_ifcfg_without_a_device_is_named_by_its_file_on_suse_only() -> None:
    by_mac = f"TYPE=Ethernet\nNAME=Storage\nHWADDR={ONE.upper()}\n"
    assert list(read_ifcfg(by_mac, f"{IFCFG}Storage")) == [Clue("", f"{IFCFG}Storage", ONE)]
    assert next(read_ifcfg(by_mac, f"{IFCFG}ens192")).name == "ens192"
    suse = "/etc/sysconfig/network/ifcfg-"
    assert next(read_ifcfg("BOOTPROTO='dhcp'\n", f"{suse}lan0")).name == "lan0"
    bridge = read_ifcfg("BRIDGE='yes'\nBRIDGE_PORTS='eth0 eth1'\n", f"{suse}br0")
    assert {one.name for one in bridge} == {"br0", "eth0", "eth1"}
    bond = read_ifcfg("BONDING_SLAVE0='eth2'\nBONDING_SLAVE_1='eth3'\n", f"{suse}bond0")
    assert {one.name for one in bond} == {"bond0", "eth2", "eth3"}
    assert {one.name for one in read_ifcfg("VLAN=yes\nPHYSDEV=ens224\n", f"{IFCFG}v5")} == {"", "ens224"}


@pytest.mark.parametrize(
    ("there", "by_slot"),
    [
        ({}, True),
        ({"/boot/grub2/grubenv": "kernelopts=root=UUID=1 ro net.ifnames=0\n"}, False),
        ({"/boot/systemd.cfg": "systemd_cmdline=net.ifnames=0\n"}, False),
        ({"/etc/udev/rules.d/80-net-name-slot.rules": ""}, False),
        ({"/etc/systemd/network/99-default.link": ""}, False),
        ({"/etc/systemd/network/99-default.link": "[Link]\nNamePolicy=keep slot path\n"}, True),
        ({"/etc/systemd/network/50-mtu.link": "[Link]\nNamePolicy=slot\nMTUBytes=9000\n"}, True),
        ({"/etc/systemd/network/50-mtu.link": "[Link]\nNamePolicy=mac\nMTUBytes=9000\n"}, False),
        ({"/etc/systemd/network/50-lan.link": f"[Match]\nMACAddress={ONE}\n[Link]\nName=lan0\n"}, True),
        ({"/usr/lib/systemd/network/99-default.link": "[Link]\nNamePolicy=keep kernel slot path\n"}, True),
        ({"/usr/lib/systemd/network/99-default.link": "[Link]\nNamePolicy=kernel\n# slot\n"}, False),
    ],
)
def test_whether_udev_names_nics_by_their_slots(tmp_path: Path, there: dict[str, str], by_slot: bool) -> None:
    files = tree(tmp_path, {RULE_BY_SLOT: "", **there})
    assert named_by_slot(files) is by_slot


def test_dhcpcd_and_gentoo() -> None:
    text = (
        "hostname\n#interface eth9\ninterface ens192\nstatic ip_address=192.0.2.10/24\n"
        "static ip6_address=2001:db8::10/64\nstatic routers=192.0.2.1\nprofile lan\ninterface ens224\n"
    )
    assert list(read_dhcpcd(text, "d")) == [
        Clue("ens192", "d", addresses=("192.0.2.10", "2001:db8::10")),
        Clue("ens224", "d"),
    ]
    gentoo = 'config_eth0="192.0.2.10/24"\n#config_eth1="dhcp"\nconfig_eth2="dhcp"\nroutes_eth0="no"\n'
    found = [Clue("eth0", "g", addresses=("192.0.2.10",)), Clue("eth2", "g")]
    assert list(read_netifrc(gentoo, "g")) == found


def test_a_parent_of_network_managers_vlan_is_a_nic_and_the_vlan_is_none() -> None:
    keyfile = (
        f"[connection]\ntype=vlan\ninterface-name=lan20\n[vlan]\nparent=ens192\n[ethernet]\nmac-address={ONE}\n"
        "[ipv4]\naddress1=198.51.100.7/24\n"
    )
    assert list(read_sections(keyfile, "k")) == [Clue("ens192", "k", addresses=("198.51.100.7",))]


def test_a_place_gives_the_name_that_it_had_on_vmware() -> None:
    network = "[Match]\nPath=pci-0000:0b:00.0\n[Network]\nAddress=192.0.2.10/24\n"
    link = "[Match]\nPath=pci-0000:13:00.0*\n[Link]\nName=lan0\n"
    rule = 'SUBSYSTEM=="net", KERNELS=="0000:1b:00.0", NAME="dmz"\n'
    keyfile = (
        "[connection]\ntype=ethernet\n[match]\npath=pci-0000:13:00.0;\n[ipv4]\naddress1=198.51.100.7/24\n"
    )
    interfaces = "iface lan0 inet static\n address 198.51.100.8\niface other inet dhcp\n"
    clues = of_nics(
        [
            *read_rules(rule, "r"),
            *read_sections(link, "l"),
            *read_sections(network, "n"),
            *read_sections(keyfile, "k"),
            *read_ifupdown(interfaces, "i"),
        ]
    )
    assert [(one.name, one.place) for one in clues] == [
        ("dmz", "1b:00.0"),
        ("lan0", "13:00.0"),
        ("ens192", "0b:00.0"),
        ("lan0", "13:00.0"),
        ("lan0", ""),
    ]
    assert assign_names([nic(ONE, "198.51.100.8/24"), nic(TWO, "192.0.2.10/24")], clues)[0] == {
        ONE: "lan0",
        TWO: "ens192",
    }


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/systemd/network/1.link", "[Match]\nPath=pci-0000:{}\n[Link]\nName={}\n"),
        ("/etc/udev/rules.d/9.rules", 'SUBSYSTEM=="net", \\\n KERNELS=="0000:{}", NAME="{}"\n'),
        ("/etc/udev/rules.d/9.rules", 'SUBSYSTEM=="net", DEVPATH=="*/0000:{}/net/*", NAME="{}"\n'),
    ],
)
def test_each_nic_keeps_the_name_that_its_place_gives_it(tmp_path: Path, path: str, text: str) -> None:
    """Though the names are in another order than the places, and no address tells."""
    places = (("0b:00.0", "zeta"), ("13:00.0", "alpha"), ("04:00.0", "mid"))
    folder, _, name = path.rpartition("/")
    there = {f"{folder}/{number}{name}": text.format(*one) for number, one in enumerate(places)}
    three = f"{ONE[:-1]}3"
    nics = (nic(ONE, pci_slot=192), nic(TWO, pci_slot=224), nic(three, pci_slot=1184))
    names = {ONE: "zeta", TWO: "alpha", three: "mid"}
    files = fixed(tmp_path, there, nics)
    clues = find_clues(files)
    assert {one.mac: one.name for one in clues if one.mac} == names, "what is written says so too"
    assert not any(left_over(one.source, files.text(one.source) or "") for one in clues)


def test_names_by_path_are_their_nics() -> None:
    three = f"{ONE[:-1]}3"
    nics = [nic(ONE, pci_slot=192), nic(TWO, pci_slot=224), nic(three, pci_slot=1184)]
    clues = [clue("enp4s0"), clue("enp11s0"), clue("enp19s0")]
    assert assign_names(nics, clues, by_slot=False)[0] == {ONE: "enp11s0", TWO: "enp19s0", three: "enp4s0"}


def test_a_bridge_that_has_its_nics_name_in_its_own_is_no_nic() -> None:
    bridge = clue("br-ens192", "02:00:00:00:00:01")
    assert assign_names([nic(ONE, pci_slot=192)], [bridge]) == ({ONE: "ens192"}, [])


def test_a_rule_by_the_name_of_a_slot_or_path(tmp_path: Path) -> None:
    rules = (
        'SUBSYSTEM=="net", ENV{ID_NET_NAME_SLOT}=="ens224", NAME="lan"\n'
        'SUBSYSTEM=="net", ENV{ID_NET_NAME_PATH}=="enp2s1", NAME="old"\n'
        'SUBSYSTEM=="net", ATTRS{vendor}=="0x15ad", NAME="any"\n'
    )
    work = Work()
    nics = (nic(ONE, pci_slot=33), nic(TWO, pci_slot=224))
    files = fixed(tmp_path, {"/etc/udev/rules.d/9.rules": rules}, nics, work)
    text = files.text("/etc/udev/rules.d/9.rules") or ""
    assert f'DRIVERS=="?*", ATTR{{address}}=="{TWO}", NAME="lan"' in text
    assert f'DRIVERS=="?*", ATTR{{address}}=="{ONE}", NAME="old"' in text
    assert "".join(work.warnings).endswith('ATTRS{vendor}=="0x15ad", NAME="any"'), "nothing like it there"


def test_a_nic_with_a_name_of_its_own_leaves_the_others_those_of_their_slots(tmp_path: Path) -> None:
    netplan = f"network: {{ethernets: {{a: {{match: {{macaddress: '{ONE}'}}, set-name: lan0}}}}}}\n"
    files = fixed(
        tmp_path, {"/etc/netplan/1.yaml": netplan}, (nic(ONE, pci_slot=192), nic(TWO, pci_slot=224))
    )
    assert files.matching("/etc/systemd/network/*") == ["/etc/systemd/network/10-hyperctl-ens224.link"]


def test_a_pattern_of_slots_matches_though_no_slot_is_known(tmp_path: Path) -> None:
    netplan = "network: {ethernets: {a: {match: {name: 'ens*'}, dhcp4: true}}}\n"
    work = Work()
    files = fixed(tmp_path, {"/etc/netplan/1.yaml": netplan}, (nic(ONE), nic(TWO)), work)
    assert [one.name for one in find_clues(files) if one.mac] == ["ens192", "ens224"]
    assert len(work.warnings) == 2, "a guess"


def test_a_match_on_vmware_itself_matches_any_machine(tmp_path: Path) -> None:
    path = "/etc/systemd/network/1.network"
    files = fixed(tmp_path, {path: "[Match]\nName=ens192\nVirtualization=vmware\n"}, (nic(ONE),))
    assert "Virtualization=vm\n" in (files.text(path) or "")


def fixed(
    root: Path, files: Mapping[str, str], nics: tuple[MachineNic, ...], work: Work | None = None
) -> GuestFiles:
    """The files after the network's step, of a guest whose udev names NICs by their slots."""
    library = "/usr/lib/systemd/libsystemd-shared-252.so"
    found = tree(root, {RULE_BY_SLOT: "", library: "", **files})
    guest = SimpleNamespace(
        files=found,
        machine=machine(nics=nics),
        order=SimpleNamespace(hardware=Hardware()),
        nic_order=[],
    )
    fix_network(cast(Inspected, guest), work or Work())
    return found


def test_a_name_made_of_a_mac_is_that_nics() -> None:
    clues = of_nics([Clue("enx005056aabb02", "f"), Clue("ens192", "f")])
    assert assign_names([nic(ONE), nic(TWO)], clues)[0] == {TWO: "enx005056aabb02", ONE: "ens192"}


def test_what_no_kernel_takes_for_a_name_is_none() -> None:
    found = of_nics(read_ifcfg(f"HWADDR={ONE}\n", "ifcfg-Wired_connection_1"))
    assert [(one.name, one.mac) for one in found] == [("", ONE)]
    assert of_nics(read_netplan("network: {ethernets: {lan: {match: {name: 'ens*'}}}}", "n")) == []


def test_the_slots_number_tells_the_name() -> None:
    nics = [nic(ONE, pci_slot=1184), nic(TWO, pci_slot=192)]
    names, guesses = assign_names(nics, [clue("ens192"), clue("ens161")])
    assert (names, guesses) == ({ONE: "ens161", TWO: "ens192"}, [])
    assert assign_names(nics, [])[0] == {ONE: "ens161", TWO: "ens192"}, "a firewall may know the name"
    assert assign_names(nics, [clue("eth0"), clue("eth1")], by_slot=False)[0] == {ONE: "eth0", TWO: "eth1"}
    assert assign_names(nics, [], by_slot=False)[0] == {}


def test_names_of_the_kernel_go_by_the_buses_of_vmwares_slots() -> None:
    """The fourth NIC of a machine is on the second bus, so its kernel has called it eth1."""
    three = f"{ONE[:-1]}3"
    nics = [nic(ONE, pci_slot=160), nic(TWO, pci_slot=192), nic(three, pci_slot=1184)]
    clues = [clue(f"eth{number}") for number in range(3)]
    names, guesses = assign_names(nics, clues, by_slot=False)
    assert names == {ONE: "eth0", three: "eth1", TWO: "eth2"}
    assert len(guesses) == 3


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["eth0", "eth1", "eth2"], ""),
        (["eth1", "eth0", "eth2"], "bac"),
        (["eth2", "eth0", "eth1"], "bca"),
        (["ens192", "eth0", ""], "bac"),
        (["eth7", "eth1", "eth0"], "cba"),
        (["ens192", "ens224", "ens256"], ""),
        (["", "eth9", ""], ""),
    ],
)
def test_a_kernel_finds_nics_in_the_order_of_their_names(names: list[str], order: str) -> None:
    nics = [nic(mac) for mac in "abc"]
    assert order_for_kernel(nics, dict(zip("abc", names, strict=True))) == tuple(order)


def test_a_kernel_finds_nics_in_the_order_of_vmwares_buses() -> None:
    """What goes by its names, a rule of udev's for KERNEL=="eth1" say, is not always known."""
    nics = [nic("a", pci_slot=192), nic("b", pci_slot=224), nic("c", pci_slot=1184), nic("d", pci_slot=33)]
    assert order_for_kernel(nics, {}, by_slot=False) == tuple("dcab")
    assert order_for_kernel(nics, {}) == ()
    assert order_for_kernel(nics, {"b": "eth0"}, by_slot=False) == tuple("bdca")


def test_a_name_that_is_left_over_from_another_time_is_the_last_choice() -> None:
    stale = [clue("ens33", "", "10.0.0.1"), clue("eth0")]
    names, guesses = assign_names([nic(ONE, "192.0.2.10/24")], stale)
    assert names == {ONE: "eth0"}
    assert guesses[-1] == "no NIC was found for ens33"
    gone = [clue("eth0", "", "10.0.0.1")]
    named = nic(ONE, "192.0.2.10/24", pci_slot=192)
    names, guesses = assign_names([named], gone)
    assert names == {ONE: "ens192"}, "udev gives no NIC the name eth0 there"
    assert guesses == [f"ens192 was given to the NIC {ONE} by its slot, and not eth0"]
    assert assign_names([named], gone, by_slot=False)[0] == {ONE: "eth0"}
    both = [clue("ens192"), clue("eth0")]
    assert assign_names([nic(ONE)], both)[0] == {ONE: "ens192"}
    assert assign_names([nic(ONE)], both, by_slot=False)[0] == {ONE: "eth0"}


def test_names_are_in_vmwares_order() -> None:
    names = ["eth10", "eth2", "ens161", "ens256", "ens193", "ens224", "ens192"]
    assert sorted(names, key=order) == ["ens192", "ens224", "ens256", "ens161", "ens193", "eth2", "eth10"]


PLACES = {"0b:00.0": Place(ONE, "ens192"), "13:00.0": Place(TWO, "lan0")}


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        (
            "/etc/netplan/*.yaml",
            "match: {name: en*, driver: vmxnet3}\n",
            "match: {name: en*, driver: virtio_net}\n",
        ),
        ("/etc/netplan/*.yaml", 'driver: ["e1000", vmxnet3]\n', 'driver: ["virtio_net", virtio_net]\n'),
        (
            "/etc/netplan/*.yaml",
            "driver:\n  - vmxnet3\nset-name: lan\n",
            "driver:\n  - virtio_net\nset-name: lan\n",
        ),
        ("/etc/netplan/*.yaml", "drivers: vmxnet3\n", "drivers: vmxnet3\n"),
        ("/etc/systemd/network/*.network", "Driver=e1000e vmxnet3\n", "Driver=virtio_net virtio_net\n"),
        (
            "/etc/systemd/network/*.network",
            "[Match]\nPath=pci-0000:0b:00.0 pci-0000:13:00.0\n",
            f"[Match]\nPermanentMACAddress={ONE} {TWO}\n",
        ),
        ("/etc/systemd/network/*.link", "Path=pci-0000:0b:00.0-*\n", f"PermanentMACAddress={ONE}\n"),
        ("/etc/systemd/network/*.link", "Path=pci-0000:03:00.0\n", "Path=pci-0000:03:00.0\n"),
        (
            "/etc/NetworkManager/system-connections/*",
            "[match]\npath=pci-0000:13:00.0;\ndriver=vmxnet3;\n",
            "[match]\ninterface-name=lan0;\ndriver=virtio_net;\n",
        ),
        (
            "/etc/NetworkManager/conf.d/*.conf",
            "match-device=driver:vmxnet3,mac:00:50:56:00:00:01\n",
            "match-device=driver:virtio_net,mac:00:50:56:00:00:01\n",
        ),
        (
            "/etc/udev/rules.d/*.rules",
            'SUBSYSTEM=="net", DEVPATH=="/devices/pci0000:00/0000:00:16.0/0000:0b:00.0/net/*", NAME="a"\n',
            f'SUBSYSTEM=="net", DRIVERS=="?*", ATTR{{address}}=="{ONE}", NAME="a"\n',
        ),
        (
            "/etc/udev/rules.d/*.rules",
            'SUBSYSTEM=="net", KERNELS=="0000:0b:00.0", DRIVERS=="vmxnet3", NAME="a"\n'
            'SUBSYSTEM=="block", KERNELS=="0000:0b:00.0", SYMLINK+="b"\n',
            f'SUBSYSTEM=="net", ATTR{{address}}=="{ONE}", DRIVERS=="virtio_net", NAME="a"\n'
            'SUBSYSTEM=="block", KERNELS=="0000:0b:00.0", SYMLINK+="b"\n',
        ),
    ],
)
def test_matches_on_vmwares_hardware_become_ones_on_virtios(path: str, before: str, after: str) -> None:
    rewrites = [
        rewrite
        for patterns, rewrite in for_driver("virtio_net", PLACES, "PermanentMACAddress")
        if path in patterns
    ]
    (rewrite,) = rewrites
    assert rewrite(before) == after
    assert rewrite(after) == after


def test_a_nic_is_up_though_it_cannot_be_tuned_as_vmwares() -> None:
    before = (
        "iface ens192 inet dhcp\n  pre-up /sbin/ethtool -G $IFACE rx 4096 tx 4096\n"
        "\tpost-up ethtool --offload ens192 lro off\n  up ethtool -K ens192 tso off # slow\n"
        "  up ethtool -K ens192 gro off || :\n"
        "  pre-up ethtool ens192\n  up ip route add default via 192.0.2.1\n"
    )
    after = before.replace("tx 4096\n", "tx 4096 || true\n").replace("lro off\n", "lro off || true\n")
    assert tolerant_tuning(before) == after
    assert tolerant_tuning(after) == after


def test_a_guess_and_a_missing_nic_are_said() -> None:
    _, guesses = assign_names([nic(ONE), nic(TWO)], [clue("ens192"), clue("ens224")])
    assert len(guesses) == 2
    _, guesses = assign_names([nic(ONE)], [clue("ens192", ONE), clue("ens224")])
    assert guesses == ["no NIC was found for ens224"]
    assert assign_names([nic(ONE)], [clue("ens192")])[1] == [], "one of each is no guess"


def test_a_vlan_that_has_the_nics_mac_keeps_its_own_name() -> None:
    assert f"PermanentMACAddress={ONE}" in link_file(ONE, "ens192")
    assert 'DRIVERS=="?*"' in udev_rule(ONE, "ens192")


@pytest.mark.parametrize(
    ("read", "repeated"),
    [
        (lambda text: list(read_netifrc(text, "n")), "config_a=(\n"),
        (lambda text: [rewrite(text) for _, rewrite in for_driver("virtio_net", {}, "")], "driver:[\n"),
    ],
)
def test_no_text_takes_hours(read: Callable[[str], object], repeated: str) -> None:
    began = time.monotonic()
    read(repeated * ((1 << 20) // len(repeated)))
    assert time.monotonic() - began < 20, "quadratic, it takes hours"


def test_a_link_file_of_nothing_but_lines_is_read_at_once(tmp_path: Path) -> None:
    there = {RULE_BY_SLOT: "", "/etc/systemd/network/10-long.link": "\n" * (1 << 20)}
    began = time.monotonic()
    assert named_by_slot(tree(tmp_path, there))
    assert time.monotonic() - began < 20, "quadratic, it takes hours"


@pytest.mark.parametrize(
    "text",
    ['!!bool "x"', '!!timestamp "x"', '!!int ""', "- " * 5000, '"\\U7fffffff"', '"\\UFFFFFFFF"', "&a [*a]"],
)
def test_a_netplan_that_cannot_be_understood_tells_nothing(text: str) -> None:
    assert list(read_netplan(text, "n")) == []


def test_netplan_knows_no_types() -> None:
    text = (
        "network:\n  ethernets:\n    ens192: {match: ~, dhcp4: !!bool x, set-name: null}\n"
        "    lan: {match: {macaddress: 11:22:33:44:55:16}, set-name: 0010}\n"
        "    ens224:\n      addresses: [192.0.2.10/24: {label: 'ens224:1'}, 2001:db8::10/64]\n"
    )
    assert list(read_netplan(text, "n")) == [
        Clue("ens192", "n"),
        Clue("0010", "n", "11:22:33:44:55:16", pinned=True),
        Clue("ens224", "n", addresses=("192.0.2.10", "2001:db8::10")),
    ]


def test_aliases_in_a_netplan_do_not_multiply() -> None:
    nested = "".join(f"l{at}: &l{at} [{', '.join([f'*l{at - 1}'] * 10)}]\n" for at in range(1, 12))
    text = f"l0: &l0 [192.0.2.10]\n{nested}network: {{ethernets: {{ens192: {{addresses: *l11}}}}}}\n"
    assert list(read_netplan(text, "n")) == [Clue("ens192", "n")]


def test_what_is_a_backup_goes_by_who_reads_it(tmp_path: Path) -> None:
    profiles, suse = "/etc/NetworkManager/system-connections", "/etc/sysconfig/network/ifcfg-"
    names = ("lan.bak", "lan.old", "lan.rpmsave", "lan~", ".lan", "lan.pem", "lan.der", "lan.X1y2Z3")
    profile = {f"{profiles}/{name}": "[connection]\ninterface-name=ens192\n" for name in names}
    red_hats = {
        f"{IFCFG}ens192{end}": "" for end in ("", ".bak", ".BAK", ".old", ".orig", ".rej", ".rpmnew", "~")
    }
    suses = {f"{suse}eth0{end}": "" for end in ("", ".rej", ".old", ".scpmbackup", ".rpmsave", "~")}
    found = [one.source for one in find_clues(tree(tmp_path, profile | red_hats | suses))]
    read = [f"{profiles}/lan.bak", f"{profiles}/lan.old", f"{profiles}/lan.rpmsave"]
    assert found == [*read, f"{IFCFG}ens192", f"{suse}eth0", f"{suse}eth0.rej"]


def test_half_a_quotation_is_no_name() -> None:
    found = of_nics(read_ifcfg(f'DEVICE="eth0\nHWADDR={ONE}\n', "i"))
    assert [(one.name, one.mac) for one in found] == [("", ONE)]
    assert assign_names([nic(ONE)], found)[0] == {}
