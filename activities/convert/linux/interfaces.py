"""Which names the guest's network configuration has for its NICs, and what it says of each.

Read are ifupdown (interfaces(5)), netplan(5), systemd.network(5) and systemd.link(5), NetworkManager's
keyfiles (nm-settings-keyfile(5)), Red Hat's and SUSE's ifcfg files, dhcpcd.conf(5), Gentoo's /etc/conf.d/net,
and udev's rules (udev(7)).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import yaml

from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.linux.pci import address_in, name_at, place_in

PHYSICAL = re.compile(r"^(?:eth\d+|em\d+|p\d+p\d+|en(?:o|s|p|x|P)[0-9A-Za-z]+)$")
"""Names that a kernel or udev gives to NICs; bonds, bridges and VLANs have others."""
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", re.IGNORECASE)
_MAC_NAME = re.compile(r"^enx([0-9a-f]{12})$")
_VALID = re.compile(r"^[^\s/:*?\[\]!\"'%$]{1,15}$")
"""What a kernel takes for a name, and is no pattern, no udev's substitution and no half of a quotation."""
_SHELL_VALUE = re.compile(r"[ \t]*(?:\"([^\"]*)\"|'([^']*)'|([^\s#]*))")
"""A shell's assignment up to a comment."""
_NO_KEYFILE = re.compile(r"(?:^|/)\.[^/]*$|~$|\.[0-9A-Za-z]{6}$|\.(?:pem|der)$")
"""What NetworkManager takes for no profile: hidden files, editors' and mkstemp(3)'s, and certificates."""
_NO_IFCFG = re.compile(r"(?:~|\.(?:bak|old|orig|rej|rpmnew|rpmorig|rpmsave|augnew|augtmp))$", re.IGNORECASE)
"""What Red Hat's initscripts or NetworkManager pass over."""
_NO_IFCFG_OF_SUSE = re.compile(r"(?:~|\.(?:bak|old|orig|rpmnew|rpmorig|rpmsave|scpmbackup))$")
"""What wicked passes over."""
_OF_DIRECTORY = re.compile(r"^[\w-]+$", re.ASCII)
"""What interfaces(5) takes of a `source-directory`."""
_ARGUMENT = re.compile(
    r"(?<![\w.-])((?:ip|ifname|vlan|bond|bridge|team|rd\.route)|IP|DEVICE)=[\"']?([^\s\"']+)"
)
_IN_BRACKETS = re.compile(r"\[[^\[\]]*\]")
_ADDRESS = re.compile(
    r"(?<![\w.:])(\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]*:[0-9a-f:]*:[0-9a-f:]*)(?:/\d{1,3})?", re.I
)


@dataclass(frozen=True, slots=True)
class Clue:
    """One mention of a NIC in a configuration file."""

    name: str
    source: str
    """The file that says so."""
    mac: str = ""
    """In small letters; empty where the configuration goes by the name alone."""
    place: str = ""
    """The PCI address that it goes by, `0b:00.0`, or an empty string."""
    addresses: tuple[str, ...] = ()
    """Static ones, without prefix length."""
    pinned: bool = False
    """Whether this file itself gives the name to the MAC."""


def find_clues(files: GuestFiles) -> list[Clue]:
    """Every mention, in the order of the files. A file that cannot be understood tells nothing."""
    clues: list[Clue] = []
    for patterns, read, passed_over in _READERS:
        for path in files.matching(*patterns):
            text = None if passed_over and passed_over.search(path) else files.text(path)
            if text is not None:
                clues += read(text, path)
    for path, text in interfaces_files(files):
        clues += read_ifupdown(text, path)
    return of_nics(clues)


