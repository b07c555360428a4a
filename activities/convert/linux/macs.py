"""A machine whose package has no MACs gets new ones: what goes by the old ones goes by those."""

import re
from collections.abc import Sequence

from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.linux.interfaces import PERSISTENT_RULES, Clue
from hyperctl.activities.convert.linux.pci import name_in_slot, order
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.machine import MachineNic


def adopt_macs(files: GuestFiles, nics: Sequence[MachineNic], clues: Sequence[Clue], work: Work) -> bool:
    """Put each new MAC in the place of the one that the NIC had, and say whether any was.

    One NIC of the machine has one MAC of the guest's; of several, those in the order of their names. Where
    there are more MACs than NICs, or fewer, nobody can say which was whose.
    """
    made = [nic for nic in nics if nic.mac_is_made]
    known = {nic.mac.lower() for nic in nics}
    gone = [clue for clue in clues if clue.mac and clue.mac not in known] if made else []
    told = [clue for clue in gone if clue.source != PERSISTENT_RULES] or gone
    names: dict[str, str] = {}
    for clue in told:
        names[clue.mac] = names.get(clue.mac) or clue.name
    if not names:
        return False
    if len(names) != len(made):
        work.warnings.append(
            f"the machine came without MACs, and its configuration goes by {', '.join(sorted(names))}: which "
            "of its NICs had which cannot be told"
        )
        return False
    old = sorted(names, key=lambda mac: (order(names[mac]), mac))
    new = {mac: nic.mac.lower() for mac, nic in zip(old, _by_slot(made), strict=True)}
    pattern = re.compile("|".join(map(re.escape, new)), re.IGNORECASE)
    for path in sorted({clue.source for clue in gone if clue.mac in new}):
        text = pattern.sub(lambda found: new[found[0].lower()], files.text(path) or "")
        if files.edit(path, text, work):
            work.done.append(f"{path} goes by the NICs' new MACs")
    if len(new) > 1:
        pairs = ", ".join(f"{mac} for {was}" for was, mac in new.items())
        work.warnings.append(f"the machine came without MACs; by the order of its NICs it has {pairs}")
    return True


def _by_slot(nics: list[MachineNic]) -> list[MachineNic]:
    if not all(nic.pci_slot for nic in nics):
        return nics
    return sorted(nics, key=lambda nic: order(name_in_slot(nic.pci_slot)))
