"""The options that several commands share, and what is made of their texts."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import typer

from hyperctl.client.cli.session import refuse
from hyperctl.client.errors import JobConflict
from hyperctl.client.migration import Migration
from hyperctl.client.rehearsal import Rehearsal
from hyperctl.client.sdk import MigrationClient
from hyperctl.workflows.bandwidth import HIGHEST_BYTES_PER_SECOND, LOWEST_BYTES_PER_SECOND

Job = Annotated[str | None, typer.Option("--job", "-j", help="The job's id, job-...", show_default=False)]
VmOfJob = Annotated[
    str | None, typer.Option("--vm", help="The VM, in place of the job's id.", show_default=False)
]
VCenterOfJob = Annotated[
    str | None, typer.Option("--vcenter", help="Whose VM, where several have it.", show_default=False)
]
Detach = Annotated[bool, typer.Option("--detach", help="Print the job's id and do not wait.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document in place of text.")]
NetworkMap = Annotated[
    list[str] | None,
    typer.Option(
        help="VSPHERE-NETWORK=LIBVIRT-NETWORK or =bridge:NAME; may be repeated.", show_default=False
    ),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the migration has ended.")]

_LENGTH = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smh]?)")
_AGE = re.compile(r"(\d+)\s*([smhdw])")
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([A-Za-z]*?)(?:/s)?")
_FACTORS = {"": 1, "b": 1} | {
    f"{letter}{ending}": base**power
    for power, letter in enumerate("kmgt", start=1)
    for ending, base in (("", 1024), ("ib", 1024), ("b", 1000))
}
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


Find = Callable[[MigrationClient], Awaitable[Migration]]
FindJob = Callable[[MigrationClient], Awaitable[Migration | Rehearsal]]
Command = TypeVar("Command", bound=Callable[..., None])


def takes(options: type[Any]) -> Callable[[Command], Command]:
    """Give a command one option for each field of a dataclass, before its own options.

    The command gets them together, as that dataclass, in its first parameter: commands that take the same
    options have them declared in one place.
    """

    def decorate(command: Command) -> Command:
        fields = dataclasses.fields(options)

        @functools.wraps(command)
        def called(**given: Any) -> None:
            command(options(**{field.name: given.pop(field.name) for field in fields}), **given)

        shared = [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
            )
            for field in fields
        ]
        _, *own = inspect.signature(command).parameters.values()
        called.__signature__ = inspect.Signature([*shared, *own])  # type: ignore[attr-defined]
        return called  # type: ignore[return-value]

    return decorate


def find(job: str | None, vm: str | None, vcenter: str | None) -> Find:
    """How to get at the migration that the options name; refuses when they name none or two."""
    which = find_job(job, vm, vcenter)

    async def found(client: MigrationClient) -> Migration:
        one = await which(client)
        if isinstance(one, Rehearsal):
            raise JobConflict(
                f"{one.job_id} is a rehearsal, which leaves nothing on its host",
                "This goes with migrations; `hyperctl list --kind migration` shows them.",
            )
        return one

    return found


def find_job(job: str | None, vm: str | None, vcenter: str | None) -> FindJob:
    """The same where a rehearsal, named by its id, will do as well."""
    if (job is None) == (vm is None):
        refuse(["name the migration: either --job JOB or --vm NAME"])
    if job is not None and vcenter is not None:
        refuse(["--vcenter goes with --vm; a job's id needs no more"])

    async def found(client: MigrationClient) -> Migration | Rehearsal:
        return await client.job(job) if job is not None else await client.find_by_vm(vm or "", vcenter)

    return found


def parse_since(text: str | None) -> datetime | None:
    """`90m`, `2h`, `3d`, or a date or time in ISO 8601, local where it names no zone."""
    if text is None:
        return None
    age = _AGE.fullmatch(text.strip())
    if age:
        return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        refuse([f"--since {text!r} is no age (90m, 2h, 3d) and no date (2026-01-17)"])
    return moment.astimezone(UTC)


def parse_bandwidth(text: str, problems: list[str], what: str = "--bandwidth") -> int | None:
    """`200MiB`, `1.5 GiB/s`, `500kB`, plain bytes; `none` is no cap. What it is not is added to the problems.

    `K`, `M` and `G` alone are binary, as `KiB` and so on; `kB`, `MB` and `GB` are decimal.
    """
    if text.strip().lower() in ("none", "unlimited"):
        return None
    found = _SIZE.fullmatch(text.strip())
    factor = _FACTORS.get((found[2] or "").lower()) if found else None
    if found is None or factor is None:
        problems.append(f"{what} {text!r} is no size such as 200MiB, 1.5GiB or 500kB, and not none")
        return None
    size = int(float(found[1]) * factor)
    if size < LOWEST_BYTES_PER_SECOND:
        problems.append(f"{what} {text!r} is too little: {LOWEST_BYTES_PER_SECOND} bytes a second at least")
    elif size > HIGHEST_BYTES_PER_SECOND:
        problems.append(f"{what} {text!r} is more than any network has; `none` is no cap")
    return size


def parse_length(flag: str, text: str, problems: list[str]) -> float | None:
    """`90`, `90s`, `10m`, `1h` in seconds; what cannot be read is added to the problems."""
    length = _LENGTH.fullmatch(text.strip())
    if length is None:
        problems.append(f"{flag} {text!r} is no length of time (90s, 10m, 1h)")
        return None
    return float(length[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[length[2]]


def parse_network_map(pairs: list[str], problems: list[str]) -> dict[str, str]:
    """`VSPHERE NETWORK=NAME` each; what cannot be read is added to the problems."""
    found: dict[str, str] = {}
    for pair in pairs:
        source, separator, target = pair.rpartition("=")
        if not (separator and source.strip() and target.strip()):
            problems.append(f"--network-map {pair!r} is not VSPHERE-NETWORK=LIBVIRT-NETWORK")
        elif source.strip() in found:
            problems.append(f"--network-map names {source.strip()!r} twice")
        else:
            found[source.strip()] = target.strip()
    return found
