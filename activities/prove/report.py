"""What the guest said, read with suspicion: the guest may say anything, in any amount."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

BEGIN = "HYPERCTL-PROOF-BEGIN "
END = "HYPERCTL-PROOF-END"
LIMIT_CHARACTERS = 1 << 20
FIRST_PORT_GIVEN_OUT = 32768
"""Linux hands out ports from here on to sockets that name none (ip_local_port_range in ip-sysctl)."""
NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "glusterfs", "ceph", "fuse.sshfs", "9p", "virtiofs", "afs", "davfs"}
)
MOST_LINES = 10_000
"""As many as are read of a section."""
MOST_SHOWN = 300
"""As many units, fstab entries and routes as come into a result, which Temporal bounds."""
LONGEST_LINE = 4096
LONGEST_WORD = 300
_ALWAYS_READ_ONLY = frozenset({"iso9660", "udf", "squashfs", "erofs", "cramfs"})
_OF_NETWORK = re.compile(
    rf" (?:Type=(?:{'|'.join(map(re.escape, NETWORK_FILESYSTEMS))})(?!\S)|What=(?://|[^/\s]*:/))"
)
"""A mount unit's, in the words of systemctl(1)."""
_PERMANENT_MAC = re.compile(r"^\d+: ([^:@\s]+)[:@].* permaddr ([0-9a-f:]{17})\b", re.MULTILINE)
_TARGETS = ("multi-user.target", "graphical.target", "emergency.target", "rescue.target")
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class FstabEntry:
    """One line of fstab(5)."""

    source: str
    target: str
    filesystem: str
    options: tuple[str, ...]

    @property
    def is_swap(self) -> bool:
        return self.filesystem == "swap"

    @property
    def required(self) -> bool:
        """Whether a boot without any network must mount it."""
        return (
            not {"noauto", "nofail", "_netdev"} & set(self.options)
            and self.filesystem not in NETWORK_FILESYSTEMS
        )

    @property
    def writable(self) -> bool:
        """Whether it asks for a mount that can be written to."""
        return "ro" not in self.options


@dataclass(frozen=True, slots=True)
class Link:
    """One network interface: physical ones have a device, others lie over lower ones."""

    name: str
    mac: str
    permanent_mac: str
    physical: bool
    lower: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GuestReport:
    """One report of the guest. Fields beyond the first line are empty in one made while it still boots."""

    full: bool
    state: str
    """What `systemctl is-system-running` says."""
    units: Mapping[str, str] = field(default_factory=dict)
    failed_units: tuple[str, ...] = ()
    failed_network_mounts: frozenset[str] = frozenset()
    """Those of them that mount something of a network's."""
    jobs: tuple[str, ...] = ()
    """Units that something still waits for."""
    jobs_at_work: tuple[str, ...] = ()
    """Those of them that are being started; others wait for their turn."""
    kernel: str = ""
    uptime_seconds: float = 0.0
    clock_seconds: int = 0
    """The guest's clock, seconds since 1970."""
    mounts: Mapping[str, str] = field(default_factory=dict)
    """By mount point, the source."""
    read_only: frozenset[str] = frozenset()
    """Mount points of filesystems that cannot be written to, though others of their kind can."""
    swaps: tuple[str, ...] = ()
    fstab: tuple[FstabEntry, ...] = ()
    targets: Mapping[str, str] = field(default_factory=dict)
    """By a mount point of fstab that lies behind a link, where it is."""
    device_names: Mapping[str, str] = field(default_factory=dict)
    """By a device's other name under /dev/disk and /dev/mapper, its own."""
    links: tuple[Link, ...] = ()
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By interface, with their prefix length; link-local ones are left out."""
    routes: tuple[str, ...] = ()
    """Of the main tables, as `ip route` shows them."""
    listening: frozenset[str] = frozenset()
    """Sockets that wait for others, `tcp 0.0.0.0:22`; not those on ports that the kernel gives out."""
    dynamic_lines: tuple[str, ...] = ()
    """Lines of the network's configuration that ask for an address from the network."""
    static_lines: tuple[str, ...] = ()
    """Lines of it that hold an address."""
    text: str = field(default="", repr=False)
    """All of it as the guest wrote it."""

    @property
    def multi_user(self) -> bool:
        return self.units.get("multi-user.target") == "active"

    @property
    def emergency(self) -> str:
        """`emergency` or `rescue` mode, or an empty string."""
        for mode in ("emergency", "rescue"):
            if self.units.get(f"{mode}.target") == "active":
                return mode
        return ""

    @property
    def default_routes(self) -> tuple[str, ...]:
        return tuple(line for line in self.routes if line.startswith("default "))[:MOST_SHOWN]

    @property
    def settled(self) -> bool:
        return self.state in ("running", "degraded", "maintenance")


def reports_in(text: str) -> list[GuestReport]:
    """Every complete report in what came over the port, in order; broken ones are left out."""
    pieces = (piece.partition(f"\n{END}") for piece in text[-LIMIT_CHARACTERS:].split(BEGIN)[1:])
    return [_report(body) for body, end, _ in pieces if end]


