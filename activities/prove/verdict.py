"""From the guest's report to the boot proof: what must be true, and what is only worth a warning."""

import ipaddress
import re
import time
from dataclasses import dataclass

from hyperctl.activities.convert.linux.unit_names import escaped, in_hexadecimal
from hyperctl.activities.prove.report import MOST_SHOWN, FstabEntry, GuestReport, Link, normal_address
from hyperctl.activities.prove.units import (
    BOOT_UNITS,
    NETWORK_UNITS,
    STORAGE_UNITS,
    WAITING_UNITS,
    is_any,
)
from hyperctl.workflows.guest import BootProof, Comparison, Difference, MountReport, NicReport
from hyperctl.workflows.machine import Machine, MachineNic
from hyperctl.workflows.request import ProveMode

LARGEST_CLOCK_DIFFERENCE_SECONDS = 120
_NOT_OF_UDEV = re.compile(r"[^\w#+\-.:=@]")
"""What udev escapes in the name of a link."""
MOST_PROBLEMS = 50
"""As many as are told of each kind."""
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]+")


@dataclass(frozen=True, slots=True)
class Judgement:
    """Everything a report shows, beside what was expected of it."""

    multi_user: bool
    mounts: tuple[MountReport, ...]
    nics: tuple[NicReport, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def judge(
    report: GuestReport,
    machine: Machine,
    mode: ProveMode,
    now: float | None = None,
    differences: tuple[Difference, ...] | None = None,
) -> Judgement:
    """Hold a full report against what vSphere knew of the machine and what the guest's own fstab asks.

    In mode `boot` only multi-user counts, in mode `diff` that and the `differences` to the unconverted guest;
    everything else that is wrong is a warning. Without differences to judge by, `diff` is `full`.
    """
    mounts = mounts_of(report)
    nics = nics_of(report, machine)
    problems: list[str] = []
    details: list[str] = []
    warnings: list[str] = []
    if report.emergency:
        failed = ", ".join(report.failed_units) or "no failed unit named"
        problems.append(f"the guest ended in {report.emergency} mode ({failed})")
    elif not report.multi_user:
        problems.append("multi-user.target was not reached")
    told = {one.what for one in differences or ()}
    for mount in mounts:
        if not mount.active and mount.required and told.isdisjoint(_names(mount.target, report)):
            what = "swap" if mount.filesystem == "swap" else f"{mount.target} ({mount.filesystem})"
            details.append(f"{what} of the guest's fstab is not active: {mount.source}")
    for entry in report.fstab:
        target = entry.target.rstrip("/") or "/"
        if (
            entry.writable
            and place_of(target, report) in report.read_only
            and told.isdisjoint(map(writable, _names(target, report)))
        ):
            details.append(f"{target} of the guest's fstab is mounted read-only: {entry.source}")
    waits = _judge_nics(nics, report, details, warnings)
    _judge_gateways(machine, nics, report, details, warnings)
    _judge_units(report, waits, told, details, warnings)
    if report.multi_user and not report.settled and report.jobs:
        warnings.append(f"the guest was still starting {', '.join(report.jobs[:8])}")
    difference = report.clock_seconds - (time.time() if now is None else now)
    if report.clock_seconds and abs(difference) > LARGEST_CLOCK_DIFFERENCE_SECONDS:
        warnings.append(f"the guest's clock is {difference:+.0f} s off the host's")
    if mode is ProveMode.FULL or (mode is ProveMode.DIFF and differences is None):
        problems += details
    else:
        problems += [one.words for one in differences or ()]
        warnings += details
    return Judgement(report.multi_user, mounts, nics, _first(problems), _first(warnings))


def _first(words: list[str]) -> tuple[str, ...]:
    more = len(words) - MOST_PROBLEMS
    return (*words[:MOST_PROBLEMS], f"and {more} more") if more > 0 else tuple(words)


def writable(target: str) -> str:
    """What a mount that has become read-only is called."""
    return f"{target} (for writing)"


def mounts_of(report: GuestReport) -> tuple[MountReport, ...]:
    """Every entry of the guest's fstab, and whether it is there."""
    return tuple(_mount(entry, report) for entry in report.fstab if entry.target not in ("", "/proc"))


def nics_of(report: GuestReport, machine: Machine) -> tuple[NicReport, ...]:
    """Every NIC of the machine, in its order, with its addresses in the guest."""
    own = _own_links(report, machine)
    return tuple(_nic(nic, own.get(nic.mac.lower()), report) for nic in machine.nics)


def proof_of(
    judgement: Judgement,
    report: GuestReport,
    mode: ProveMode,
    *,
    acceleration: str,
    boot_seconds: float,
    warnings: tuple[str, ...] = (),
    comparison: Comparison | None = None,
) -> BootProof:
    """The proof that goes into the result."""
    return BootProof(
        passed=not judgement.problems,
        mode=mode,
        acceleration=acceleration,
        multi_user=judgement.multi_user,
        boot_seconds=round(boot_seconds, 1),
        kernel=report.kernel[:200],
        failed_units=report.failed_units,
        mounts=judgement.mounts,
        nics=judgement.nics,
        default_routes=report.default_routes,
        comparison=comparison,
        problems=judgement.problems,
        warnings=judgement.warnings + warnings,
    )


def _mount(entry: FstabEntry, report: GuestReport) -> MountReport:
    target = entry.target.rstrip("/") or "/"
    if entry.is_swap:
        device = _device(entry.source, report)
        active = any(swap in (device, entry.source) for swap in report.swaps)
    else:
        active = place_of(target, report) in report.mounts
    return MountReport(
        target=target,
        source=entry.source,
        filesystem=entry.filesystem,
        active=active,
        required=entry.required,
    )


def place_of(target: str, report: GuestReport) -> str:
    """Where a mount point is that is, or lies behind, a symbolic link."""
    return report.targets.get(target, target)


def _names(target: str, report: GuestReport) -> tuple[str, str]:
    """What a mount point may be called, by fstab and, behind a link, by systemd."""
    return target, place_of(target, report)


def _device(source: str, report: GuestReport) -> str:
    """The kernel's name of what an fstab entry names by tag, link or path."""
    tag, equals, value = source.partition("=")
    if equals:
        source = f"/dev/disk/by-{tag.lower()}/" + _NOT_OF_UDEV.sub(in_hexadecimal, value.strip('"'))
    elif source.startswith("/dev/") and source.count("/") == 3 and "/mapper/" not in source:
        # /dev/VG/LV is /dev/mapper/VG-LV, with every hyphen of the names doubled
        group, volume = source.removeprefix("/dev/").replace("-", "--").split("/")
        mapped = f"/dev/mapper/{group}-{volume}"
        source = mapped if mapped in report.device_names else source
    return report.device_names.get(source, source)


def _own_links(report: GuestReport, machine: Machine) -> dict[str, Link]:
    """The interface that each NIC is, by its MAC.

    A guest may give a NIC another one, and an older iproute2 does not tell its own: the only interface that
    is left is then the only NIC that is left.
    """
    physical = [link for link in report.links if link.physical]
    macs = [nic.mac.lower() for nic in machine.nics]
    found: dict[str, Link] = {}
    for mac in macs:
        own = next((link for link in physical if link.permanent_mac == mac), None)
        own = own or next((link for link in physical if link.mac == mac and not link.permanent_mac), None)
        if own:
            found[mac] = own
    taken = {link.name for link in found.values()}
    left = [link for link in physical if link.name not in taken and not link.permanent_mac]
    missing = [mac for mac in macs if mac not in found]
    return {**found, missing[0]: left[0]} if len(left) == len(missing) == 1 else found


def _nic(nic: MachineNic, own: Link | None, report: GuestReport) -> NicReport:
    """Gather the addresses of everything that is built on a NIC.

    vSphere's report is by the MAC, which a virtual switch has from its NIC without lying over it.
    """
    mac = nic.mac.lower()
    carriers = {link.name for link in report.links if not link.physical and link.mac == mac} if own else set()
    over: dict[str, list[str]] = {}
    for link in report.links:
        for lower in link.lower:
            over.setdefault(lower, []).append(link.name)
    waiting = [*carriers, *([own.name] if own else [])]
    while waiting:
        name = waiting.pop()
        carriers.add(name)
        waiting += [one for one in over.pop(name, ()) if one not in carriers]
    addresses = dict.fromkeys(
        address
        for link in report.links
        if link.name in carriers
        for address in report.addresses.get(link.name, ())
    )
    return NicReport(
        mac=mac,
        name=own.name if own else "",
        addresses=tuple(addresses)[:MOST_SHOWN],
        expected_addresses=tuple(normal_address(address) or address for address in nic.addresses),
    )


def _judge_nics(
    nics: tuple[NicReport, ...], report: GuestReport, problems: list[str], warnings: list[str]
) -> bool:
    """Returns whether the guest waits for addresses that only a network can give it."""
    waits = bool(report.dynamic_lines) and any(not nic.addresses for nic in nics)
    spelled_out = _spelled_out(report)
    for nic in nics:
        if not nic.name:
            problems.append(f"the guest has no network interface for the NIC {nic.mac}")
            continue
        given = [address for address in nic.missing_addresses if _is_given(address, report, spelled_out)]
        own = [address for address in nic.missing_addresses if address not in given]
        if given:
            waits = waits or bool(report.dynamic_lines)
            warnings.append(
                f"{nic.name} ({nic.mac}) lacks {', '.join(given)}: the guest asks a network for it, and the "
                "trial boot has none"
            )
        if own:
            has = ", ".join(nic.addresses) or "no address"
            missing = ", ".join(own)
            problems.append(f"{nic.name} ({nic.mac}) lacks {missing}, which it had in vSphere; it has {has}")
    return waits


def _judge_gateways(
    machine: Machine,
    nics: tuple[NicReport, ...],
    report: GuestReport,
    problems: list[str],
    warnings: list[str],
) -> None:
    """A default route that the configuration spells out needs no network to be there.

    What is spelled out may be a name server, too, which many a router is. So the route of a guest that asks a
    network is its own only where it has an address beside the gateway.
    """
    there = {word for line in report.default_routes for word in line.split()}
    lost = [gateway for gateway in machine.gateways if gateway not in there]
    spelled_out = _spelled_out(report) if lost else frozenset()
    for gateway in lost:
        words = f"the guest has no default route by {gateway}, which it had in vSphere"
        is_own = gateway in spelled_out and (not report.dynamic_lines or _is_beside(gateway, nics))
        (problems if is_own else warnings).append(words)


def _is_beside(gateway: str, nics: tuple[NicReport, ...]) -> bool:
    address = ipaddress.ip_address(gateway)
    return any(address in ipaddress.ip_interface(own).network for nic in nics for own in nic.addresses)


def _is_given(address: str, report: GuestReport, spelled_out: frozenset[str]) -> bool:
    """Whether it is the network's to give: a router announces IPv6 to whoever listens, asked or not."""
    return (bool(report.dynamic_lines) or ":" in address) and address.partition("/")[0] not in spelled_out


def _spelled_out(report: GuestReport) -> frozenset[str]:
    """The addresses that the guest's own configuration has, in their usual spelling."""
    words = (word.strip(":.") for line in report.static_lines for word in _ADDRESS.findall(line))
    found = (normal_address(word) for word in words if ":" in word or word.count(".") == 3)
    return frozenset(address.partition("/")[0] for address in found if address)


def _judge_units(
    report: GuestReport, waits: bool, told: set[str], problems: list[str], warnings: list[str]
) -> None:
    free = [entry.target for entry in report.fstab if not entry.required]
    excused_mounts = {f"{escaped(name)}.mount" for target in free for name in _names(target, report)}
    excused_mounts |= report.failed_network_mounts
    for unit in report.failed_units:
        if unit in told:
            continue
        excused = (
            unit in excused_mounts or is_any(unit, WAITING_UNITS) or (waits and is_any(unit, NETWORK_UNITS))
        )
        if is_any(unit, NETWORK_UNITS + STORAGE_UNITS + BOOT_UNITS) and not excused:
            problems.append(f"the unit {unit} has failed")
        else:
            warnings.append(f"the unit {unit} has failed (the trial boot has no network)")