def of_nics(clues: Iterable[Clue]) -> list[Clue]:
    """The mentions that are of NICs, with the names that their places or MACs give them."""
    found = [_completed(clue) for clue in clues]
    given = {clue.place: clue.name for clue in found if clue.place and clue.name}
    found = [
        replace(clue, name=given.get(clue.place) or name_at(clue.place))
        if clue.place and not clue.name
        else clue
        for clue in found
    ]
    known = {clue.name for clue in found if clue.mac or clue.place} - {""}
    return [clue for clue in found if clue.mac or PHYSICAL.match(clue.name) or clue.name in known]


def _completed(clue: Clue) -> Clue:
    """A name that is made of the MAC says it; one that no kernel takes is none."""
    if found := _MAC_NAME.match(clue.name):
        mac = ":".join(found[1][at : at + 2] for at in range(0, 12, 2))
        return replace(clue, mac=clue.mac or mac)
    return clue if _VALID.match(clue.name) else replace(clue, name="", pinned=False)


def interfaces_files(files: GuestFiles) -> Iterator[tuple[str, str]]:
    """interfaces(5) and what it takes in, each once."""
    waiting, seen = [INTERFACES], set[str]()
    while waiting:
        path = waiting.pop(0)
        text = None if path in seen else files.text(path)
        seen.add(path)
        if text is None:
            continue
        yield path, text
        for pattern, is_folder in sourced(text):
            found = files.matching(pattern)
            waiting += [one for one in found if not is_folder or _OF_DIRECTORY.match(one.rpartition("/")[2])]


def sourced(text: str) -> list[tuple[str, bool]]:
    """The glob patterns of the files that an interfaces(5) takes in, and whether by their folder; relative
    ones are beside it."""
    folder = INTERFACES.rpartition("/")[0]
    found = []
    for words in map(str.split, text.splitlines()):
        if len(words) > 1 and words[0] in ("source", "source-directory"):
            is_folder = words[0] == "source-directory"
            paths = [word if word.startswith("/") else f"{folder}/{word}" for word in words[1:]]
            found += [(f"{path}/*" if is_folder else path, is_folder) for path in paths]
    return found


def read_ifupdown(text: str, source: str) -> Iterator[Clue]:
    stanza = ""
    lines: list[str] = []
    for line in [*text.replace("\\\n", " ").splitlines(), "iface"]:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in _BEGINNINGS or words[0].startswith("allow-"):
            if stanza:
                body = "\n".join(line for line in lines if line.split()[0] == "address")
                yield Clue(stanza, source, addresses=_static(body))
            stanza, lines = (_parent(words[1]) if words[0] == "iface" and len(words) > 1 else ""), []
            if words[0] in ("auto", "mapping") or words[0].startswith("allow-"):
                yield from (Clue(_parent(word), source) for word in words[1:])
        else:
            lines.append(line)
            if words[0].replace("_", "-") in _LOWER:
                yield from (Clue(_parent(word), source) for word in words[1:])


def _parent(name: str) -> str:
    """`ens192` of an alias, of a VLAN by its number, or of a logical name's `ens192=lan`."""
    return name.partition("=")[0].partition(":")[0].partition(".")[0]


def read_netplan(text: str, source: str) -> Iterator[Clue]:
    try:
        document = yaml.load(text, yaml.BaseLoader)  # netplan knows no types either
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError):  # an escape of no character
        return
    ethernets = _mapping(_mapping(_mapping(document).get("network")).get("ethernets"))
    for key, facts in ethernets.items():
        facts = _mapping(facts)
        match = _mapping(facts.get("match"))
        mac = _scalar(match.get("macaddress")).lower()
        set_name = _scalar(facts.get("set-name"))
        # Without a MAC it is the old name that the NIC must have, for the new one to be given to it.
        name = (set_name if mac else "") or _scalar(match.get("name")) or set_name or ("" if match else key)
        listed = facts.get("addresses")
        # One with settings of its own is a mapping.
        words = [word for one in (listed if isinstance(listed, list) else []) for word in _keys(one)]
        addresses = tuple(address for word in words for address in _static(word))
        if name or mac:
            yield Clue(name, source, mac, addresses=addresses, pinned=bool(mac and set_name))


