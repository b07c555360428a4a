"""What worked in the unconverted guest and does not in the converted one, by their own reports.

A thing that is missing in both is no fault of the conversion; one that is new is none either.
"""

import re
from itertools import pairwise

from hyperctl.activities.prove.report import GuestReport
from hyperctl.activities.prove.verdict import mounts_of, nics_of, place_of, writable
from hyperctl.workflows.guest import Difference, Kind
from hyperctl.workflows.machine import Machine

LIMIT = 100
"""As many as are told of each kind."""
_PASSING_PLACES = re.compile(r"/(run|proc|sys|dev|tmp|var/tmp)(/|$)")
"""What is mounted below them comes and goes with the moment."""


def compare(before: GuestReport, after: GuestReport, machine: Machine) -> tuple[Difference, ...]:
    """What is lost, a kind after the other. Both are full reports of guests that had settled."""
    lost = {
        Kind.UNIT: [unit for unit in after.failed_units if unit not in before.failed_units],
        Kind.MOUNT: _mounts(before, after),
        Kind.ADDRESS: _addresses(before, after, machine),
        Kind.ROUTE: _routes(before, after),
        Kind.SOCKET: sorted(before.listening - after.listening),
    }
    return tuple(
        Difference(kind=kind, what=what[:200])
        for kind, names in lost.items()
        for what in list(dict.fromkeys(names))[:LIMIT]
    )


def _mounts(before: GuestReport, after: GuestReport) -> list[str]:
    """Devices by their mount points, whatever the devices are called; swap areas by their number."""
    wanted = {
        target
        for target, source in before.mounts.items()
        if source.startswith("/dev/") and not _PASSING_PLACES.match(target)
    }
    there = [mount.target for mount in mounts_of(before) if mount.active and mount.filesystem != "swap"]
    wanted |= {place_of(target, before) for target in there}
    lost = sorted(wanted - after.mounts.keys())
    lost += [writable(target) for target in sorted(wanted & (after.read_only - before.read_only))]
    swaps = len(before.swaps) - len(after.swaps)
    return [*lost, f"swap ({swaps} of {len(before.swaps)})"] if swaps > 0 else lost


def _addresses(before: GuestReport, after: GuestReport, machine: Machine) -> list[str]:
    """A NIC's, with those of what is built on it, by its MAC; others by their interface's name."""
    lost: list[str] = []
    of_nics: set[str] = set()
    for had, has in zip(nics_of(before, machine), nics_of(after, machine), strict=True):
        missing = (address for address in had.addresses if address not in has.addresses)
        lost += [f"{address} on {had.name}" for address in missing]
        of_nics |= {*had.addresses}
    for name, addresses in before.addresses.items():
        if name != "lo":
            others = {*addresses} - of_nics - {*after.addresses.get(name, ())}
            lost += [f"{address} on {name}" for address in sorted(others)]
    return lost


def _routes(before: GuestReport, after: GuestReport) -> list[str]:
    """By destination, gateway and device. The kernel adds those of the addresses itself."""
    there = {_route(line) for line in after.routes}
    own = (line for line in before.routes if " proto kernel" not in line and not line.startswith("fe80:"))
    return [line for line in own if _route(line) not in there]


def _route(line: str) -> tuple[str, ...]:
    words = line.split()
    pairs = dict(pairwise(words))
    return (*words[:1], pairs.get("via", ""), pairs.get("dev", ""))
