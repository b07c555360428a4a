"""Where VMware puts a NIC on the PCI buses, and the name that systemd gives it there.

The number of a slot is bits FFF.BBBBB.DDDDD: a function, and a device on a bus (Broadcom, "Mapping PCI slot
numbers to guest-visible PCI bus topology"). A NIC's name is by the slot that its bridge announces
(systemd.net-naming-scheme(7)): ens192, and ens161 for the second function of the bridge that ens160 is on.
"""

import re

ADDRESS = re.compile(
    r"(?<![0-9a-f])(?:0000:)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])(?![0-9a-f])", re.IGNORECASE
)
"""Bus, device and function; VMware has one domain."""
LEGACY_BUS = 2
"""Behind the bridge in slot 17, for devices that are not PCI Express."""
EXPRESS_BUSES = range(3, 35)
"""Behind the four bridges in the slots 21 to 24, of eight functions each."""
FUNCTIONS = 8
SLOTS_OF_A_BRIDGE = 32
FIRST_EXPRESS_SLOT = 160
DEFAULT_SLOTS = (192, 224, 256, 1184, 1216, 1248, 1280, 2208, 2240, 2272)
"""Where vSphere puts the first ten NICs, after a paravirtual controller of disks in slot 160."""
_BY_SLOT = re.compile(r"ens(\d+)$")
_NAMED_PLACE = re.compile(r"(?<![A-Za-z0-9])(?:ens(\d{1,4})|enp(\d{1,3})s(\d{1,2}))(?![A-Za-z0-9])")


def address_in(text: str) -> str:
    """The last PCI address in a text, as `0b:00.0`, or an empty string: a path names the bridges first."""
    found = ADDRESS.findall(text)
    return "{}:{}.{}".format(*found[-1]).lower() if found else ""


def place_in(text: str) -> str:
    """The same, also where it says the name that a NIC has by its slot, `ens192`, or its path, `enp11s0`."""
    if address := address_in(text):
        return address
    found = _NAMED_PLACE.search(text)
    if not found:
        return ""
    if not found[1]:
        bus, device = int(found[2]), int(found[3])
    elif (slot := int(found[1])) < FIRST_EXPRESS_SLOT:
        bus, device = LEGACY_BUS, slot - SLOTS_OF_A_BRIDGE
    else:
        bridge, function = divmod(slot - FIRST_EXPRESS_SLOT, SLOTS_OF_A_BRIDGE)
        bus, device = EXPRESS_BUSES.start + FUNCTIONS * bridge + function, 0
    return f"{bus:02x}:{device:02x}.0" if 0 <= bus < 256 and 0 <= device < SLOTS_OF_A_BRIDGE else ""


def name_at(address: str) -> str:
    """The name of a NIC at `0b:00.0`: `ens192`."""
    bus, device = (int(part, 16) for part in address.partition(".")[0].split(":"))
    if bus in EXPRESS_BUSES:
        bridge, function = divmod(bus - EXPRESS_BUSES.start, FUNCTIONS)
        return f"ens{FIRST_EXPRESS_SLOT + SLOTS_OF_A_BRIDGE * bridge + function}"
    if bus == LEGACY_BUS:
        return f"ens{SLOTS_OF_A_BRIDGE + device}"
    return f"enp{bus}s{device}"


def name_of_place(name: str) -> str:
    """The name by its slot of what may be called by its path: `ens192` for `enp11s0`."""
    place = place_in(name)
    return name_at(place) if place else ""


def name_in_slot(slot: int) -> str:
    """The name of a NIC by the number that vSphere has for its slot: `ens161` for 1184."""
    function, place = divmod(slot, SLOTS_OF_A_BRIDGE**2)
    return f"ens{place + function}"


def order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts names as VMware adds NICs: ens192, ens224, ens256, then ens161; others as people read them."""
    found = _BY_SLOT.match(name)
    if found and int(found[1]) >= FIRST_EXPRESS_SLOT:
        bridge, function = divmod(int(found[1]), SLOTS_OF_A_BRIDGE)
        return ((1, 0, "ens"), (0, function, ""), (0, bridge, ""))
    return tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part
    )
