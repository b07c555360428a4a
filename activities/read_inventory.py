"""`read_inventory`: a page of what a vCenter holds, each machine judged as a migration's preflight does."""

import logging
from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from temporalio import activity

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.plan_source import problems_of
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.inventory import not_found
from hyperctl.activities.vsphere.listing import Listed, Read, list_machines, read_machines
from hyperctl.activities.vsphere.session import Session, open_session
from hyperctl.workflows.contract import READ_INVENTORY, ReadInventoryInput
from hyperctl.workflows.errors import ErrorCode, Failure, HyperctlError
from hyperctl.workflows.inventory import InventoryMachine, InventoryPage, InventoryRequest
from hyperctl.workflows.machine import PowerState
from hyperctl.workflows.request import RunningSource, WhenRunning
from hyperctl.workflows.status import Phase

PAGE_MACHINES = 1000
PAGE_BYTES = 1 << 20
"""Of JSON at most; Temporal takes 2 MiB in one payload."""

_WAYS = (RunningSource(action=WhenRunning.SHUTDOWN), RunningSource(action=WhenRunning.SNAPSHOT))


class InventoryActivities:
    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    @activity.defn(name=READ_INVENTORY.name, no_thread_cancel_exception=True)
    def read_inventory(self, argument: ReadInventoryInput) -> InventoryPage:
        running = Attempt(Phase.PLAN, logging.getLogger("hyperctl.inventory"))
        return read_page(argument.request, self._settings, running)


def read_page(request: InventoryRequest, settings: HostSettings, running: Attempt) -> InventoryPage:
    """The machines that fit, from where the request says.

    Raises `HyperctlError`: what opening a session does, `datacenter_not_found`, and where a folder or a name
    without wildcards is nowhere, `source_not_found` and `vm_not_found` with the nearest.
    """
    with open_session(request.vcenter, settings, running) as session:
        everything = list_machines(session, request.vcenter.datacenter)
        fitting = sorted((one for one in everything if _fits(one, request)), key=_place)
        if not fitting and everything:
            _refuse_unknown(session, request, everything)
        rest = [one for one in fitting if not request.start or _place(one) >= _named(request.start)]
        following = rest[PAGE_MACHINES : PAGE_MACHINES + 1]
        machines: list[InventoryMachine] = []
        size = 0
        for read in read_machines(session, rest[:PAGE_MACHINES]):
            machine = _machine(read)
            size += len(machine.model_dump_json())
            if machines and size > PAGE_BYTES:
                following = [read.listed]
                break
            machines.append(machine)
        return InventoryPage(
            machines=tuple(machines),
            next=f"{following[0].moref}:{following[0].name}" if following else "",
            visible=len(everything),
            fitting=len(fitting),
        )


def _machine(read: Read) -> InventoryMachine:
    listed, source = read.listed, read.source
    where = {
        "name": listed.name,
        "moref": listed.moref,
        "datacenter": listed.datacenter,
        "folder": listed.folder,
    }
    if source is None:
        return InventoryMachine(**where, problems=(read.refusal,) if read.refusal else ())
    machine = source.machine
    needs, problems = _judged(source)
    return InventoryMachine(
        **where,
        esxi_host=machine.esxi_host,
        power_state=machine.power_state,
        guest_id=machine.guest_id,
        guest_full_name=machine.guest_full_name,
        firmware=machine.firmware,
        vcpus=machine.vcpus,
        memory_bytes=machine.memory_bytes,
        disks=len(machine.disks),
        capacity_bytes=machine.capacity_bytes,
        used_bytes=machine.allocated_bytes,
        snapshots=read.snapshots,
        networks=tuple(nic.network for nic in machine.nics),
        tools=read.tools,
        needs=needs,
        problems=problems,
    )


def _judged(source: SourceMachine) -> tuple[tuple[WhenRunning, ...], tuple[Failure, ...]]:
    """What a running machine needs, and what stands against any machine whatever is done to it."""
    if source.machine.power_state is not PowerState.ON:
        return (), problems_of(source)
    if ways := tuple(way.action for way in _WAYS if not problems_of(source, way)):
        return ways, ()
    return (), tuple(one for one in problems_of(source) if one.code is not ErrorCode.VM_POWERED_ON)


def _fits(one: Listed, request: InventoryRequest) -> bool:
    return (request.name is None or _matches(one.name, request.name)) and (
        request.folder is None or _is_below(one.folder, request.folder)
    )


def _is_below(folder: str, pattern: str) -> bool:
    """Whether the folder fits, or one that it is in."""
    parts = folder.split("/")
    return any(_matches("/".join(parts[:count]), pattern.strip("/")) for count in range(1, len(parts) + 1))


def _matches(text: str, pattern: str) -> bool:
    return fnmatchcase(text.casefold(), pattern.casefold())


def _place(one: Listed) -> tuple[str, str, str]:
    return one.name.casefold(), one.name, one.moref


def _named(text: str) -> tuple[str, str, str]:
    moref, _, name = text.partition(":")
    return name.casefold(), name, moref


def _refuse_unknown(session: Session, request: InventoryRequest, everything: Sequence[Listed]) -> None:
    """Nothing fits: a name or a folder that is not there was mistyped, and is not an empty list."""
    folders = sorted({one.folder for one in everything if one.folder})
    pattern = request.folder
    if pattern is not None and not any(_is_below(folder, pattern) for folder in folders):
        near = get_close_matches(pattern.strip("/"), folders, n=3)
        known = ", ".join(near or folders[:10])
        raise HyperctlError(
            ErrorCode.SOURCE_NOT_FOUND,
            f"no machine in {session.endpoint} is in a folder {pattern!r}",
            (f"Did you mean {known}?" if near else f"There are: {known}.")
            if known
            else "None is in a folder at all.",
        )
    name = request.name
    if name is not None and not any(char in name for char in "*?["):
        raise not_found(session, name, request.vcenter.datacenter, [one.name for one in everything])
