"""The process that looks at what virt-v2v has done: `python -m hyperctl.activities.convert.windows.child`.

Reads an `Order` on stdin, of a system that was converted, and prints `Event`s. Only what is found on the
disks is claimed.
"""

import sys
import time

import guestfs

from hyperctl.activities.convert.order import Event, Order
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.windows.found import WindowsFound
from hyperctl.activities.convert.windows.outcome import STEPS, Converted
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.guest import Outcome, StepOutcome


def main() -> int:
    order = Order.model_validate_json(sys.stdin.read())
    found = order.converted
    assert found is not None, "nothing was converted"
    guest = guestfs.GuestFS(python_return_dict=True)
    try:
        for overlay in order.overlays:
            guest.add_drive_opts(overlay, format="qcow2", cachemode="unsafe", discard="besteffort")
        guest.launch()
        whole = _tell(guest, order, found)
        guest.umount_all()
        guest.shutdown()
    finally:
        guest.close()
    return 0 if whole else 3


def _tell(guest: guestfs.GuestFS, order: Order, found: WindowsFound) -> bool:
    converted = Converted.opened(guest, order, found)
    for step, look in STEPS:
        started = time.monotonic()
        work = Work()
        try:
            outcome = look(converted, work)
            detail = "; ".join(work.done) or "nothing to change"
        except (StepFailed, RuntimeError) as error:
            outcome, detail = Outcome.FAILED, str(error)
        ended = StepOutcome(
            step=step,
            outcome=outcome,
            detail=detail,
            changed=tuple(work.changed),
            warnings=tuple(work.warnings),
            duration_seconds=round(time.monotonic() - started, 1),
        )
        _say(Event(ended=ended))
        if outcome is Outcome.FAILED:
            failure = Failure(
                code=ErrorCode.CONVERSION_FAILED,
                message=f"the step {step} failed: {detail}",
                hint="The source and its copy are as they were.",
            )
            _say(Event(refused=failure))
            return False
    return True


def _say(event: Event) -> None:
    print(event.model_dump_json(exclude_none=True), flush=True)


if __name__ == "__main__":
    sys.exit(main())
