"""Matches on VMware's hardware in a network's configuration: its drivers, and the places of its NICs; what
tunes them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hyperctl.activities.convert.linux.pci import address_in

NETPLAN = ("/etc/netplan/*.yaml",)
NETWORKD = ("/etc/systemd/network/*.network", "/etc/systemd/network/*.link")
NETWORKD_DROP_INS = ("/etc/systemd/network/*.network.d/*.conf",)
KEYFILES = ("/etc/NetworkManager/system-connections/*",)
NETWORK_MANAGER = ("/etc/NetworkManager/NetworkManager.conf", "/etc/NetworkManager/conf.d/*.conf")
RULES = ("/etc/udev/rules.d/*.rules",)

_OLD_DRIVER = re.compile(r"\b(?:vmxnet3|vmxnet|e1000e?|pcnet32)\b", re.IGNORECASE)
_YAML_DRIVER = re.compile(r"\bdriver\s*:[ \t]*(?:\[[^\[\]]*\]|(?:\n\s*-[^\n]*)+|[^,}\n]+)")
_SECTION_DRIVER = re.compile(r"^[ \t]*driver[ \t]*=[^\n]*", re.MULTILINE | re.IGNORECASE)
_LISTED_DRIVER = re.compile(r"\bdriver:[\w.-]+")
_RULE_DRIVER = re.compile(r'(?:DRIVERS|ENV\{ID_NET_DRIVER\})[!=]="[^"]*"')
_SECTION_PLACE = re.compile(r"^([ \t]*)path[ \t]*=[ \t]*([^\n]*)", re.MULTILINE | re.IGNORECASE)
_RULE_PLACE = re.compile(r'(?:KERNELS|ENV\{ID_PATH\})=="([^"]*)"')
_OF_NICS = re.compile(r'SUBSYSTEM=="net"|(?<![\w{])NAME:?="')
_COMMENT = re.compile(r"^[ \t]*[#;]")
_TUNING = re.compile(
    r"^([ \t]*(?:pre-up|up|post-up)[ \t]+(?:/\S*/)?ethtool[ \t]+(?:-[GCKALs]|--(?:set-ring|coalesce|features|"
    r"offload|pause|set-channels|change))[ \t][^\n|;&#\\]*[^\s|;&#\\])[ \t]*$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Place:
    """Which NIC a PCI address of VMware's was."""

    mac: str
    name: str


def for_driver(driver: str, places: Mapping[str, Place], mac_key: str) -> tuple["Rewrite", ...]:
    """What to do to which files, for NICs that this driver drives.

    `mac_key` is how this systemd's [Match] calls a NIC's own MAC.
    """

    def by_mac(text: str) -> str:
        return _each_place(text, places, lambda found: f"{mac_key}={' '.join(one.mac for one in found)}")

    def by_name(text: str) -> str:
        return _each_place(
            text, places, lambda found: "interface-name=" + "".join(f"{one.name};" for one in found)
        )

    return (
        (NETPLAN, lambda text: _sub(_YAML_DRIVER, driver, text)),
        ((*NETWORKD, *NETWORKD_DROP_INS), lambda text: by_mac(_sub(_SECTION_DRIVER, driver, text))),
        (KEYFILES, lambda text: by_name(_sub(_SECTION_DRIVER, driver, text))),
        (NETWORK_MANAGER, lambda text: _sub(_LISTED_DRIVER, driver, text)),
        (RULES, lambda text: _rules(text, driver, places)),
    )


def tolerant_tuning(text: str) -> str:
    """interfaces(5) that has a NIC up though ethtool(8) cannot set of it what could be set of VMware's."""
    return _TUNING.sub(r"\1 || true", text)


Rewrite = tuple[tuple[str, ...], Callable[[str], str]]
"""Glob patterns of files, and what becomes of the text of one."""


def _sub(where: re.Pattern[str], driver: str, text: str) -> str:
    return where.sub(lambda found: _OLD_DRIVER.sub(driver, found[0]), text)


def _each_place(text: str, places: Mapping[str, Place], match: Callable[[list[Place]], str]) -> str:
    """Lines of `Path=` whose every place is known, as another match on the same NICs."""

    def instead(found: re.Match[str]) -> str:
        words = [word for word in re.split(r"[\s;]+", found[2]) if word]
        known = [places[address] for word in words if (address := address_in(word)) in places]
        return f"{found[1]}{match(known)}" if known and len(known) == len(words) else found[0]

    return _SECTION_PLACE.sub(instead, text)


def _rules(text: str, driver: str, places: Mapping[str, Place]) -> str:
    """udev(7)'s rules for NICs; those for other devices stay."""

    def by_mac(found: re.Match[str]) -> str:
        place = places.get(address_in(found[1]))
        return f'ATTR{{address}}=="{place.mac}"' if place else found[0]

    lines = text.splitlines(keepends=True)
    for at, line in enumerate(lines):
        if _OF_NICS.search(line) and not _COMMENT.match(line):
            lines[at] = _RULE_PLACE.sub(by_mac, _sub(_RULE_DRIVER, driver, line))
    return "".join(lines)
