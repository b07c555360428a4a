"""Matches on VMware's hardware in a network's configuration: its drivers, and the places of its NICs; what
tunes them."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from hyperctl.activities.convert.linux.interfaces import RULE_PLACE
from hyperctl.activities.convert.linux.pci import address_in, place_in

NETPLAN = ("/etc/netplan/*.yaml",)
NETWORKD = ("/etc/systemd/network/*.network", "/etc/systemd/network/*.link")
NETWORKD_DROP_INS = ("/etc/systemd/network/*.network.d/*.conf",)
KEYFILES = ("/etc/NetworkManager/system-connections/*",)
NETWORK_MANAGER = ("/etc/NetworkManager/NetworkManager.conf", "/etc/NetworkManager/conf.d/*.conf")
RULES = ("/etc/udev/rules.d/*.rules",)

_OLD_DRIVER = re.compile(r"\b(?:vmxnet3|vmxnet|e1000e?|pcnet32)\b", re.IGNORECASE)
_YAML_DRIVER = re.compile(r"\bdriver\s*:[ \t]*(?:\[[^\[\]]*\]|(?:\n\s*-[^\n]*)+|[^,}\n]+)")
_SECTION_DRIVER = re.compile(r"^[ \t]*(?:driver|property)[ \t]*=[^\n]*", re.MULTILINE | re.IGNORECASE)
_VIRTUALIZATION = re.compile(
    r"^([ \t]*virtualization[ \t]*=[ \t]*!?)vmware[ \t]*$", re.MULTILINE | re.IGNORECASE
)
_LISTED_DRIVER = re.compile(r"\bdriver:[\w.-]+")
_RULE_DRIVER = re.compile(r'(?:DRIVERS|ENV\{ID_NET_DRIVER\})[!=]="[^"]*"')
_SECTION_PLACE = re.compile(r"^([ \t]*)path[ \t]*=[ \t]*([^\n]*)", re.MULTILINE | re.IGNORECASE)
_OF_NICS = re.compile(r'SUBSYSTEM=="net"|(?<![\w{])NAME:?="')
_VMWARES = re.compile(
    r"\bvmxnet\d?\b|\b0x15ad\b|\bvirtualization[ \t]*=[ \t]*!?vmware|\bpci-0000:|"
    r"\b0000:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b|\bID_NET_NAME_(?:SLOT|PATH)\}=",
    re.IGNORECASE,
)
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
        text = _VIRTUALIZATION.sub(r"\1vm", text)
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

    def rewritten(rule: str) -> str:
        # A VLAN has its NIC's MAC, and no driver.
        only = "" if "DRIVERS" in rule else 'DRIVERS=="?*", '

        def by_mac(found: re.Match[str]) -> str:
            place = places.get(place_in(found[1]))
            return f'{only}ATTR{{address}}=="{place.mac}"' if place else found[0]

        return RULE_PLACE.sub(by_mac, _sub(_RULE_DRIVER, driver, rule))

    return "".join(
        rewritten(rule) if _OF_NICS.search(rule) and not _COMMENT.match(rule) else rule
        for rule in _rules_in(text)
    )


def _rules_in(text: str) -> Iterator[str]:
    """Each with the lines that go on with it."""
    rule = ""
    for line in text.splitlines(keepends=True):
        rule += line
        if not line.endswith("\\\n"):
            yield rule
            rule = ""
    yield rule


def left_over(path: str, text: str) -> str:
    """The first line of a network's configuration that names hardware of VMware's; empty where none does."""
    for rule in _rules_in(text):
        if _COMMENT.match(rule) or (path.endswith(".rules") and not _OF_NICS.search(rule)):
            continue
        if _VMWARES.search(rule):
            return rule.strip()
    return ""
