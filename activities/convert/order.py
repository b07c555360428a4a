"""What passes between the activity and the process that opens the guest: an order, a line for each event."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from hyperctl.activities.convert.windows.found import WindowsFound
from hyperctl.activities.convert.windows.parts import WindowsParts
from hyperctl.workflows.errors import Failure
from hyperctl.workflows.guest import GuestSystem, Step, StepOutcome
from hyperctl.workflows.hardware import Hardware
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.request import Fixers, InitramfsWay


class Order(BaseModel):
    """A conversion to be done, as JSON on stdin."""

    model_config = ConfigDict(frozen=True)

    machine: Machine
    overlays: tuple[str, ...] = ()
    """qcow2 images in the guest's order; all that is written to."""
    fix: Fixers
    initramfs: InitramfsWay = InitramfsWay.AUTO
    serial_console: bool = False
    hardware: Hardware = Hardware()
    guest_packages: Path | None = None
    """A folder on this host that has the guest agent's package, to be put in where the guest has none."""
    disk_keys_file: Path | None = None
    """Keys of encrypted disks; read by the process that needs them, so that they travel nowhere."""
    windows: WindowsParts = WindowsParts()
    converted: WindowsFound | None = None
    """The Windows system that virt-v2v has converted, for who looks at its work."""


class Event(BaseModel):
    """One line of stdout; exactly one field is set."""

    model_config = ConfigDict(frozen=True)

    begun: Step | None = None
    ended: StepOutcome | None = None
    guest: GuestSystem | None = None
    windows: WindowsFound | None = None
    """A Windows system that can be converted; what follows is another process's."""
    refused: Failure | None = None
    """The last line of a conversion that cannot be done."""
