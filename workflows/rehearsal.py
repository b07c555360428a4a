"""A rehearsal: what is asked, and what was found over a machine's disks where they are."""

from datetime import datetime
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hyperctl.workflows.errors import Failure
from hyperctl.workflows.estimate import Estimate
from hyperctl.workflows.guest import BootProof, GuestSystem, StepOutcome
from hyperctl.workflows.identity import derive_file_rehearsal_id, derive_rehearsal_id
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.request import (
    MigrationRequest,
    ProveMode,
    RunningSource,
    SourceRequest,
    TransportChoice,
    WhenRunning,
)

MOST_REHEARSALS = 1000
"""In one batch: what is asked travels in one message of Temporal's."""
VERDICT_MEMO = "verdict"
REASON_MEMO = "reason"
"""What lists of Temporal's show of a rehearsal that has ended."""


class Verdict(StrEnum):
    """Whether the machine will boot after its migration. The values are stable."""

    BOOTS = "boots"
    DOES_NOT_BOOT = "does_not_boot"
    """Its conversion or its boot proof failed, for a reason of the guest's."""
    NOT_REHEARSED = "not_rehearsed"
    """Something outside the guest was in the way: nothing is known of how it boots."""

    @property
    def words(self) -> str:
        return self.value.replace("_", " ")


class RehearsalRequest(SourceRequest):
    """One VM to rehearse: `vm_name` and `vcenter.server` are needed, or `file.path` alone."""

    @field_validator("prove")
    @classmethod
    def _boots(cls, prove: ProveMode) -> ProveMode:
        if prove is ProveMode.NONE:
            raise ValueError("a rehearsal is a trial boot: full, diff or boot")
        return prove

    @field_validator("running")
    @classmethod
    def _goes_on(cls, running: RunningSource) -> RunningSource:
        if running.action is WhenRunning.SHUTDOWN:
            raise ValueError("a rehearsal never switches its source off: refuse or snapshot")
        return running

    @property
    def job_id(self) -> str:
        if self.file is not None:
            return derive_file_rehearsal_id(self.host, self.file.path, self.vm_name)
        assert self.vcenter is not None, "a request has a file or a vCenter"
        return derive_rehearsal_id(self.vcenter.server, self.vcenter.datacenter, self.name)

    def migration(self) -> MigrationRequest:
        """The migration that is rehearsed, as far as that can be known."""
        return MigrationRequest(**{name: getattr(self, name) for name in SourceRequest.model_fields})


class RehearsalPlan(BaseModel):
    """The outcome of the read-only preflight of both sides."""

    model_config = ConfigDict(frozen=True)

    host: str
    """The worker host that looked, on which the rehearsal runs."""
    machine: Machine | None = None
    """Missing when it could not be read."""
    transport: TransportChoice = TransportChoice.DATASTORE
    transport_reason: str = ""
    """Why that one, in a sentence."""
    output_dir: str = ""
    acceleration: str = ""
    needed_bytes: int = 0
    """Of room, by the migration, as its own preflight counts it."""
    free_bytes: int = 0
    problems: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()
    """Also what stands against the migration and not against its rehearsal."""


class Rehearsed(BaseModel):
    """The outcome of one rehearsal."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    reason: Failure | None = None
    """Why it does not boot, or was not rehearsed; in the words that a migration has for it."""
    guest: GuestSystem | None = None
    steps: tuple[StepOutcome, ...] = ()
    """Of the conversion, as far as it came."""
    proof: BootProof | None = None
    screen: str = ""
    """Of a guest that did not boot: what it showed last, as PNG in base64."""
    warnings: tuple[str, ...] = ()
    estimate: Estimate | None = None
    read_bytes: int = 0
    """Fetched from the source, all disks together."""
    waited_seconds: float = 0.0
    """For the source, of `duration_seconds`."""
    duration_seconds: float = 0.0


class RehearsalResult(Rehearsed):
    """What a rehearsal returns; a client makes the same of one that failed."""

    job_id: str
    vm_name: str
    vcenter: str
    """Empty where it is a file."""
    source_file: str = ""
    host: str = ""
    failures: tuple[Failure, ...] = ()
    """All reasons, where there are several."""
    started_at: datetime
    completed_at: datetime

    @property
    def origin(self) -> str:
        """Where the machine is, for people: a server or a path."""
        return self.source_file or self.vcenter

    @property
    def reasons(self) -> tuple[Failure, ...]:
        return self.failures or ((self.reason,) if self.reason else ())


class RehearsalBatchRequest(BaseModel):
    """The argument of `RehearsalBatchWorkflow`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    rehearsals: tuple[RehearsalRequest, ...] = Field(min_length=1, max_length=MOST_REHEARSALS)
    parallel: int = Field(default=2, ge=1, le=100)
    """So many at a time at most; how many a host takes is its worker's own limit."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        known: set[str] = set()
        for request in self.rehearsals:
            if request.job_id in known:
                raise ValueError(f"{request.name} is there twice")
            known.add(request.job_id)
        return self


class BatchItem(BaseModel):
    """One VM of a batch."""

    job_id: str
    run_id: str = ""
    """Of its rehearsal, once that has been started."""
    vm_name: str
    vcenter: str
    """Or the path of a file."""
    verdict: Verdict | None = None
    """None as long as it waits or is under way."""
    reason: Failure | None = None
    read_bytes: int = 0
    duration_seconds: float = 0.0

    @property
    def is_under_way(self) -> bool:
        return self.verdict is None and bool(self.run_id)


class RehearsalBatchStatus(BaseModel):
    """The answer to a batch's `status` query, and its result."""

    batch_id: str
    parallel: int
    created_at: datetime
    completed_at: datetime | None = None
    cancelled: bool = False
    items: tuple[BatchItem, ...] = ()
    notes: tuple[str, ...] = ()
    """Why nothing moves, in words, as far as the first under way is asked. The client fills it."""
