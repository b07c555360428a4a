"""NICs keep the names they had, so that whatever names them goes on working untouched."""

import re
from collections.abc import Iterator, Mapping, Sequence

from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.agreement import INITRAMFS_TOOLS_SETTINGS
from hyperctl.activities.convert.linux.bootloader import ENTRIES, ENVIRONMENTS, SETTINGS
from hyperctl.activities.convert.linux.interfaces import (
    PERSISTENT_RULES,
    PHYSICAL,
    Clue,
    find_clues,
    interfaces_files,
    of_nics,
    read_arguments,
    read_netplan,
    read_rules,
    read_sections,
)
from hyperctl.activities.convert.linux.matches import (
    KEYFILES,
    NETPLAN,
    NETWORKD,
    Place,
    for_driver,
    left_over,
    tolerant_tuning,
)
from hyperctl.activities.convert.linux.matches import RULES as UDEV_RULES
from hyperctl.activities.convert.linux.pci import DEFAULT_SLOTS, name_at, name_in_slot, name_of_place, order
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.machine import MachineNic

LINK_FOLDER = "/etc/systemd/network"
OUR_LINK = "10-hyperctl-{}.link"
RULES = "/etc/udev/rules.d/71-hyperctl-nic-names.rules"
PERMANENT_MAC_SINCE = 245
"""The first systemd whose .link files match a NIC's own MAC, and not a VLAN's that has it from the NIC."""
NAMING_RULES = "/etc/udev/rules.d/80-net-setup-link.rules"
"""In the place of systemd's own of that name, which is what gives a NIC the name of its .link file."""
OLDER_NAMING_RULES = "/etc/udev/rules.d/80-net-name-slot.rules"
RULES_BY_SLOT = (
    "/usr/lib/udev/rules.d/80-net-setup-link.rules",
    "/lib/udev/rules.d/80-net-setup-link.rules",
    "/usr/lib/udev/rules.d/80-net-name-slot.rules",
    "/lib/udev/rules.d/80-net-name-slot.rules",
)
"""udev's own, since systemd 197; before, a NIC kept its kernel's name."""
DEFAULT_LINK = f"{LINK_FOLDER}/99-default.link"
SYSTEMDS_DEFAULT_LINKS = ("/usr/lib/systemd/network/99-default.link", "/lib/systemd/network/99-default.link")
CLOUD_INIT = ("/usr/bin/cloud-init", "/usr/local/bin/cloud-init")
CLOUD_INIT_OFF = "/etc/cloud/cloud-init.disabled"
CLOUD_INIT_SETTING = "/etc/cloud/cloud.cfg.d/99-hyperctl-network.cfg"
CLOUD_INIT_CACHE = "/var/lib/cloud/instance/obj.pkl"
"""What cloud-init knows of the instance that this machine is."""
KERNELS = re.compile(r"^eth(\d+)$")
KERNEL_NAMES = "net.ifnames=0"
_RENAMES = re.compile(r"^[ \t]*Name(?:Policy)?[ \t]*=|\bset-name\b|(?<![\w{])NAME:?=\"", re.MULTILINE)
"""In a .link file, netplan's and a rule of udev's."""
_BY_SLOT = re.compile(r"^[ \t]*NamePolicy[ \t]*=[^\n]*\bslot\b", re.MULTILINE)

_SLOT_PATTERN = re.compile(r"(?<![\w*])ens\d*[*?\[]")
EXPRESS_ADAPTERS = ("vmxnet3", "e1000e")

_SHARED_LIBRARY = re.compile(r"libsystemd-shared-(\d+)")


