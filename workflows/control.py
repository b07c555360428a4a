"""What a running migration can be told, and what the short helper workflows are asked."""

from pydantic import BaseModel, ConfigDict, Field

from hyperctl.workflows.disk import OutputDisk
from hyperctl.workflows.guest import GuestSystem
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.request import Name


class CancelRequest(BaseModel):
    """The argument of the signal `cancel`; may be left out.

    Unknown fields are let pass: a signal that cannot be read is dropped, and a cancel must not be.
    """

    model_config = ConfigDict(frozen=True)

    discard: bool = False
    """Also delete the disks that were copied; otherwise they stay for a later retry."""
    reason: str = ""


class ImportRequest(BaseModel):
    """The argument of `ImportWorkflow`: define the domain of a job that ended after its conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Name
    """The target host that holds the disks."""
    job_id: Name
    machine: Machine
    domain_name: Name
    disks: tuple[OutputDisk, ...]
    guest: GuestSystem | None = None
    network_map: dict[str, str] = Field(default_factory=dict)
    start: bool = False


class LogsRequest(BaseModel):
    """The argument of `LogsWorkflow`: read a piece of a job's log on the host that wrote it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_id: Name
    host: Name
    offset: int = 0
    wait_seconds: float = Field(default=0.0, ge=0, le=30)
