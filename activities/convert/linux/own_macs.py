"""The MACs that a guest's configuration goes by, where its source does not say what its NICs had."""

from collections.abc import Sequence

from hyperctl.activities.convert.linux.interfaces import PERSISTENT_RULES, Clue
from hyperctl.activities.convert.linux.pci import name_in_slot, order
from hyperctl.workflows.machine import MachineNic

_OF_HYPERVISORS = ("00:50:56", "00:0c:29", "00:05:69", "00:1c:14", "08:00:27", "52:54:00")
"""VMware, VirtualBox, QEMU: what is in another range was some other machine's."""


def own_macs(nics: Sequence[MachineNic], clues: Sequence[Clue]) -> tuple[tuple[str, ...], str]:
    """All NICs' MACs, where the guest has as many of its own as NICs have made-up ones; else none. And what
    is to be said of that.

    One for one is certain, and so is one whose name is that of the NIC's slot. Others go by the order of
    their names, in which VMware adds NICs, and that is said.
    """
    made = [nic for nic in nics if nic.mac_made]
    given = {nic.mac.lower() for nic in nics if not nic.mac_made}
    own = [clue for clue in clues if clue.mac and clue.mac not in given]
    by_rules = [clue for clue in own if clue.source == PERSISTENT_RULES]
    asked = [clue for clue in own if clue not in by_rules]
    macs = {clue.mac for clue in asked or by_rules if clue.mac.startswith(_OF_HYPERVISORS)}
    names = {(clue.mac, clue.name) for clue in asked or by_rules}
    if not made or macs <= {nic.mac.lower() for nic in made}:
        return (), ""
    found = {}
    for nic in made:
        of_slot = [mac for mac in macs if nic.pci_slot and (mac, name_in_slot(nic.pci_slot)) in names]
        fitting = list(macs) if len(macs) == len(made) == 1 else of_slot
        if len(fitting) == 1:
            found[nic.key] = fitting[0]
    if len(set(found.values())) == len(made) == len(macs):
        return tuple(found.get(nic.key, nic.mac.lower()) for nic in nics), ""
    if not asked:
        return (), ""
    if len(macs) == len(made):
        in_order = sorted(macs, key=lambda mac: min((order(name), mac) for one, name in names if one == mac))
        guessed = {nic.key: mac for nic, mac in zip(made, in_order, strict=True)}
        pairs = ", ".join(f"{nic.label} has {guessed[nic.key]}" for nic in made)
        return tuple(guessed.get(nic.key, nic.mac.lower()) for nic in nics), (
            f"the source says no MACs, and the guest's go by the order of their names: {pairs}. See that "
            "each is in its network (virsh edit)"
        )
    files = ", ".join(sorted({clue.source for clue in asked if clue.mac in macs}))
    now = ", ".join(nic.mac.lower() for nic in made)
    return (), (
        f"{files} goes by the MAC {' or '.join(sorted(macs))}, and the source does not say which NIC had "
        f"which: they have {now} now. Where the network does not come up, give them the guest's (virsh edit, "
        "<mac address=.../>)"
    )