def _report(body: str) -> GuestReport:
    kind, _, rest = body.partition("\n")
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in rest.split("\n"):
        if line.startswith("@ "):
            current = sections.setdefault(line[2:].strip(), [])
        elif line.strip() and len(current) < MOST_LINES:
            current.append(line[:LONGEST_LINE].rstrip("\r"))

    def lines(name: str) -> list[str]:
        return sections.get(name, [])

    def first(name: str) -> str:
        return next(iter(lines(name)), "").strip()

    mounts = {
        _unescape(words[1]): (
            _unescape(words[0]),
            words[2] not in _ALWAYS_READ_ONLY and "ro" in ",".join(words[3:4]).split(","),
        )
        for words in map(str.split, lines("mounts"))
        if len(words) >= 3
    }
    jobs = [words for words in map(str.split, lines("jobs")) if len(words) >= 2]
    permanent = {found[1]: found[2] for found in _PERMANENT_MAC.finditer("\n".join(lines("permanent")))}
    return GuestReport(
        full=kind.strip() == "full",
        state=first("state"),
        units=dict(zip(_TARGETS, (line.strip() for line in lines("units")), strict=False)),
        failed_units=tuple(_unit(line)[:LONGEST_WORD] for line in lines("failed")[:MOST_SHOWN]),
        failed_network_mounts=frozenset(
            line.partition(" ")[0] for line in lines("network-mounts") if _OF_NETWORK.search(line)
        ),
        jobs=tuple(words[1][:LONGEST_WORD] for words in jobs),
        jobs_at_work=tuple(words[1] for words in jobs if words[3:4] == ["running"]),
        kernel=first("kernel"),
        uptime_seconds=_number(first("uptime").split(" ")[0]),
        clock_seconds=int(_number(first("clock"))),
        mounts={target: source for target, (source, _) in mounts.items()},
        read_only=frozenset(target for target, (_, is_read_only) in mounts.items() if is_read_only),
        swaps=tuple(_unescape(line.split()[0]) for line in lines("swaps")[1:]),
        fstab=parse_fstab("\n".join(lines("fstab")))[:MOST_SHOWN],
        targets={words[0]: words[1] for words in map(str.split, lines("links-to")) if len(words) == 2},
        device_names={words[0]: words[1] for words in map(str.split, lines("names")) if len(words) == 2},
        links=tuple(link for link in (_link(line, permanent) for line in lines("links")) if link),
        addresses=_addresses(lines("addresses")),
        routes=_routes(lines("routes")),
        listening=frozenset(socket for socket in map(_socket, lines("sockets")) if socket),
        dynamic_lines=_words_after("dynamic ", lines("network")),
        static_lines=_words_after("static ", lines("network")),
        text=f"{BEGIN}{body}\n{END}\n",
    )


def parse_fstab(text: str) -> tuple[FstabEntry, ...]:
    """The entries of an fstab(5), in order."""
    entries = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3 or words[0].startswith("#"):
            continue
        options = tuple(words[3].split(",")) if len(words) > 3 else ()
        source, target, filesystem = (_unescape(word)[:LONGEST_WORD] for word in words[:3])
        entries.append(FstabEntry(source, target, filesystem, options))
    return tuple(entries)


def _words_after(prefix: str, lines: list[str]) -> tuple[str, ...]:
    return tuple(line.removeprefix(prefix).strip() for line in lines if line.startswith(prefix))


def _routes(lines: list[str]) -> tuple[str, ...]:
    """One a destination: ip(8) shows each of several ways there on a line of its own."""
    found: list[str] = []
    for line in map(str.strip, lines):
        if found and line.startswith("nexthop "):
            found[-1] = f"{found[-1]} {line[:LONGEST_WORD]}"[:LONGEST_WORD]
        else:
            found.append(line[:LONGEST_WORD])
    return tuple(found)


def _unit(line: str) -> str:
    """The unit's name in a line of `list-units`, which may begin with a mark."""
    words = [word for word in line.split() if any(character.isalnum() for character in word)]
    return words[0] if words else line.strip()


def _unescape(word: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), word)


def _number(text: str) -> float:
    """A plain decimal number, or 0: a kernel never says `nan` or `1e999`, which Python would take."""
    return float(text) if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", text, re.ASCII) else 0.0


def _link(line: str, permanent_macs: Mapping[str, str]) -> Link | None:
    words = line.split("|")
    if len(words) != 5:
        return None
    name, mac, permanent, physical, lower = words
    return Link(
        name=name,
        mac=mac.lower(),
        permanent_mac=permanent.lower() or permanent_macs.get(name, ""),
        physical=physical == "1",
        lower=tuple(part for part in lower.split(",") if part),
    )


def _addresses(lines: list[str]) -> dict[str, tuple[str, ...]]:
    """`ip -o addr show`: `2: ens192    inet 192.0.2.10/24 brd 192.0.2.255 scope global ens192 ...`."""
    found: dict[str, list[str]] = {}
    for line in lines:
        words = line.split()
        if len(words) < 4 or words[2] not in ("inet", "inet6") or "tentative" in words:
            continue
        address = normal_address(words[3], link_local=False)
        if address:
            found.setdefault(words[1].partition("@")[0], []).append(address)
    return {name: tuple(addresses) for name, addresses in found.items()}


def _socket(line: str) -> str:
    """`tcp 0100007F:0016` as `tcp 127.0.0.1:22`: words of 32 bits in the byte order of an x86 machine
    (proc(5), /proc/net/tcp). Empty where it is none, or on a port that the kernel gave out."""
    found = re.fullmatch(r"(tcp|udp)(6?) ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})", line.strip(), re.ASCII)
    if found is None or (len(found[3]) == 32) != bool(found[2]):
        return ""
    words = bytes.fromhex(found[3])
    packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    address, port = ipaddress.ip_address(packed), int(found[4], 16)
    if not 0 < port < FIRST_PORT_GIVEN_OUT:
        return ""
    return f"{found[1]} [{address}]:{port}" if found[2] else f"{found[1]} {address}:{port}"


def normal_address(text: str, *, link_local: bool = True) -> str:
    """An address with its prefix length in its usual spelling; empty where it is none that is wanted."""
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        return ""
    return "" if interface.is_link_local and not link_local else str(interface)
