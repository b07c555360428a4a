"""From the guest's report to the boot proof: what must be true, and what is only worth a warning."""

import re
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hyperctl.activities.prove.report import FstabEntry, GuestReport, normal_address
from hyperctl.workflows.guest import BootProof, Comparison, Difference, MountReport, NicReport
from hyperctl.workflows.machine import Machine, MachineNic
from hyperctl.workflows.request import ProveMode

LARGEST_CLOCK_DIFFERENCE_SECONDS = 120

NETWORK_UNITS = (
    "networking.service",
    "network.service",
    "NetworkManager.service",
    "systemd-networkd*",
    "ifup@*",
    "wicked*",
    "netplan-*",
)
STORAGE_UNITS = (
    "*.mount",
    "*.automount",
    "*.swap",
    "local-fs.target",
    "swap.target",
    "systemd-fsck*",
    "systemd-remount-fs.service",
    "systemd-cryptsetup@*",
    "lvm2-*",
    "mdadm*",
    "mdmonitor*",
    "multipathd*",
    "zfs-*",
)
BOOT_UNITS = (
    "systemd-modules-load.service",
    "systemd-udev*",
    "systemd-journald*",
    "systemd-tmpfiles-setup*",
    "dbus*",
    "sysinit.target",
    "basic.target",
)


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
        if not mount.active and mount.required and mount.target not in told:
            what = "swap" if mount.filesystem == "swap" else f"{mount.target} ({mount.filesystem})"
            details.append(f"{what} of the guest's fstab is not active: {mount.source}")
    waits = _judge_nics(nics, report, details, warnings)
    _judge_units(report, waits, told, details, warnings)
    difference = report.clock_seconds - (time.time() if now is None else now)
    if report.clock_seconds and abs(difference) > LARGEST_CLOCK_DIFFERENCE_SECONDS:
        warnings.append(f"the guest's clock is {difference:+.0f} s off the host's")
    if mode is ProveMode.FULL or (mode is ProveMode.DIFF and differences is None):
        problems += details
    else:
        problems += [one.words for one in differences or ()]
        warnings += details
    return Judgement(report.multi_user, mounts, nics, tuple(problems), tuple(warnings))


def mounts_of(report: GuestReport) -> tuple[MountReport, ...]:
    """Every entry of the guest's fstab, and whether it is there."""
    return tuple(_mount(entry, report) for entry in report.fstab if entry.target not in ("", "/proc"))


def nics_of(report: GuestReport, machine: Machine) -> tuple[NicReport, ...]:
    """Every NIC of the machine, in its order, with its addresses in the guest."""
    return tuple(_nic(nic, report) for nic in machine.nics)


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
        active = target in report.mounts or report.targets.get(entry.target) in report.mounts
    return MountReport(
        target=target,
        source=entry.source,
        filesystem=entry.filesystem,
        active=active,
        required=entry.required,
    )


def _device(source: str, report: GuestReport) -> str:
    """The kernel's name of what an fstab entry names by tag, link or path."""
    tag, equals, value = source.partition("=")
    if equals:
        source = f"/dev/disk/by-{tag.lower()}/" + value.strip('"')
    elif source.startswith("/dev/") and source.count("/") == 3 and "/mapper/" not in source:
        # /dev/VG/LV is /dev/mapper/VG-LV, with every hyphen of the names doubled
        group, volume = source.removeprefix("/dev/").replace("-", "--").split("/")
        mapped = f"/dev/mapper/{group}-{volume}"
        source = mapped if mapped in report.device_names else source
    return report.device_names.get(source, source)


def _nic(nic: MachineNic, report: GuestReport) -> NicReport:
    """Find the NIC by its MAC and gather the addresses of everything that is built on it."""
    mac = nic.mac.lower()
    own = next(
        (link for link in report.links if link.physical and mac in (link.permanent_mac, link.mac)), None
    )
    carriers = {own.name} if own else set()
    while True:
        above = {link.name for link in report.links if carriers & set(link.lower)} - carriers
        if not above:
            break
        carriers |= above
    addresses = [
        address
        for link in report.links
        if link.name in carriers
        for address in report.addresses.get(link.name, ())
    ]
    return NicReport(
        mac=mac,
        name=own.name if own else "",
        addresses=tuple(addresses),
        expected_addresses=tuple(normal_address(address) or address for address in nic.addresses),
    )


def _judge_nics(
    nics: tuple[NicReport, ...], report: GuestReport, problems: list[str], warnings: list[str]
) -> bool:
    """Returns whether the guest waits for addresses that only a network can give it."""
    waits = False
    for nic in nics:
        missing = ", ".join(nic.missing_addresses)
        if not nic.name:
            problems.append(f"the guest has no network interface for the NIC {nic.mac}")
        elif (
            missing and report.dynamic_lines and not any(_is_static(a, report) for a in nic.missing_addresses)
        ):
            waits = True
            warnings.append(
                f"{nic.name} ({nic.mac}) lacks {missing}: the guest asks a network for it, and the trial "
                "boot has none"
            )
        elif missing:
            has = ", ".join(nic.addresses) or "no address"
            problems.append(f"{nic.name} ({nic.mac}) lacks {missing}, which it had in vSphere; it has {has}")
    return waits


def _is_static(address: str, report: GuestReport) -> bool:
    """Whether the guest's own configuration spells the address out."""
    bare = re.escape(address.partition("/")[0])
    pattern = re.compile(rf"(?<![0-9a-fA-F.:]){bare}(?![0-9a-fA-F.:])")
    return any(pattern.search(line) for line in report.static_lines)


def _judge_units(
    report: GuestReport, waits: bool, told: set[str], problems: list[str], warnings: list[str]
) -> None:
    excused_mounts = {_mount_unit(entry.target) for entry in report.fstab if not entry.required}
    for unit in report.failed_units:
        if unit in told:
            continue
        excused = unit in excused_mounts or (waits and _any(unit, NETWORK_UNITS))
        if _any(unit, NETWORK_UNITS + STORAGE_UNITS + BOOT_UNITS) and not excused:
            problems.append(f"the unit {unit} has failed")
        else:
            warnings.append(f"the unit {unit} has failed (the trial boot has no network)")


def _mount_unit(target: str) -> str:
    """The name of the unit that systemd makes for a mount point (systemd.unit(5), simple paths)."""
    return target.strip("/").replace("-", r"\x2d").replace("/", "-") + ".mount"


def _any(unit: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(unit, pattern) for pattern in patterns)
