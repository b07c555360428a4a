"""Which names the guest's network configuration has for its NICs, and what it says of each.

Read are ifupdown (interfaces(5)), netplan(5), systemd.network(5) and systemd.link(5), NetworkManager's
keyfiles (nm-settings-keyfile(5)), Red Hat's and SUSE's ifcfg files, and udev's persistent rules.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from hyperctl.activities.convert.files import GuestFiles

PHYSICAL = re.compile(r"^(?:eth\d+|em\d+|p\d+p\d+|en(?:o|s|p|x|P)[0-9A-Za-z]+)$")
"""Names that a kernel or udev gives to NICs; bonds, bridges and VLANs have others."""
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", re.IGNORECASE)
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
    addresses: tuple[str, ...] = ()
    """Static ones, without prefix length."""
    pinned: bool = False
    """Whether this file itself gives the name to the MAC."""


def find_clues(files: GuestFiles) -> list[Clue]:
    """Every mention, in the order of the files. A file that cannot be understood tells nothing."""
    clues: list[Clue] = []
    for patterns, read in _READERS:
        for path in files.matching(*patterns):
            text = files.text(path)
            if text is not None:
                clues += read(text, path)
    return [clue for clue in clues if clue.mac or PHYSICAL.match(clue.name)]


def read_ifupdown(text: str, source: str) -> Iterator[Clue]:
    stanza = ""
    lines: list[str] = []
    for line in [*text.splitlines(), "iface"]:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("iface", "auto", "mapping", "source", "source-directory") or words[0].startswith(
            "allow-"
        ):
            if stanza:
                body = "\n".join(line for line in lines if line.split()[0] == "address")
                yield Clue(stanza, source, addresses=_static(body))
            stanza, lines = (words[1] if words[0] == "iface" and len(words) > 1 else ""), []
            stanza = stanza.partition(":")[0].partition(".")[0]
            if words[0] == "auto" or words[0].startswith("allow-"):
                yield from (Clue(word.partition(":")[0].partition(".")[0], source) for word in words[1:])
        else:
            lines.append(line)
            if words[0] in (
                "bond-slaves",
                "slaves",
                "bridge_ports",
                "bridge-ports",
                "vlan-raw-device",
                "bond_slaves",
            ):
                yield from (Clue(word.partition(".")[0], source) for word in words[1:])


def read_netplan(text: str, source: str) -> Iterator[Clue]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        return
    ethernets = _mapping(_mapping(_mapping(document).get("network")).get("ethernets"))
    for key, facts in ethernets.items():
        facts = _mapping(facts)
        match = _mapping(facts.get("match"))
        name = facts.get("set-name") or match.get("name") or ("" if match else key)
        mac = str(match.get("macaddress") or "").lower()
        addresses = _static(str(facts.get("addresses") or ""))
        if name or mac:
            yield Clue(str(name), source, mac, addresses, pinned=bool(mac and facts.get("set-name")))


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

    macs = values(
        "match.macaddress", "match.permanentmacaddress", "ethernet.mac-address", "802-3-ethernet.mac-address"
    )
    given = values("link.name")
    names = given or [
        word for value in values("match.name", "connection.interface-name") for word in value.split()
    ]
    found = [
        _static(f"{key}={value}")
        for key in facts
        for value in facts[key]
        if "address" in key and "mac" not in key
    ]
    addresses = tuple(address for group in found for address in group)
    mac = next((one[0].lower() for value in macs if (one := _MAC.search(value))), "")
    for name in names or ([""] if mac else []):
        if not set("*?!") & set(name):
            yield Clue(name, source, mac, addresses, pinned=bool(given and mac))


def read_ifcfg(text: str, source: str) -> Iterator[Clue]:
    facts = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not key.lstrip().startswith("#"):
            facts[key.strip().upper()] = value.strip().strip("\"'")
    name = facts.get("DEVICE") or source.rpartition("ifcfg-")[2]
    mac = (facts.get("HWADDR") or facts.get("LLADDR") or "").lower()
    addresses = tuple(
        address for key, value in facts.items() if key.startswith("IPADDR") for address in _static(value)
    )
    yield Clue(name.partition(":")[0].partition(".")[0], source, mac, addresses)


def read_persistent_rules(text: str, source: str) -> Iterator[Clue]:
    for line in text.splitlines():
        mac, name = _MAC.search(line), re.search(r'NAME:?="([^"]+)"', line)
        if mac and name and not line.lstrip().startswith("#"):
            yield Clue(name[1], source, mac[0].lower(), pinned=True)


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _static(text: str) -> tuple[str, ...]:
    return tuple(found[1].lower() for found in _ADDRESS.finditer(text))


PERSISTENT_RULES = "/etc/udev/rules.d/70-persistent-net.rules"
_READERS: tuple[tuple[tuple[str, ...], Callable[[str, str], Iterator[Clue]]], ...] = (
    ((PERSISTENT_RULES,), read_persistent_rules),
    (("/etc/systemd/network/*.link",), read_sections),
    (("/etc/network/interfaces", "/etc/network/interfaces.d/*"), read_ifupdown),
    (("/etc/netplan/*.yaml",), read_netplan),
    (("/etc/systemd/network/*.network",), read_sections),
    (("/etc/NetworkManager/system-connections/*",), read_sections),
    (("/etc/sysconfig/network-scripts/ifcfg-*", "/etc/sysconfig/network/ifcfg-*"), read_ifcfg),
)