def fix_network(inspected: Inspected, work: Work) -> None:
    """Pin every NIC's old name to its MAC, and rewrite matches on VMware's drivers and PCI places."""
    files = inspected.files
    nics = inspected.machine.nics
    names, guesses, clues = nic_names(inspected)
    by_slot = named_by_slot(files)
    work.warnings += guesses
    if by_slot and any(_SLOT_PATTERN.search(text) for text in _configurations(files)):
        work.warnings += _name_by_default(nics, names)
    pinned = {clue.mac: clue.name for clue in clues if clue.pinned and clue.source != PERSISTENT_RULES}
    inspected.nic_order.extend(order_for_kernel(nics, names, by_slot=by_slot))
    wanted = {mac: name for mac, name in names.items() if pinned.get(mac) != name}
    if wanted:
        _pin(files, wanted, clues, work)
    by_name = {name: mac for mac, name in names.items()}
    places = {
        clue.place: Place(by_name[clue.name], clue.name)
        for clue in clues
        if clue.place and clue.name in by_name
    }
    new_enough = _systemd_version(files) >= PERMANENT_MAC_SINCE
    mac_key = "PermanentMACAddress" if new_enough else "MACAddress"
    driver = inspected.order.hardware.nic_model.driver
    for patterns, rewrite in for_driver(driver, places, mac_key):
        for path in files.matching(*patterns):
            text = files.text(path)
            if text is None or path == PERSISTENT_RULES:
                continue
            if files.edit(path, after := rewrite(text), work):
                work.done.append(f"{path} matches the new NICs")
            if found := left_over(path, after):
                work.warnings.append(f"{path} still names hardware of VMware's: {found[:200]}")
    for path, text in list(interfaces_files(files)):
        if files.edit(path, tolerant_tuning(text), work):
            work.done.append(f"{path} has NICs up that cannot be tuned as VMware's")
    keep_from_cloud_init(files, work)
    if files.exists(PERSISTENT_RULES) and names:
        files.guest.mv(PERSISTENT_RULES, f"{PERSISTENT_RULES}.before-hyperctl")
        work.changed.append(PERSISTENT_RULES)
        work.done.append(f"{PERSISTENT_RULES} retired")


def nic_names(inspected: Inspected) -> tuple[dict[str, str], list[str], list[Clue]]:
    """The old name of each NIC by its MAC, what was guessed of them, and by what they were told."""
    files = inspected.files
    clues = find_clues(files)
    for path in files.matching(*ENTRIES, *ENVIRONMENTS, *SETTINGS, *INITRAMFS_TOOLS_SETTINGS):
        clues += of_nics(read_arguments(files.text(path) or "", path))
    names, guesses = assign_names(inspected.machine.nics, clues, by_slot=named_by_slot(files))
    return names, guesses, clues


def keep_from_cloud_init(files: GuestFiles, work: Work) -> None:
    """What there is of a network stays, and the instance that the machine is.

    cloud-init finds none of VMware's data on KVM. It would then write a configuration of its own, DHCP on the
    first NIC (its manual, "Network configuration sources"), and take the machine for a new one, with new
    SSH host keys and its default user's password locked, unless it trusts its cache (`manual_cache_clean`).
    """
    if not any(files.exists(path) for path in CLOUD_INIT) or files.exists(CLOUD_INIT_OFF):
        return
    trusts = "manual_cache_clean: true\n" if files.exists(CLOUD_INIT_CACHE) else ""
    if files.edit(CLOUD_INIT_SETTING, f"network:\n  config: disabled\n{trusts}", work):
        and_more = ", and takes the machine for the instance that it was" if trusts else ""
        work.done.append(f"cloud-init leaves the network's configuration as it is{and_more}")
        if trusts:
            work.warnings.append(
                f"{CLOUD_INIT_SETTING} has cloud-init trust what it knows of this instance, so that clones "
                "of this machine are the same instance, unless `cloud-init clean` is run before they are made"
            )


