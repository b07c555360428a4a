"""VMware's hardware as qemu emulates it: golden XML, and what cannot be had."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace

import pytest

from hyperctl.activities.prove.vmware import PLAIN, NotEmulatedError, hardware_words, on_vmware
from hyperctl.activities.target.domain import DomainDisk, domain_xml
from hyperctl.activities.target.network import DeadEnd
from hyperctl.workflows.machine import Machine
from tests.unit.machines import disk, guest, machine, nic
from tests.unit.test_domain import TRIAL


def xml_of(about: Machine) -> str:
    specification = replace(
        TRIAL,
        machine=about,
        guest=None,
        disks=tuple(DomainDisk(f"/srv/proof/disk{n}.qcow2", "qcow2") for n in range(1, len(about.disks) + 1)),
        nic_sources=tuple(DeadEnd("127.1.2.3", 4001, "127.1.2.3", 4002) for _ in about.nics),
        hardware=PLAIN,
    )
    return on_vmware(domain_xml(specification), about)


def slots(about: Machine) -> list[int]:
    return [int(found) for found in re.findall(r"slot=(\d+),", xml_of(about))]


def test_golden(golden: Callable[[str, str], None]) -> None:
    disks = (disk(1), disk(2), disk(3).model_copy(update={"controller": "lsisas", "controller_bus": 1}))
    about = machine(disks=disks, nics=(nic(1), nic(2, adapter="e1000")))
    golden("trial-vmware.xml", xml_of(about))
    assert hardware_words(about) == "pvscsi, mptsas1068, vmxnet3, e1000"


def test_nothing_of_virtio_and_no_network_is_there() -> None:
    domain = ET.fromstring(xml_of(machine()))
    assert "virtio" not in ET.tostring(domain, encoding="unicode")
    assert domain.findall("devices/interface") == []


def test_a_guest_too_old_for_q35_has_it_for_its_slots() -> None:
    xml = domain_xml(replace(TRIAL, guest=guest("centos", 5), hardware=PLAIN))
    assert 'machine="pc"' in xml
    assert 'machine="q35"' in on_vmware(xml, TRIAL.machine)


def test_a_nic_is_in_the_slot_that_gives_it_its_name_and_they_are_found_in_the_order_of_their_slots() -> None:
    assert slots(machine()) == [192]
    about = machine(nics=(nic(1, pci_slot=1184), nic(2), nic(3, pci_slot=192)))
    assert slots(about) == [161, 192, 224]
    found = re.findall(r"bus=vmware(\d),netdev=\w+,mac=([\w:]+)", xml_of(about))
    assert dict(found) == {str(at): about.nics[index].mac.lower() for at, index in enumerate((0, 2, 1))}
    addresses = re.findall(r"slot=\d+,bus=pcie\.0,addr=(0x\w+)", xml_of(about))
    assert addresses == sorted(addresses)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"disks": (disk().model_copy(update={"controller": "buslogic"}),)}, "Hard disk 1 .* buslogic"),
        ({"disks": (disk().model_copy(update={"controller": "lsisas", "unit": 9}),)}, "unit 9"),
        ({"nics": (nic(adapter="sriov"),)}, "Network adapter 1 is of the kind sriov"),
        ({"nics": tuple(nic(number) for number in range(1, 12))}, "11 network adapters"),
    ],
)
def test_what_is_not_emulated_is_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(NotEmulatedError, match=words):
        xml_of(machine(**changes))
