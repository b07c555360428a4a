"""Switching a machine off and on.

vSphere API reference: VirtualMachine.ShutdownGuest, PowerOffVM_Task, PowerOnVM_Task. A guest that is asked
through its tools may take its time, or never do it; nothing but the power state tells.
"""

import time

from pyVmomi import vim

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.inventory import read_objects
from hyperctl.activities.vsphere.session import Session
from hyperctl.activities.vsphere.task import POLL_SECONDS, pause, run_task, when_free
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import PowerState


def power_state(session: Session, source: SourceMachine) -> PowerState:
    """As it is now. Raises `HyperctlError` (`vcenter_fault`) where the vCenter does not tell."""
    (found,) = read_objects(session, [source.reference], vim.VirtualMachine, ["runtime.powerState"])
    state = found.get("runtime.powerState")
    if state is None:
        raise HyperctlError(
            ErrorCode.VCENTER_FAULT, f"{session.endpoint} does not tell whether {source.machine.name} is on"
        )
    return PowerState(state)


def ask_to_shut_down(session: Session, source: SourceMachine, attempt: Attempt) -> bool:
    """Ask the guest through its tools; False where none are running. It is still on when this returns.

    Raises pyvmomi's `InvalidPowerState` where it is not on.
    """
    name = source.machine.name
    try:
        when_free(session, source, attempt, source.reference.ShutdownGuest)
    except vim.fault.ToolsUnavailable:
        attempt.log.info("the guest of %s cannot be asked: no tools are running", name)
        return False
    attempt.log.info("the guest of %s is asked to shut down", name)
    return True


def wait_until_off(session: Session, source: SourceMachine, attempt: Attempt, seconds: float) -> bool:
    """Wait so long at most; whether it is off."""
    deadline = time.monotonic() + seconds
    while power_state(session, source) is not PowerState.OFF:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        attempt.report(message=f"waiting for {source.machine.name} to shut down, {left:.0f} s at most")
        pause(attempt, min(POLL_SECONDS, left))
    return True


def power_off(session: Session, source: SourceMachine, attempt: Attempt) -> None:
    """Power it off like pulling its plug; one that is off is left as it is. Raises `HyperctlError`."""
    what = f"powering {source.machine.name} off"
    try:
        run_task(session, source, attempt, source.reference.PowerOffVM_Task, what)
    except (HyperctlError, vim.fault.InvalidPowerState):
        if power_state(session, source) is not PowerState.OFF:
            raise
    attempt.log.info("%s is powered off", source.machine.name)


def power_on(session: Session, source: SourceMachine, attempt: Attempt) -> None:
    """Power it on; one that is on is left as it is. Raises `HyperctlError`."""
    what = f"powering {source.machine.name} on"
    try:
        run_task(session, source, attempt, source.reference.PowerOnVM_Task, what)
    except (HyperctlError, vim.fault.InvalidPowerState):
        if power_state(session, source) is not PowerState.ON:
            raise
    attempt.log.info("%s is powered on", source.machine.name)
