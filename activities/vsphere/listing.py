"""All machines of a vCenter: which there are and where, and many of them read whole in few round trips."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from hyperctl.activities.vsphere.hardware import HARDWARE, MACHINE_PATHS, SourceMachine, read_hardware
from hyperctl.activities.vsphere.inventory import (
    Properties,
    find_datacenter,
    in_view,
    names_of,
    objects_spec,
    plain_name,
    retrieve,
    without_configuration,
)
from hyperctl.activities.vsphere.session import Session, meaning
from hyperctl.workflows.errors import Failure
from hyperctl.workflows.inventory import ToolsState

_LONG = ("config.annotation", "guest.ipStack", "guest.net", "layoutEx.disk", "layoutEx.file")
"""Most of what a machine answers, and of no use in a list."""
_PATHS = (
    *(path for path in MACHINE_PATHS if path not in _LONG),
    "guest.toolsVersionStatus2",
    "snapshot.rootSnapshotList",
)
_ABOVE: tuple[tuple[Any, str], ...] = ((vim.Datacenter, "parent"), (vim.Folder, "parent"))


@dataclass(frozen=True, slots=True)
class Listed:
    """A machine's name and where it is in the inventory."""

    reference: Any
    name: str
    datacenter: str
    folder: str
    """From the datacenter on, `Production/web`; a vApp counts as one."""

    @property
    def moref(self) -> str:
        return str(self.reference._GetMoId())


@dataclass(frozen=True, slots=True)
class Read:
    """A listed machine with what could be read of it: itself, or why not."""

    listed: Listed
    source: SourceMachine | None
    snapshots: int = 0
    tools: ToolsState = ToolsState.UNKNOWN
    refusal: Failure | None = None


def list_machines(session: Session, datacenter: str | None) -> list[Listed]:
    """Every machine that the user sees. Raises `HyperctlError` (`datacenter_not_found`)."""
    root = session.content.rootFolder if datacenter is None else find_datacenter(session, datacenter)
    machines = in_view(session, root, vim.VirtualMachine, ["name", "parent", "parentVApp"], lenient=True)
    above: dict[str, tuple[Any, str, Any]] = {}
    if datacenter is not None:
        above[root._GetMoId()] = (root, datacenter, None)
    kinds = _ABOVE
    if any(machine.get("parentVApp") is not None for machine in machines):
        kinds = (*kinds, (vim.VirtualApp, "parentFolder"), (vim.VirtualApp, "parentVApp"))
    for kind, upwards in kinds:
        for item in in_view(session, root, kind, ["name", upwards], lenient=True):
            if item.get(upwards) is not None:
                above[item.reference._GetMoId()] = (
                    item.reference,
                    plain_name(item.get("name", "")),
                    item.get(upwards),
                )
    return [_listed(machine, above) for machine in machines]


def read_machines(session: Session, listed: Sequence[Listed]) -> Iterator[Read]:
    """What could be read of each, in their order; one that is gone meanwhile is left out."""
    if not listed:
        return
    spec = objects_spec([one.reference for one in listed], vim.VirtualMachine, _PATHS)
    spec.reportMissingObjectsInResults = True
    found = {item.reference._GetMoId(): item for item in retrieve(session, [spec], lenient=True)}
    beside: dict[str, Any] = {}
    for item in found.values():
        for neighbour in (item.get("runtime.host"), *(item.get("network") or ())):
            if neighbour is not None:
                beside[neighbour._GetMoId()] = neighbour
    names = names_of(session, list(beside.values()), lenient=True)
    for one in listed:
        if one.moref in found:
            item = found[one.moref]
            if item.refusal is not None:
                refused = meaning(item.refusal, session.endpoint, session.username)
                yield Read(one, None, refusal=refused.failure)
            else:
                yield as_read(one, item, names)


def as_read(one: Listed, item: Properties, names: Mapping[str, str]) -> Read:
    """The machine from what its paths answered, and the names of hosts and networks. Pure."""
    if HARDWARE not in item.values:
        code, message, hint = without_configuration(one.name, item.get("runtime.connectionState"))
        return Read(one, None, refusal=Failure(code=code, message=message, hint=hint))
    return Read(
        one,
        read_hardware(one.reference, {**item.values, "name": one.name}, names, one.datacenter),
        _count(item.get("snapshot.rootSnapshotList") or ()),
        _tools(item.get("guest.toolsRunningStatus"), item.get("guest.toolsVersionStatus2")),
    )


def _listed(machine: Properties, above: Mapping[str, tuple[Any, str, Any]]) -> Listed:
    names: list[str] = []
    datacenter = ""
    parent = machine.get("parentVApp") or machine.get("parent")
    while parent is not None and parent._GetMoId() in above:
        reference, name, parent = above[parent._GetMoId()]
        if isinstance(reference, vim.Datacenter):
            datacenter = name
            names.pop()  # its own folder of machines, which is in every path and so says nothing
            break
        names.append(name)
    name = plain_name(machine.get("name", "")) or machine.reference._GetMoId()
    return Listed(machine.reference, name, datacenter, "/".join(reversed(names)))


def _count(trees: Sequence[Any]) -> int:
    return sum(1 + _count(tree.childSnapshotList or ()) for tree in trees)


def _tools(running: str | None, version: str | None) -> ToolsState:
    if running == "guestToolsRunning":
        return ToolsState.RUNNING
    if version == "guestToolsNotInstalled":
        return ToolsState.NOT_INSTALLED
    return ToolsState.NOT_RUNNING if running else ToolsState.UNKNOWN
