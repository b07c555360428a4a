"""A guest whose source says no MACs keeps those that its configuration goes by, where that is certain."""

from dataclasses import replace
from pathlib import Path

import pytest

from hyperctl.activities.convert.linux.interfaces import find_clues
from hyperctl.activities.convert.linux.network import assign_names
from hyperctl.activities.convert.linux.own_macs import own_macs
from hyperctl.activities.target.domain import domain_xml
from hyperctl.workflows.guest import as_guest_knows
from hyperctl.workflows.machine import MachineNic
from tests.unit.machines import guest, machine, nic
from tests.unit.test_domain import PLAIN
from tests.unit.tree import tree

MADE = ("52:54:00:11:22:33", "52:54:00:11:22:44")
ONE, TWO = "00:50:56:aa:bb:01", "00:0c:29:aa:bb:02"
IFCFG = "/etc/sysconfig/network-scripts/ifcfg-{}"
RULES = "/etc/udev/rules.d/70-persistent-net.rules"
RULE = 'SUBSYSTEM=="net", ATTR{{address}}=="{}", NAME="{}"\n'


def made(number: int, slot: int = 0) -> MachineNic:
    return nic(number, mac=MADE[number - 1], mac_made=True, addresses=(), pci_slot=slot)


def hwaddr(name: str, mac: str) -> dict[str, str]:
    return {IFCFG.format(name): f"DEVICE={name}\nHWADDR={mac}\nONBOOT=yes\nBOOTPROTO=none\n"}


NETPLAN = {
    "/etc/netplan/1.yaml": "network: {ethernets: {lan: {match: {macaddress: '" + ONE + "'}, dhcp4: true}}}\n"
}


@pytest.mark.parametrize(
    ("files", "nics", "macs"),
    [
        (hwaddr("ens192", ONE.upper()), (made(1),), (ONE,)),
        (NETPLAN, (made(1),), (ONE,)),
        ({RULES: RULE.format(ONE, "eth0")}, (made(1),), (ONE,)),
        ({RULES: RULE.format(ONE, "eth0"), **hwaddr("eth0", TWO)}, (made(1),), (TWO,)),
        (hwaddr("ens192", ONE) | hwaddr("ens224", TWO), (made(1, 224), made(2, 192)), (TWO, ONE)),
        (hwaddr("ens192", ONE) | hwaddr("ens224", TWO), (nic(1, mac=TWO), made(2)), (TWO, ONE)),
    ],
)
def test_what_is_certain_is_taken(
    tmp_path: Path, files: dict[str, str], nics: tuple[MachineNic, ...], macs: tuple[str, ...]
) -> None:
    clues = find_clues(tree(tmp_path, files))
    assert own_macs(nics, clues) == (macs, "")
    converted = as_guest_knows(machine(nics=nics), guest().model_copy(update={"nic_macs": macs}))
    names, guesses = assign_names(converted.nics, clues)
    assert (set(names), guesses) == ({clue.mac for clue in clues if clue.name and clue.mac in macs}, [])


@pytest.mark.parametrize(
    ("files", "nics"),
    [
        (hwaddr("ens192", ONE) | hwaddr("ens224", TWO), (made(1),)),
        (hwaddr("ens192", ONE), (made(1), made(2))),
    ],
)
def test_what_is_doubtful_is_said(
    tmp_path: Path, files: dict[str, str], nics: tuple[MachineNic, ...]
) -> None:
    macs, warning = own_macs(nics, find_clues(tree(tmp_path, files)))
    assert macs == ()
    assert f"ifcfg-ens192 goes by the MAC {ONE}" in warning or f"by the MAC {TWO} or {ONE}" in warning
    assert all(one.mac in warning for one in nics)


def test_several_go_by_the_order_of_their_names(tmp_path: Path) -> None:
    clues = find_clues(tree(tmp_path, hwaddr("ens224", ONE) | hwaddr("ens192", TWO)))
    macs, warning = own_macs((made(1), made(2)), clues)
    assert macs == (TWO, ONE)
    assert f"Network adapter 1 has {TWO}, Network adapter 2 has {ONE}" in warning


@pytest.mark.parametrize(
    ("files", "nics"),
    [
        (hwaddr("ens192", ONE), (nic(1),)),  # as vSphere has it
        (hwaddr("ens192", MADE[0]), (made(1),)),
        (hwaddr("ens192", "3c:ec:ef:00:00:01"), (made(1),)),  # of the hardware that it ran on before VMware
        ({IFCFG.format("ens192"): "DEVICE=ens192\nBOOTPROTO=dhcp\n"}, (made(1),)),
        ({RULES: RULE.format(ONE, "eth0") + RULE.format(TWO, "eth1")}, (made(1),)),  # of clones
    ],
)
def test_all_else_stays(tmp_path: Path, files: dict[str, str], nics: tuple[MachineNic, ...]) -> None:
    assert own_macs(nics, find_clues(tree(tmp_path, files))) == ((), "")


def test_the_new_machine_has_them() -> None:
    booted = guest().model_copy(update={"nic_macs": (ONE,)})
    found = as_guest_knows(machine(nics=(made(1),)), booted)
    xml = domain_xml(replace(PLAIN, machine=found, guest=booted, nic_sources=PLAIN.nic_sources[:1]))
    assert f'<mac address="{ONE}" />' in xml
    assert MADE[0] not in xml
    other = machine(nics=(made(1), made(2)))
    assert as_guest_knows(other, booted) == other, "of another number of NICs"
