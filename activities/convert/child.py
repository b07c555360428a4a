"""The process that opens a guest's disks and converts them: `python -m hyperctl.activities.convert.child`.

Reads an `Order` on stdin and prints `Event`s. The guest's filesystems are mounted in libguestfs' appliance
only. None of its programmes is run but those that rebuild an initramfs or put in packages, which run in
there, without a network.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from hyperctl.activities.convert.inspect import Inspected, opened_guest
from hyperctl.activities.convert.linux.agent import enable_guest_agent
from hyperctl.activities.convert.linux.bootloader import update_bootloader
from hyperctl.activities.convert.linux.fstab import update_fstab
from hyperctl.activities.convert.linux.initramfs import inject_virtio_drivers
from hyperctl.activities.convert.linux.network import fix_network
from hyperctl.activities.convert.linux.rebuild import rebuild_initramfs
from hyperctl.activities.convert.linux.selinux import relabel
from hyperctl.activities.convert.linux.tools import retire_vmware_tools
from hyperctl.activities.convert.order import Event, Order
from hyperctl.activities.convert.refusal import Refused, StepFailed
from hyperctl.activities.convert.windows.found import WindowsFound
from hyperctl.activities.convert.windows.inspect import InspectedWindows
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.errors import ErrorCode, Failure, HyperctlError
from hyperctl.workflows.guest import Outcome, Step, StepOutcome
from hyperctl.workflows.request import Fixers


@dataclass(frozen=True, slots=True)
class Fixer:
    step: Step
    wanted: Callable[[Fixers], bool]
    fix: Callable[[Inspected, Work], None]


FIXERS = (
    Fixer(Step.VIRTIO, lambda fix: fix.virtio, inject_virtio_drivers),
    Fixer(Step.BOOTLOADER, lambda fix: fix.grub, update_bootloader),
    Fixer(Step.NETWORK, lambda fix: fix.network, fix_network),
    Fixer(Step.FSTAB, lambda fix: fix.fstab, update_fstab),
    Fixer(Step.TOOLS, lambda fix: fix.tools, retire_vmware_tools),
    Fixer(Step.AGENT, lambda fix: fix.agent, enable_guest_agent),
    Fixer(Step.REBUILD, lambda fix: fix.virtio, rebuild_initramfs),
    Fixer(Step.LABELS, lambda fix: True, relabel),
)


def convert(order: Order, say: Callable[[Event], None]) -> None:
    """Inspect, then every step. Raises `Refused` where the guest or a step of it cannot be converted."""
    started = time.monotonic()
    say(Event(begun=Step.INSPECT))
    with opened_guest(order) as inspected:
        system = inspected.system
        say(
            Event(
                ended=StepOutcome(
                    step=Step.INSPECT,
                    outcome=Outcome.DONE,
                    detail=inspected.detail,
                    warnings=inspected.warnings,
                    duration_seconds=round(time.monotonic() - started, 1),
                )
            )
        )
        say(Event(guest=system))
        if isinstance(inspected, InspectedWindows):
            _leave_to_virt_v2v(inspected.found, order, say)
            return
        for fixer in FIXERS:
            say(Event(begun=fixer.step))
            outcome = run_fixer(fixer, inspected, order.fix)
            say(Event(ended=outcome))
            if outcome.outcome is Outcome.FAILED:
                raise Refused(
                    ErrorCode.CONVERSION_FAILED,
                    f"the step {fixer.step} failed: {outcome.detail}",
                    "The source and its copy are as they were.",
                )
        if inspected.nic_order:
            say(Event(guest=system.model_copy(update={"nic_order": tuple(inspected.nic_order)})))


def _leave_to_virt_v2v(found: WindowsFound, order: Order, say: Callable[[Event], None]) -> None:
    """It does all of a Windows guest at once, drivers first."""
    if order.fix.virtio:
        say(Event(windows=found))
        return
    for step in (Step.VIRTIO, Step.NETWORK, Step.TOOLS):
        detail = "left out, as asked: with the drivers all else is"
        say(Event(ended=StepOutcome(step=step, outcome=Outcome.SKIPPED, detail=detail)))


def run_fixer(fixer: Fixer, inspected: Inspected, fix: Fixers) -> StepOutcome:
    """One step of a conversion."""
    if not fixer.wanted(fix):
        return StepOutcome(step=fixer.step, outcome=Outcome.SKIPPED, detail="left out, as asked")
    started = time.monotonic()
    work = Work()
    try:
        fixer.fix(inspected, work)
        outcome = Outcome.DONE if work.changed else Outcome.NOT_NEEDED
        detail = "; ".join(work.done) or "nothing to change"
    except (StepFailed, RuntimeError) as error:  # libguestfs raises nothing more special than RuntimeError
        outcome, detail = Outcome.FAILED, str(error)
    inspected.changed.extend(work.changed)
    return StepOutcome(
        step=fixer.step,
        outcome=outcome,
        detail=detail,
        changed=tuple(work.changed),
        warnings=tuple(work.warnings),
        duration_seconds=round(time.monotonic() - started, 1),
    )


def main() -> int:
    def say(event: Event) -> None:
        print(event.model_dump_json(exclude_none=True), flush=True)

    order = Order.model_validate_json(sys.stdin.read())
    try:
        convert(order, say)
    except Refused as refused:
        say(Event(refused=Failure(code=refused.code, message=refused.message, hint=refused.hint)))
        return 3
    except HyperctlError as error:
        say(Event(refused=error.failure))
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
