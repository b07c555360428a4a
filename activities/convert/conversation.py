"""Running a process that works on a guest's disks, and what it says meanwhile, told on as progress."""

import sys

from pydantic import ValidationError

from hyperctl.activities.acceleration import probe_acceleration
from hyperctl.activities.appliance import appliance_environment
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.convert.order import Event, Order
from hyperctl.activities.convert.windows.found import WindowsFound
from hyperctl.activities.process import ProcessError, run
from hyperctl.workflows.errors import ErrorCode, Failure, HyperctlError
from hyperctl.workflows.guest import GuestSystem, StepOutcome

TIMEOUT_SECONDS = 3600.0


class GuestUnreadableError(HyperctlError):
    """libguestfs broke down over the disks: that the guest cannot be converted is not said by it."""


class Conversation:
    """With one process after another, until the guest is converted or refused."""

    def __init__(self, running: Attempt) -> None:
        self._running = running
        self._steps: list[StepOutcome] = []
        self._guest: GuestSystem | None = None
        self._refused: Failure | None = None
        self.windows: WindowsFound | None = None
        """A Windows system that is to be converted now."""

    def hold(self, module: str, order: Order) -> None:
        """Run a module as a process, which a cancel can kill with its appliance.

        Raises what it refuses the guest for, with its code, and `GuestUnreadableError`.
        """
        try:
            with appliance_environment(probe_acceleration(self._running)) as environment:
                run(
                    [sys.executable, "-m", module],
                    self._running,
                    timeout_seconds=TIMEOUT_SECONDS,
                    stdin=order.model_dump_json().encode(),
                    environment=environment,
                    on_line=self._hear,
                )
        except ProcessError as error:
            if self._refused is None:
                raise GuestUnreadableError(
                    ErrorCode.CONVERSION_FAILED,
                    f"the disks of {order.machine.name} could not be worked on: {error}",
                    "The job's log has libguestfs' own words. The copied disks are kept: `hyperctl retry` "
                    "goes on from them.",
                ) from error
        if self._refused:
            failure = self._refused
            raise HyperctlError(failure.code, f"{order.machine.name}: {failure.message}", failure.hint)

    def outcome(self, vm_name: str) -> tuple[GuestSystem, tuple[StepOutcome, ...]]:
        if self._guest is None:
            raise HyperctlError(
                ErrorCode.CONVERSION_FAILED, f"{vm_name}: the conversion ended without a result"
            )
        return self._guest, tuple(self._steps)

    def _hear(self, line: str) -> None:
        try:
            event = Event.model_validate_json(line)
        except ValidationError:
            self._running.log.info("%s", line)
            return
        if event.begun:
            self._running.report(current_step=event.begun.value, message=event.begun.value.replace("_", " "))
        elif event.ended:
            ended = event.ended
            self._steps.append(ended)
            self._running.log.info("%s: %s: %s", ended.step, ended.outcome, ended.detail)
            for warning in ended.warnings:
                self._running.log.warning("%s: %s", ended.step, warning)
            for path in ended.changed:
                self._running.log.info("%s changed %s", ended.step, path)
            self._running.report(steps=tuple(self._steps), current_step="")
        elif event.guest:
            self._guest = event.guest
        elif event.windows:
            self.windows = event.windows
        elif event.refused:
            self._refused = event.refused
