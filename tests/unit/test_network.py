"""Which name each NIC had, from every kind of configuration, and how it keeps it."""

import pytest

from hyperctl.activities.convert.linux.interfaces import (
    Clue,
    read_ifcfg,
    read_ifupdown,
    read_netplan,
    read_persistent_rules,
    read_sections,
)
from hyperctl.activities.convert.linux.network import assign_names, link_file, udev_rule
from hyperctl.workflows.machine import MachineNic

ONE, TWO = "00:50:56:aa:bb:01", "00:50:56:aa:bb:02"


def nic(mac: str, *addresses: str) -> MachineNic:
    return MachineNic(key=4000, label="", mac=mac.upper(), network="", adapter="vmxnet3", addresses=addresses)


def clue(name: str, mac: str = "", *addresses: str) -> Clue:
    return Clue(name, "file", mac, addresses)


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
        Clue("ens192", "netplan", "", ("192.0.2.10",)),
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
    assert found == Clue("ens192", "ifcfg-ens192", ONE, ("192.0.2.10",))
    (unnamed,) = read_ifcfg("BOOTPROTO=dhcp\n", "/etc/sysconfig/network/ifcfg-eth0")
    assert unnamed.name == "eth0"
    rules = f'# a comment\nSUBSYSTEM=="net", ATTR{{address}}=="{TWO}", KERNEL=="eth*", NAME="eth1"\n'
    assert list(read_persistent_rules(rules, "r")) == [Clue("eth1", "r", TWO, pinned=True)]


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


def test_a_guess_and_a_missing_nic_are_said() -> None:
    _, guesses = assign_names([nic(ONE), nic(TWO)], [clue("ens192"), clue("ens224")])
    assert len(guesses) == 2
    _, guesses = assign_names([nic(ONE)], [clue("ens192", ONE), clue("ens224")])
    assert guesses == ["no NIC was found for ens224"]
    assert assign_names([nic(ONE)], [clue("ens192")])[1] == [], "one of each is no guess"


def test_a_vlan_that_has_the_nics_mac_keeps_its_own_name() -> None:
    assert f"PermanentMACAddress={ONE}" in link_file(ONE, "ens192")
    assert 'DRIVERS=="?*"' in udev_rule(ONE, "ens192")
