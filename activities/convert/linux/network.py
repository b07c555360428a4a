"""NICs keep the names they had, so that whatever names them goes on working untouched."""

import re
from collections.abc import Sequence

from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.interfaces import PERSISTENT_RULES, PHYSICAL, Clue, find_clues
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.machine import MachineNic

LINK_FOLDER = "/etc/systemd/network"
RULES = "/etc/udev/rules.d/71-hyperctl-nic-names.rules"
PERMANENT_MAC_SINCE = 245
"""The first systemd whose .link files match a NIC's own MAC, and not a VLAN's that has it from the NIC."""
DRIVER_MATCHES = ("/etc/netplan/*.yaml", "/etc/systemd/network/*.network", "/etc/systemd/network/*.link")

_SHARED_LIBRARY = re.compile(r"libsystemd-shared-(\d+)")
_DRIVER = re.compile(
    r"^(\s*driver\s*[:=]\s*[\"']?)(?:vmxnet3|vmxnet|e1000e?|pcnet32)\b", re.IGNORECASE | re.MULTILINE
)


def fix_network(inspected: Inspected, work: Work) -> None:
    """Pin every NIC's old name to its MAC, and rewrite matches on VMware's drivers."""
    files = inspected.files
    clues = find_clues(files)
    names, guesses = assign_names(inspected.machine.nics, clues)
    work.warnings += guesses
    pinned = {clue.mac: clue.name for clue in clues if clue.pinned and clue.source != PERSISTENT_RULES}
    wanted = {mac: name for mac, name in names.items() if pinned.get(mac) != name}
    if wanted:
        _pin(files, wanted, work)
    driver = inspected.order.hardware.nic_model.driver
    for path in files.matching(*DRIVER_MATCHES):
        text = files.text(path)
        if text is not None and files.edit(path, _DRIVER.sub(rf"\1{driver}", text), work):
            work.done.append(f"{path} matches the driver {driver}")
    if files.exists(PERSISTENT_RULES) and names:
        files.guest.mv(PERSISTENT_RULES, f"{PERSISTENT_RULES}.before-hyperctl")
        work.changed.append(PERSISTENT_RULES)
        work.done.append(f"{PERSISTENT_RULES} retired")


def assign_names(nics: Sequence[MachineNic], clues: Sequence[Clue]) -> tuple[dict[str, str], list[str]]:
    """The old name of each NIC by its MAC, where the configuration has one, and what was guessed.

    A NIC is known by its MAC or by an address that vSphere reported for it; those that are left get the names
    that are left, in their order, which is VMware's.
    """
    found: dict[str, str] = {}
    for nic in nics:
        mac = nic.mac.lower()
        held = {address.partition("/")[0].lower() for address in nic.addresses}
        by_mac = [clue.name for clue in clues if clue.mac == mac and clue.name]
        by_address = [clue.name for clue in clues if held & set(clue.addresses) and PHYSICAL.match(clue.name)]
        for name in [*by_mac, *by_address]:
            if name not in found.values():
                found[mac] = name
                break
    others = {nic.mac.lower() for nic in nics}
    left = {
        clue.name for clue in clues if PHYSICAL.match(clue.name) and not (clue.mac and clue.mac not in others)
    }
    names = sorted(left - set(found.values()), key=_natural)
    unnamed = [nic.mac.lower() for nic in nics if nic.mac.lower() not in found]
    guesses = []
    for mac, name in zip(unnamed, names, strict=False):
        found[mac] = name
        if len(names) > 1 or len(unnamed) > 1:
            guesses.append(f"{name} was given to the NIC {mac} by its place alone")
    guesses += [f"no NIC was found for {name}" for name in names[len(unnamed) :]]
    return found, guesses


def link_file(mac: str, name: str) -> str:
    """systemd.link(5) that gives a NIC its name."""
    return (
        "# This NIC's name on VMware. Made by hyperctl.\n"
        f"[Match]\nPermanentMACAddress={mac}\n\n[Link]\nName={name}\n"
    )


def udev_rule(mac: str, name: str) -> str:
    """The same for an older systemd, or none. Only a NIC has a driver: VLANs and bonds share its MAC."""
    return f'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{{address}}=="{mac}", NAME="{name}"\n'


def _pin(files: GuestFiles, names: dict[str, str], work: Work) -> None:
    if _systemd_version(files) >= PERMANENT_MAC_SINCE:
        for mac, name in names.items():
            path = f"{LINK_FOLDER}/10-hyperctl-{name}.link"
            if files.edit(path, link_file(mac, name), work):
                work.done.append(f"{name} stays with {mac}")
        return
    rules = "".join(udev_rule(mac, name) for mac, name in names.items())
    if files.edit(RULES, f"# The NICs' names on VMware. Made by hyperctl.\n{rules}", work):
        work.done += [f"{name} stays with {mac}" for mac, name in names.items()]


def _systemd_version(files: GuestFiles) -> int:
    libraries = files.matching(
        "/lib/systemd/libsystemd-shared-*.so",
        "/usr/lib/systemd/libsystemd-shared-*.so",
        "/usr/lib/*/systemd/libsystemd-shared-*.so",
    )
    return max((int(found[1]) for path in libraries if (found := _SHARED_LIBRARY.search(path))), default=0)


def _natural(name: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))
