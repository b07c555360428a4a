"""Finding a virtual machine and reading all of it in a handful of round trips.

Names come through a ContainerView and RetrievePropertiesEx with narrow paths; attributes are never read
one by one. vSphere API reference: PropertyCollector, ViewManager, VirtualMachine.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from pyVmomi import vim, vmodl

from hyperctl.activities.vsphere.hardware import HARDWARE, MACHINE_PATHS, SourceMachine, read_hardware
from hyperctl.activities.vsphere.session import Session
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import PowerState

PAGE_OBJECTS = 1000
"""Objects in one answer; a continuation token fetches the next ones."""

_STARTS = ("VmStartingEvent", "VmPoweredOnEvent", "DrsVmPoweredOnEvent", "VmResumingEvent")
_COLLECTOR: Any = vmodl.query.PropertyCollector


@dataclass(frozen=True, slots=True)
class Properties:
    """What one object answered for the paths that were asked; a path without a value is missing."""

    reference: Any
    values: dict[str, Any]
    refusal: Any = None
    """The fault of a path that the user may not read."""

    def get(self, path: str, default: Any = None) -> Any:
        return self.values.get(path, default)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object hangs in the inventory: its datacenter and its path from there."""

    datacenter: str
    path: str
    datacenter_path: str
    """The datacenter's own, without a leading slash, in vSphere's escaping: `/` in a name is `%2f`."""


@dataclass(frozen=True, slots=True)
class Power:
    """Whether a machine runs, and the newest event of its being started; empty where none is known."""

    state: PowerState
    last_start: str


@dataclass(frozen=True, slots=True)
class Datastore:
    """A datastore's name and its kind: `VMFS`, `NFS`, `NFS41`, `vsan`, `VVOL` ..."""

    name: str
    kind: str


def find_machine(session: Session, name: str, datacenter: str | None) -> SourceMachine:
    """The one virtual machine of this name, read whole.

    Raises `HyperctlError`: `vm_not_found` with the nearest names, `vm_ambiguous` with every place,
    `datacenter_not_found` with the names there are.
    """
    root = session.content.rootFolder if datacenter is None else find_datacenter(session, datacenter)
    found = in_view(session, root, vim.VirtualMachine, ["name"])
    matching = [item for item in found if plain_name(item.get("name", "")) == name]
    if not matching:
        raise not_found(session, name, datacenter, [plain_name(item.get("name", "")) for item in found])
    if len(matching) > 1:
        raise _ambiguous(session, name, [place_of(session, item.reference).path for item in matching])
    return read_machine(session, matching[0].reference._GetMoId())


def read_machine(session: Session, moref: str) -> SourceMachine:
    """A virtual machine by its reference. Raises `HyperctlError` (`vm_not_found`) when it is gone."""
    reference = session.managed(vim.VirtualMachine, moref)
    try:
        (found,) = read_objects(session, [reference], vim.VirtualMachine, MACHINE_PATHS)
        neighbours = [found.get("runtime.host"), *(found.get("network") or ())]
        names = names_of(session, [neighbour for neighbour in neighbours if neighbour is not None])
        place = place_of(session, reference)
    except vmodl.fault.ManagedObjectNotFound as error:
        raise HyperctlError(
            ErrorCode.VM_NOT_FOUND, f"the virtual machine {moref} is no longer in {session.endpoint}"
        ) from error
    if HARDWARE not in found.values:
        raise HyperctlError(
            *without_configuration(plain_name(found.get("name", moref)), found.get("runtime.connectionState"))
        )
    last_start = _last_start(session, reference)
    source = read_hardware(reference, found.values, names, place.datacenter, last_start)
    return replace(source, datacenter_path=place.datacenter_path)


def read_power(session: Session, reference: Any) -> Power:
    """Whether a machine runs, and whether it has. Raises what the connection or the vCenter says."""
    (found,) = retrieve(session, [objects_spec([reference], vim.VirtualMachine, ["runtime.powerState"])])
    return Power(PowerState(found.get("runtime.powerState")), _last_start(session, reference))