def assign_names(
    nics: Sequence[MachineNic], clues: Sequence[Clue], *, by_slot: bool = True
) -> tuple[dict[str, str], list[str]]:
    """The old name of each NIC by its MAC, where one is known, and what was guessed.

    A NIC is known by its MAC, by an address that vSphere reported for it, or by its slot; those that are left
    get the names that are left, in VMware's order; names of the kernel's own, eth0 and so on, by PCI buses,
    as a kernel finds them. `by_slot` says whether the guest names NICs by their slots: then one that no
    configuration names has a name too.
    """
    found: dict[str, str] = {}
    known = {clue.name for clue in clues if PHYSICAL.match(clue.name) or clue.mac or clue.place} - {""}
    slots = {nic.mac.lower(): name_in_slot(nic.pci_slot) for nic in nics if nic.pci_slot}
    places = {clue.name: name_at(clue.place) for clue in clues if clue.place and clue.name}
    for nic in nics:
        mac = nic.mac.lower()
        held = {address.partition("/")[0].lower() for address in nic.addresses}
        candidates = [clue.name for clue in clues if clue.mac == mac and clue.name]
        candidates += [name for name, place in places.items() if place == slots.get(mac)]
        candidates += [clue.name for clue in clues if held & set(clue.addresses) and clue.name in known]
        candidates += [slots[mac]] if slots.get(mac) in known else []
        by_path = [name for name in sorted(known) if PHYSICAL.match(name)]
        candidates += [name for name in by_path if mac in slots and name_of_place(name) == slots[mac]]
        for name in candidates:
            if name not in found.values():
                found[mac] = name
                break
    others = {nic.mac.lower() for nic in nics}
    left = {clue.name for clue in clues if clue.name in known and not (clue.mac and clue.mac not in others)}
    held_by_any = {address.partition("/")[0].lower() for nic in nics for address in nic.addresses}
    current = {clue.name for clue in clues if held_by_any & set(clue.addresses)}
    stale = {clue.name for clue in clues if clue.addresses} - current if held_by_any else set[str]()

    def likelihood(name: str) -> tuple[bool, bool, tuple[tuple[int, int, str], ...]]:
        """The likeliest first: not one whose addresses no NIC has, and of the kind that the guest gives."""
        return name in stale, name.startswith("eth") is by_slot, order(places.get(name, name))

    # Where udev names NICs by their slots there is no eth0; what is still set up for one is of another time.
    gone = {name for name in stale if by_slot and KERNELS.match(name)}
    names = sorted(left - gone - set(found.values()), key=likelihood)
    unnamed = [nic.mac.lower() for nic in nics if nic.mac.lower() not in found]
    if names and all(KERNELS.match(name) for name in names) and all(mac in slots for mac in unnamed):
        unnamed.sort(key=lambda mac: int(slots[mac].removeprefix("ens")))
    guesses = []
    for mac, name in zip(unnamed, names, strict=False):
        found[mac] = name
        if len(names) > 1 or len(unnamed) > 1:
            guesses.append(f"{name} was given to the NIC {mac} by its place alone")
    guesses += [f"no NIC was found for {name}" for name in names[len(unnamed) :]]
    for mac in unnamed[len(names) :]:
        if by_slot and mac in slots and slots[mac] not in found.values():
            found[mac] = slots[mac]
            if gone:
                named = ", ".join(sorted(gone, key=order))
                guesses.append(f"{slots[mac]} was given to the NIC {mac} by its slot, and not {named}")
    return found, guesses


def order_for_kernel(
    nics: Sequence[MachineNic], names: Mapping[str, str], *, by_slot: bool = True
) -> tuple[str, ...]:
    """In which order the new machine must have its NICs, by their MACs; empty where vSphere's serves.

    A kernel calls them eth0, eth1 and so on as it finds them, and udev gives no NIC a name that another still
    has. So one that is to be eth1 has to be the second. Where nothing names NICs by their slots, what goes by
    the kernel's names may not be known: then the others are in the order of VMware's buses.
    """
    macs = [nic.mac.lower() for nic in nics]
    places: dict[int, str] = {}
    for mac in macs:
        found = KERNELS.match(names.get(mac, ""))
        if found and int(found[1]) < len(macs):
            places[int(found[1])] = mac
    left = [nic for nic in nics if nic.mac.lower() not in places.values()]
    if not by_slot and all(nic.pci_slot for nic in left):
        left.sort(key=lambda nic: int(name_in_slot(nic.pci_slot).removeprefix("ens")))
    others = iter([nic.mac.lower() for nic in left])
    ordered = tuple(places.get(place) or next(others) for place in range(len(macs)))
    return ordered if ordered != tuple(macs) else ()


def _name_by_default(nics: Sequence[MachineNic], names: dict[str, str]) -> list[str]:
    """Something matches ens*, and no name on KVM is such a one. Returns what was guessed."""
    guesses = []
    free = iter([name for slot in DEFAULT_SLOTS if (name := name_in_slot(slot)) not in names.values()])
    for nic in nics:
        mac = nic.mac.lower()
        if mac not in names and nic.adapter in EXPRESS_ADAPTERS and (name := next(free, "")):
            names[mac] = name
            guesses.append(f"{name} was given to the NIC {mac}, as vSphere usually does")
    return guesses