def read_sections(text: str, source: str) -> Iterator[Clue]:
    """systemd's .network and .link files, NetworkManager's keyfiles."""
    facts: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line.strip("[]").lower()
        elif "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            facts.setdefault(f"{section}.{key.strip().lower()}", []).append(value.strip())

    def values(*keys: str) -> list[str]:
        return [value for key in keys for value in facts.get(key, [])]

    found = [
        _static(f"{key}={value}")
        for key in facts
        for value in facts[key]
        if "address" in key and "mac" not in key
    ]
    addresses = tuple(address for group in found for address in group)
    if set(values("connection.type")) - ETHERNET:  # its own name is no NIC's, but its parent may be one
        parents = [name for key in facts if key.endswith(".parent") for name in facts[key]]
        yield from (Clue(name, source, addresses=addresses) for name in parents)
        return
    macs = [
        one[0].lower()
        for value in values(
            "match.macaddress",
            "match.permanentmacaddress",
            "ethernet.mac-address",
            "802-3-ethernet.mac-address",
        )
        for one in _MAC.finditer(value)
    ]
    places = [address_in(word) for value in values("match.path") for word in re.split(r"[\s;]+", value)]
    places = [place for place in places if place]
    given = values("link.name")
    names = given or [
        word
        for value in values("match.name", "connection.interface-name", "match.interface-name")
        for word in re.split(r"[\s;]+", value)
        if word and not set("*?![") & set(word)
    ]
    if len(names) <= 1:
        name = names[0] if names else ""
        several = len(macs) > 1 or len(places) > 1
        for mac in macs or [""]:
            for place in places or [""]:
                if name or mac or place:
                    yield Clue(
                        "" if several else name, source, mac, place, addresses, pinned=bool(given and mac)
                    )
        return
    yield from (Clue(name, source, addresses=addresses) for name in names)


def read_ifcfg(text: str, source: str) -> Iterator[Clue]:
    facts = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not key.lstrip().startswith("#") and (said := _SHELL_VALUE.match(value)):
            facts[key.strip().upper()] = next(filter(None, said.groups()), "")
    own = source.rpartition("ifcfg-")[2]
    # Red Hat's without a DEVICE is a connection that goes by the MAC, whatever its file is called.
    is_named = source.startswith(SUSE_FOLDER) or PHYSICAL.match(own)
    name = facts.get("DEVICE") or (own if is_named else "")
    mac = (facts.get("HWADDR") or facts.get("LLADDR") or "").lower()
    addresses = tuple(
        address for key, value in facts.items() if key.startswith("IPADDR") for address in _static(value)
    )
    yield Clue(name.partition(":")[0].partition(".")[0], source, mac, addresses=addresses)
    for key, value in facts.items():
        if _IFCFG_LOWER.fullmatch(key):
            yield from (Clue(_parent(word), source) for word in value.split())


def read_dhcpcd(text: str, source: str) -> Iterator[Clue]:
    name, addresses = "", tuple[str, ...]()
    for line in [*text.splitlines(), "interface"]:
        words = line.split()
        if words[:1] in (["interface"], ["ssid"], ["profile"]):
            if name:
                yield Clue(name, source, addresses=addresses)
            name, addresses = words[1] if words[0] == "interface" and len(words) > 1 else "", ()
        elif words[:1] == ["static"] and "address=" in line:
            addresses += _static(line.partition("=")[2])


def read_netifrc(text: str, source: str) -> Iterator[Clue]:
    for found in _NETIFRC.finditer(text):
        yield Clue(found[1], source, addresses=_static(found[2]))