def read_datastores(session: Session, reference: Any) -> tuple[Datastore, ...]:
    """The datastores that a machine's files are on, by one read."""
    step = _COLLECTOR.TraversalSpec(type=vim.VirtualMachine, path="datastore", skip=False)
    spec = _COLLECTOR.FilterSpec(
        objectSet=[_COLLECTOR.ObjectSpec(obj=reference, skip=True, selectSet=[step])],
        propSet=[_COLLECTOR.PropertySpec(type=vim.Datastore, pathSet=["summary.name", "summary.type"])],
    )
    return tuple(
        Datastore(plain_name(item.get("summary.name", "")), item.get("summary.type", ""))
        for item in retrieve(session, [spec])
    )


def plain_name(name: str) -> str:
    """A name as people see it: vSphere escapes `/`, `\\` and `%` in names."""
    return re.sub(r"%(?:2f|5c|25)", lambda match: unquote(match[0]), name, flags=re.IGNORECASE)


def retrieve(session: Session, specs: Sequence[Any], *, lenient: bool = False) -> list[Properties]:
    """Read properties of many objects, page by page.

    Raises where the user may not read all of them, unless `lenient`.
    """
    found = session.again(lambda: _retrieve(session, specs))
    refused = next((item.refusal for item in found if item.refusal is not None), None)
    if refused is not None and not lenient:
        raise refused
    return found


def _retrieve(session: Session, specs: Sequence[Any]) -> list[Properties]:
    collector = session.content.propertyCollector
    page = collector.RetrievePropertiesEx(list(specs), _COLLECTOR.RetrieveOptions(maxObjects=PAGE_OBJECTS))
    found: list[Properties] = []
    while page is not None:
        read = [_properties(item) for item in page.objects or ()]
        for item in read:
            # So a vCenter answers to a property read in a session that has ended.
            if isinstance(item.refusal, vim.fault.NotAuthenticated):
                raise item.refusal
        found.extend(read)
        page = collector.ContinueRetrievePropertiesEx(page.token) if page.token else None
    return found


def read_objects(
    session: Session, references: Iterable[Any], kind: Any, paths: Iterable[str]
) -> list[Properties]:
    """Read properties of some objects of one kind in one call."""
    return retrieve(session, [objects_spec(references, kind, paths)])


def place_of(session: Session, reference: Any) -> Place:
    """An object's place, by one read of all its ancestors."""
    upwards = [_COLLECTOR.SelectionSpec(name="parent")]
    steps = [
        _COLLECTOR.TraversalSpec(name="parent", type=vim.ManagedEntity, path="parent", selectSet=upwards),
        _COLLECTOR.TraversalSpec(type=vim.VirtualMachine, path="parentVApp", selectSet=upwards),
    ]
    spec = _COLLECTOR.FilterSpec(
        objectSet=[_COLLECTOR.ObjectSpec(obj=reference, selectSet=steps)],
        propSet=[
            _COLLECTOR.PropertySpec(type=vim.ManagedEntity, pathSet=["name", "parent"]),
            _COLLECTOR.PropertySpec(type=vim.VirtualMachine, pathSet=["parentVApp"]),
        ],
    )
    ancestors = {item.reference._GetMoId(): item for item in retrieve(session, [spec])}
    names: list[str] = []
    escaped: list[str] = []
    datacenter = ""
    current = ancestors.get(reference._GetMoId())
    while current is not None:
        parent = current.get("parent") or current.get("parentVApp")
        name = plain_name(current.get("name", ""))
        if isinstance(current.reference, vim.Datacenter):
            datacenter = name
        if parent is not None:  # the root folder is in every path and so says nothing
            names.append(name)
            if datacenter:
                escaped.append(current.get("name", ""))
        current = ancestors.pop(parent._GetMoId(), None) if parent is not None else None
    return Place(datacenter, "/" + "/".join(reversed(names)), "/".join(reversed(escaped)))


