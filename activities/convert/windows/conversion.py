"""A Windows guest's conversion: virt-v2v-in-place over its overlays, and a look at what it has done."""

from collections import deque

from pydantic import BaseModel, ValidationError

from hyperctl.activities.acceleration import probe_acceleration
from hyperctl.activities.appliance import appliance_environment
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.convert.conversation import TIMEOUT_SECONDS, Conversation
from hyperctl.activities.convert.order import Order
from hyperctl.activities.convert.windows.command import (
    BLOCK_DRIVER,
    CAPABILITIES,
    conversion_command,
    source_xml,
)
from hyperctl.activities.convert.windows.drivers import BLOCK
from hyperctl.activities.convert.windows.found import WindowsFound
from hyperctl.activities.convert.windows.parts import PROGRAMME
from hyperctl.activities.process import ProcessError, run
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.guest import Step
from hyperctl.workflows.hardware import DiskBus

CHILD = "hyperctl.activities.convert.windows.child"
CAPABILITIES_TIMEOUT_SECONDS = 30.0
MOST_REMARKS = 20


class Said(BaseModel):
    """One message; `type` is `message`, `info`, `warning` or `error` (virt-v2v(1), machine readable)."""

    message: str
    type: str


def convert_windows(found: WindowsFound, order: Order, conversation: Conversation, running: Attempt) -> None:
    """Raises `CONVERSION_FAILED` with virt-v2v's own words, or what the look at its work finds missing."""
    block_driver = _block_driver(order, running)
    messages = _Messages(running)
    acceleration = probe_acceleration(running)
    running.report(current_step=Step.VIRTIO.value)
    try:
        with appliance_environment(acceleration) as environment:
            run(
                conversion_command(found, block_driver=block_driver),
                running,
                timeout_seconds=TIMEOUT_SECONDS,
                stdin=source_xml(order.machine.name, order.overlays).encode(),
                environment={**order.windows.environment, **environment},
                on_line=messages.hear,
            )
    except ProcessError as error:
        raise HyperctlError(
            ErrorCode.CONVERSION_FAILED,
            f"{order.machine.name}: {PROGRAMME}: {messages.error or error}",
            "The job's log has all that it said. The source and its copy are as they were.",
        ) from error
    told = found.model_copy(update={"remarks": tuple(messages.warnings)})
    conversation.hold(CHILD, order.model_copy(update={"converted": told}))


def _block_driver(order: Order, running: Attempt) -> str:
    """Raises `GUEST_UNSUPPORTED` where this virt-v2v has no driver to boot from the disks' bus by."""
    if order.hardware.disk_bus is not DiskBus.SCSI:
        return ""
    can = run(CAPABILITIES, running, timeout_seconds=CAPABILITIES_TIMEOUT_SECONDS).stdout.split()
    if BLOCK_DRIVER in can:
        return "virtio-scsi"
    raise HyperctlError(
        ErrorCode.GUEST_UNSUPPORTED,
        f"{order.machine.name}: this host's {PROGRAMME} makes Windows boot by {BLOCK} only, not virtio-scsi",
        "Take the other bus: --disk-bus virtio.",
    )


class _Messages:
    """What it says, a line of JSON each, between lines for people that say the same."""

    def __init__(self, running: Attempt) -> None:
        self._running = running
        self.warnings: deque[str] = deque(maxlen=MOST_REMARKS)
        self.error = ""

    def hear(self, line: str) -> None:
        try:
            said = Said.model_validate_json(line)
        except ValidationError:
            return
        self._running.log.info("%s: %s: %s", PROGRAMME, said.type, said.message)
        if said.type == "warning":
            self.warnings.append(" ".join(said.message.split()))
        elif said.type == "error":
            self.error = said.message
        else:
            self._running.report(message=said.message)