def read_rules(text: str, source: str) -> Iterator[Clue]:
    """udev's rules that give a NIC its name by its MAC or its place."""
    for line in text.replace("\\\n", " ").splitlines():
        name = re.search(r'(?<![\w{])NAME:?="([^"]+)"', line)
        if not name or line.lstrip().startswith("#"):
            continue
        mac, place = _MAC.search(line), RULE_PLACE.search(line)
        if mac or place:
            yield Clue(
                name[1],
                source,
                mac[0].lower() if mac else "",
                place_in(place[1]) if place else "",
                pinned=bool(mac),
            )


def read_arguments(text: str, source: str) -> Iterator[Clue]:
    """A kernel's arguments for the network of its initramfs (dracut.cmdline(7), the kernel's nfsroot.rst),
    and initramfs.conf(5), which has them in capitals."""
    for key, value in ((key.lower(), value) for key, value in _ARGUMENT.findall(text)):
        fields = _IN_BRACKETS.sub("v6", value).split(":")
        if key == "ifname":
            mac = _MAC.search(value)
            yield Clue(fields[0], source, mac[0].lower() if mac else "")
        elif key == "ip":
            is_first = len(fields) > 1 and PHYSICAL.match(fields[0])
            name = fields[0] if is_first else fields[5] if len(fields) > 5 else ""
            yield Clue(name, source, addresses=() if is_first else _static(fields[0]))
        elif key in ("rd.route", "device"):
            yield Clue(_parent(fields[-1]), source)
        else:
            yield from (Clue(_parent(word), source) for word in ",".join(fields[1:2]).split(","))


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) and value.lower() not in _NULL else ""


def _keys(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [key for key in _mapping(value) if isinstance(key, str)]


def _static(text: str) -> tuple[str, ...]:
    return tuple(found[1].lower() for found in _ADDRESS.finditer(text))


PERSISTENT_RULES = "/etc/udev/rules.d/70-persistent-net.rules"
INTERFACES = "/etc/network/interfaces"
_NULL = ("~", "null")
ETHERNET = frozenset({"ethernet", "802-3-ethernet"})
_BEGINNINGS = (
    *("iface", "auto", "mapping", "source", "source-directory"),
    *("rename", "template", "no-auto-down", "no-scripts"),
)
SUSE_FOLDER = "/etc/sysconfig/network/"
_IFCFG_LOWER = re.compile(r"ETHERDEVICE|PHYSDEV|BRIDGE_PORTS|BONDING_SLAVE_?\d+|TEAM_PORT_DEVICE_?\d+")
"""Which settings of an ifcfg file name what lies below it."""
_NETIFRC = re.compile(r"^config_(\w+)=(\([^()]*\)|\"[^\"]*\"|\S+)", re.MULTILINE)
_LOWER = ("bond-slaves", "slaves", "bridge-ports", "ovs-ports", "vlan-raw-device")
RULE_PLACE = re.compile(r'(?:KERNELS|DEVPATH|ENV\{ID_(?:PATH|NET_NAME(?:_SLOT|_PATH)?)\})=="([^"]*)"')
"""In a rule of udev's, what goes by where a NIC is."""
_READERS: tuple[tuple[tuple[str, ...], Callable[[str, str], Iterator[Clue]], re.Pattern[str] | None], ...] = (
    (("/etc/udev/rules.d/*.rules",), read_rules, None),
    (("/etc/systemd/network/*.link",), read_sections, None),
    (("/etc/netplan/*.yaml",), read_netplan, None),
    (("/etc/systemd/network/*.network", "/etc/systemd/network/*.network.d/*.conf"), read_sections, None),
    (("/etc/NetworkManager/system-connections/*",), read_sections, _NO_KEYFILE),
    (("/etc/sysconfig/network-scripts/ifcfg-*",), read_ifcfg, _NO_IFCFG),
    ((f"{SUSE_FOLDER}ifcfg-*",), read_ifcfg, _NO_IFCFG_OF_SUSE),
    (("/etc/dhcpcd.conf",), read_dhcpcd, None),
    (("/etc/conf.d/net",), read_netifrc, None),
)
"""Which files, how they are read, and which of them their own programme passes over."""