def _configurations(files: GuestFiles) -> Iterator[str]:
    yield from (text for path in files.matching(*NETPLAN, *NETWORKD, *KEYFILES) if (text := files.text(path)))
    yield from (text for _, text in interfaces_files(files))


def link_file(mac: str, name: str) -> str:
    """systemd.link(5) that gives a NIC its name."""
    return (
        "# This NIC's name on VMware. Made by hyperctl.\n"
        f"[Match]\nPermanentMACAddress={mac}\n\n[Link]\nName={name}\n"
    )


def udev_rule(mac: str, name: str) -> str:
    """The same for an older systemd, or none. Only a NIC has a driver: VLANs and bonds share its MAC."""
    return f'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{{address}}=="{mac}", NAME="{name}"\n'


def _pin(files: GuestFiles, names: dict[str, str], clues: Sequence[Clue], work: Work) -> None:
    written = [files.edit(path, text, work) for path, text in pinning_files(files, names, clues).items()]
    if any(written):
        work.done += [f"{name} stays with {mac}" for mac, name in names.items()]


def pinning_files(files: GuestFiles, names: Mapping[str, str], clues: Sequence[Clue]) -> dict[str, str]:
    """By their paths, the files that give NICs their names, of the kind that serves in this guest."""
    if not _rule_needed(files, clues):
        return {f"{LINK_FOLDER}/{OUR_LINK.format(name)}": link_file(mac, name) for mac, name in names.items()}
    rules = "".join(udev_rule(mac, name) for mac, name in names.items())
    return {RULES: f"# The NICs' names on VMware. Made by hyperctl.\n{rules}"}


def _rule_needed(files: GuestFiles, clues: Sequence[Clue]) -> bool:
    """Whether a .link file would not do: systemd is too old or told not to name NICs, or the guest has .link
    files with settings of its own, of which a NIC takes one only."""
    pinning = {clue.source for clue in clues if clue.pinned}
    ours = f"{LINK_FOLDER}/{OUR_LINK.format('')[: -len('.link')]}"
    own = [
        path
        for path in files.matching(f"{LINK_FOLDER}/*.link")
        if not path.startswith(ours) and path not in pinning and files.text(path)
    ]
    return bool(own) or _systemd_version(files) < PERMANENT_MAC_SINCE or files.is_there(NAMING_RULES)


def named_by_slot(files: GuestFiles) -> bool:
    """Whether the guest's udev gives NICs the names of their slots, and nothing of its own renames them."""
    if not files.matching(*RULES_BY_SLOT):
        return False
    if any(files.is_there(path) for path in (NAMING_RULES, OLDER_NAMING_RULES)):
        return False
    if files.is_there(DEFAULT_LINK) and not _BY_SLOT.search(files.text(DEFAULT_LINK) or ""):
        return False
    defaults = [text for path in SYSTEMDS_DEFAULT_LINKS if (text := files.text(path)) is not None]
    if defaults and not any(_BY_SLOT.search(text) for text in defaults):
        return False
    texts = [files.text(path) or "" for path in files.matching(*ENTRIES, *ENVIRONMENTS, *SETTINGS)]
    if any(KERNEL_NAMES in text for text in texts):
        return False
    return not any(
        _renames_any(path, files.text(path) or "")
        for path in files.matching(f"{LINK_FOLDER}/*.link", *NETPLAN, *UDEV_RULES)
    )


def _renames_any(path: str, text: str) -> bool:
    """Whether a file gives names to others than to NICs that it knows by their MACs or places."""
    renames = len(_RENAMES.findall(_BY_SLOT.sub("", text)))
    read = (
        read_netplan if path.endswith(".yaml") else read_rules if path.endswith(".rules") else read_sections
    )
    known = [clue for clue in read(text, path) if clue.name and (clue.mac or clue.place)] if renames else []
    return renames > len(known)


def _systemd_version(files: GuestFiles) -> int:
    libraries = files.matching(
        "/lib/systemd/libsystemd-shared-*.so",
        "/usr/lib/systemd/libsystemd-shared-*.so",
        "/usr/lib/*/systemd/libsystemd-shared-*.so",
    )
    return max((int(found[1]) for path in libraries if (found := _SHARED_LIBRARY.search(path))), default=0)
