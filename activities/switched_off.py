"""A job's record that it has switched its source off, so that it is switched on again, and nobody else's is.

It is written before the guest is asked and lies apart from the copy, which may be deleted before the machine
is powered on.
"""

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import write_atomically
from hyperctl.activities.vsphere.hardware import SourceMachine

FOLDER = "switched-off"


class SwitchedOff(BaseModel):
    """That, when and in which run of the machine a job has begun to switch it off."""

    model_config = ConfigDict(frozen=True)

    uuid: str
    moref: str
    last_start: str
    """What the vCenter says of its last start. After another one, this record is of the past."""
    begun_at: datetime
    asked: bool | None = None
    """Whether its guest was asked to shut down; None while that is under way."""

    @classmethod
    def beginning(cls, source: SourceMachine) -> "SwitchedOff":
        machine = source.machine
        return cls(
            uuid=machine.uuid, moref=machine.moref, last_start=source.last_start, begun_at=datetime.now(UTC)
        )

    def is_about(self, source: SourceMachine) -> bool:
        """Whether the machine has not been started since."""
        machine = source.machine
        return (self.uuid, self.moref, self.last_start) == (machine.uuid, machine.moref, source.last_start)

    def left_seconds(self, timeout_seconds: float) -> float:
        """What is left of the time that its guest was given."""
        return max(0.0, timeout_seconds - (datetime.now(UTC) - self.begun_at).total_seconds())


class SwitchedOffRecord:
    """`WORK_DIR/switched-off/JOB.json`."""

    def __init__(self, settings: HostSettings, job_id: str) -> None:
        self._path = settings.work_dir / FOLDER / f"{job_id}.json"

    def read(self, source: SourceMachine) -> SwitchedOff | None:
        """What is recorded of this machine in its present run; None where nothing is."""
        try:
            found = SwitchedOff.model_validate_json(self._path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return found if found.is_about(source) else None

    def write(self, what: SwitchedOff) -> None:
        """Durable on return."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self._path, what.model_dump_json().encode())

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)