def _last_start(session: Session, reference: Any) -> str:
    """The newest event that let the guest run, so that a copy from before it is known to be old."""
    events: Any = vim.event.EventFilterSpec
    found = session.content.eventManager.QueryEvents(
        events(
            entity=events.ByEntity(entity=reference, recursion=events.RecursionOption.self),
            eventTypeId=list(_STARTS),
        )
    )
    if not found:
        return ""
    newest = max(found, key=lambda event: event.key)
    return f"{type(newest).__name__.rsplit('.', 1)[-1]} {newest.key} {newest.createdTime.isoformat()}"


def _properties(item: Any) -> Properties:
    values = {prop.name: prop.val for prop in item.propSet or ()}
    faults = [missing.fault for missing in item.missingSet or ()]
    refused = [fault for fault in faults if isinstance(fault, vim.fault.NoPermission)]
    return Properties(item.obj, values, refused[0] if refused else None)


def in_view(
    session: Session, root: Any, kind: Any, paths: list[str], *, lenient: bool = False
) -> list[Properties]:
    """The objects of one kind anywhere under a root."""
    view = session.content.viewManager.CreateContainerView(root, [kind], True)
    try:
        step = _COLLECTOR.TraversalSpec(type=vim.view.ContainerView, path="view", skip=False)
        spec = _COLLECTOR.FilterSpec(
            objectSet=[_COLLECTOR.ObjectSpec(obj=view, skip=True, selectSet=[step])],
            propSet=[_COLLECTOR.PropertySpec(type=kind, pathSet=paths)],
        )
        return retrieve(session, [spec], lenient=lenient)
    finally:
        view.DestroyView()


def objects_spec(references: Iterable[Any], kind: Any, paths: Iterable[str]) -> Any:
    return _COLLECTOR.FilterSpec(
        objectSet=[_COLLECTOR.ObjectSpec(obj=reference) for reference in references],
        propSet=[_COLLECTOR.PropertySpec(type=kind, pathSet=list(paths))],
    )


def names_of(session: Session, references: list[Any], *, lenient: bool = False) -> dict[str, str]:
    """Names of hosts and networks by reference, in one call."""
    if not references:
        return {}
    found = retrieve(session, [objects_spec(references, vim.ManagedEntity, ["name"])], lenient=lenient)
    return {item.reference._GetMoId(): plain_name(item.get("name", "")) for item in found}


def find_datacenter(session: Session, name: str) -> Any:
    found = in_view(session, session.content.rootFolder, vim.Datacenter, ["name"])
    for item in found:
        if plain_name(item.get("name", "")) == name:
            return item.reference
    names = sorted(plain_name(item.get("name", "")) for item in found)
    raise HyperctlError(
        ErrorCode.DATACENTER_NOT_FOUND,
        f"{session.endpoint} has no datacenter {name!r}",
        f"It has: {', '.join(names)}." if names else "The user sees none at all: check its permissions.",
    )


def not_found(session: Session, name: str, datacenter: str | None, names: list[str]) -> HyperctlError:
    by_folded = {known.casefold(): known for known in names}
    nearest = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.6)
    where = f"datacenter {datacenter} of {session.endpoint}" if datacenter else str(session.endpoint)
    if nearest:
        hint = f"Did you mean {' or '.join(by_folded[known] for known in nearest)}?"
    elif names:
        hint = f"{len(names)} virtual machines are visible there, none with a name like it."
    else:
        hint = "The user sees no virtual machine there at all: check its permissions."
    return HyperctlError(ErrorCode.VM_NOT_FOUND, f"no virtual machine {name!r} in {where}", hint)


def without_configuration(name: str, connection_state: str | None) -> tuple[ErrorCode, str, str]:
    """Code, message and hint for a machine whose configuration the vCenter itself cannot read."""
    return (
        ErrorCode.VCENTER_FAULT,
        f"{name} is {connection_state or 'not there'}: its configuration cannot be read",
        "Bring its ESXi host or its storage back, or remove it from the inventory.",
    )


def _ambiguous(session: Session, name: str, places: list[str]) -> HyperctlError:
    return HyperctlError(
        ErrorCode.VM_AMBIGUOUS,
        f"{session.endpoint} has {len(places)} virtual machines {name!r}: {', '.join(sorted(places))}",
        "Choose one by its datacenter (--datacenter), or give them different names.",
    )
