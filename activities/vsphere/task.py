"""Waiting at a vCenter: for a task to end, for a machine to be free, for the vCenter to be well again.

vSphere API reference: Task, TaskInfo, PropertyCollector. A task's state is read in batches, never attribute
by attribute, and the attempt beats with the task's own progress.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pyVmomi import vim, vmodl

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.inventory import Properties, read_objects
from hyperctl.activities.vsphere.session import Session, fault_text, meaning
from hyperctl.workflows.errors import ErrorCode, HyperctlError

BUSY_WAIT_SECONDS = 360.0
"""A worker that was killed leaves its lease behind, which the vCenter drops after five minutes."""
POLL_SECONDS = 1.0
BREATH_SECONDS = 0.25
TRIES = 12
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0

BUSY = (vim.fault.InvalidState, vim.fault.TaskInProgress, vim.fault.ResourceInUse, vim.fault.FileLocked)
_UNFINISHED = ("queued", "running")
_PATHS = ("info.state", "info.progress", "info.error", "info.result", "info.descriptionId")

T = TypeVar("T")


def run_task(
    session: Session, source: SourceMachine, attempt: Attempt, start: Callable[[], Any], what: str
) -> Any:
    """Start a task of a machine once that is free, and wait for its end, however long it takes.

    Raises `HyperctlError` that names what was done, but pyvmomi's `InvalidPowerState` and
    `ManagedObjectNotFound` as they are.
    """
    try:
        task = when_free(session, source, attempt, start)
    except (vim.fault.InvalidPowerState, vmodl.fault.ManagedObjectNotFound):
        raise
    except vmodl.MethodFault as error:
        raise _failed(session, error, what) from error
    return wait_for_task(session, task, attempt, what)


def wait_for_task(session: Session, task: Any, attempt: Attempt, what: str) -> Any:
    """Wait for a task's end, however long it takes, and return its result.

    Raises `HyperctlError` with the code of the task's fault. An attempt that is to stop leaves the task to
    itself: the vCenter goes on with it.
    """
    while True:
        (info,) = read_objects(session, [task], vim.Task, _PATHS)
        state = str(info.get("info.state", ""))
        if state == "success":
            return info.get("info.result")
        if state == "error":
            raise _failed(session, info.get("info.error"), what)
        if state not in _UNFINISHED:
            raise HyperctlError(
                ErrorCode.VCENTER_FAULT, f"{session.endpoint} no longer tells how far it is: {what}"
            )
        progress = info.get("info.progress")
        attempt.report(message=what if progress is None else f"{what}: {progress}%")
        pause(attempt, POLL_SECONDS)


def wait_for_other_tasks(session: Session, source: SourceMachine, attempt: Attempt) -> None:
    """Wait until the machine has no task under way; of a worker that was killed, or of somebody else.

    What a task is doing to a machine can only be seen when it has ended: a snapshot whose removal is under
    way is in the machine's tree no longer.
    """
    while unfinished := _unfinished(session, source):
        named = ", ".join(str(item.get("info.descriptionId", "a task")) for item in unfinished)
        shares = [item.get("info.progress") for item in unfinished]
        far = "".join(f": {share}%" for share in shares[:1] if share is not None)
        attempt.report(message=f"waiting for {named} of {source.machine.name}{far}")
        pause(attempt, POLL_SECONDS)


def when_free(
    session: Session,
    source: SourceMachine,
    attempt: Attempt,
    call: Callable[[], T],
    wait_seconds: float = BUSY_WAIT_SECONDS,
) -> T:
    """Call a method of a machine, again while something else holds it. Raises `HyperctlError` (`vm_busy`)."""
    deadline = time.monotonic() + wait_seconds
    told = False
    name = source.machine.name
    while True:
        try:
            return call()
        except vim.fault.InvalidPowerState:
            raise  # a kind of InvalidState that no waiting mends
        except BUSY as error:
            if time.monotonic() >= deadline:
                raise HyperctlError(
                    ErrorCode.VM_BUSY,
                    f"{name} is busy in {session.endpoint}: {fault_text(error)}",
                    "Another export or task holds it; it is tried again once that has ended.",
                ) from error
            if not told:
                attempt.log.info("%s is busy, waiting: %s", name, fault_text(error))
                told = True
            attempt.report(message=f"waiting for {name}: {fault_text(error)}")
            pause(attempt, POLL_SECONDS)


def insistently(attempt: Attempt, work: Callable[[], T]) -> T:
    """Do something that has to be done, and again after pauses while it fails for a passing reason.

    What puts a source back has nobody else to try it again. The pauses add up to about eight minutes, in
    which a vCenter restarts. `work` looks before it acts.
    """
    wait = FIRST_PAUSE_SECONDS
    for _ in range(TRIES - 1):
        try:
            return work()
        except HyperctlError as error:
            if not error.code.is_transient:
                raise
            attempt.log.warning("%s; again in %.0f s", error, wait)
            attempt.report(message=f"{error}; again in {wait:.0f} s")
        pause(attempt, wait)
        wait = min(wait * 2, LONGEST_PAUSE_SECONDS)
    return work()


def pause(attempt: Attempt, seconds: float) -> None:
    """Sleep, and notice within a breath that the attempt is to stop."""
    end = time.monotonic() + seconds
    attempt.checkpoint()
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(BREATH_SECONDS, left))
        attempt.checkpoint()


def _unfinished(session: Session, source: SourceMachine) -> Sequence[Properties]:
    (found,) = read_objects(session, [source.reference], vim.VirtualMachine, ["recentTask"])
    tasks = list(found.get("recentTask") or ())
    if not tasks:
        return ()
    try:
        infos = read_objects(session, tasks, vim.Task, _PATHS)
    except vmodl.fault.ManagedObjectNotFound:
        return _unfinished(session, source)  # one was forgotten between the two reads, and so has ended
    return [info for info in infos if str(info.get("info.state", "")) in _UNFINISHED]


def _failed(session: Session, fault: Any, what: str) -> HyperctlError:
    if fault is None:
        return HyperctlError(ErrorCode.VCENTER_FAULT, f"{what} failed; {session.endpoint} does not say why")
    known = meaning(fault, session.endpoint, session.username).failure
    return HyperctlError(known.code, f"{what} failed: {fault_text(fault)}", known.hint)
