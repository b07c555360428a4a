"""What has happened: the answer to the `status` query, live progress, and the result."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from hyperctl.workflows.disk import LandedDisk, OutputDisk, VerifiedDisk
from hyperctl.workflows.errors import Failure
from hyperctl.workflows.guest import BootProof, GuestSystem, Outcome, Step, StepOutcome
from hyperctl.workflows.leftover import HostLeftovers
from hyperctl.workflows.plan import MigrationPlan
from hyperctl.workflows.rehearsal import Rehearsed
from hyperctl.workflows.request import Priority
from hyperctl.workflows.source import PreparedSource


class JobKind(StrEnum):
    """What a job is for."""

    MIGRATION = "migration"
    REHEARSAL = "rehearsal"

    @property
    def workflow_type(self) -> str:
        """By which Temporal's lists tell them apart."""
        return {JobKind.MIGRATION: "MigrationWorkflow", JobKind.REHEARSAL: "RehearsalWorkflow"}[self]


class JobStatus(StrEnum):
    """A job's state in one word."""

    PENDING = "pending"
    QUEUED = "queued"
    EXPORTING = "exporting"
    EXPORTED = "exported"
    VERIFYING = "verifying"
    CONVERTING = "converting"
    PROVING = "proving"
    IMPORTING = "importing"
    REHEARSING = "rehearsing"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class Phase(StrEnum):
    """The steps of a job, in their order; `PHASES` says which a job of a kind has."""

    PLAN = "plan"
    ADMIT = "admit"
    EXPORT = "export"
    VERIFY = "verify"
    CONVERT = "convert"
    PROVE = "prove"
    IMPORT = "import"
    CLEANUP = "cleanup"
    REHEARSE = "rehearse"


PHASES = {
    JobKind.MIGRATION: tuple(phase for phase in Phase if phase is not Phase.REHEARSE),
    JobKind.REHEARSAL: (Phase.PLAN, Phase.ADMIT, Phase.REHEARSE),
}


class PhaseState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


class PhaseRecord(BaseModel):
    """When one phase ran and how it ended."""

    phase: Phase
    state: PhaseState = PhaseState.WAITING
    started_at: datetime | None = None
    finished_at: datetime | None = None


class DiskProgress(BaseModel):
    """How far one disk is, in bytes of the disk itself, never of the compressed stream."""

    model_config = ConfigDict(frozen=True)

    index: int
    name: str
    done_bytes: int
    total_bytes: int
    """What will be done in all; an estimate where `total_is_estimate`."""
    total_is_estimate: bool = False
    """A stream is read whose end is not known."""
    rate_bytes_per_second: float = 0.0
    """Over the last ten seconds."""
    eta_seconds: float | None = None
    finished: bool = False


class Progress(BaseModel):
    """What a running activity last said of itself; it travels as the heartbeat's details."""

    model_config = ConfigDict(frozen=True)

    phase: Phase
    message: str = ""
    disks: tuple[DiskProgress, ...] = ()
    overall: DiskProgress | None = None
    """All disks together, with a rate of its own; its index is 0."""
    steps: tuple[StepOutcome, ...] = ()
    current_step: str = ""
    log_file: str = ""


class RetryWait(BaseModel):
    """A pause before a step is tried again; `retry_now` ends it early."""

    retry: int
    max_retries: int
    next_attempt_at: datetime
    failure: Failure


class SpaceWait(BaseModel):
    """The job is paused because its target host has no room; `resume` or `retry_now` end it early."""

    failure: Failure
    since: datetime
    tries: int
    """How often it has been tried again in vain."""
    next_attempt_at: datetime


class Modifications(BaseModel):
    """The seed's summary of what was changed in the guest."""

    model_config = ConfigDict(frozen=True)

    virtio_drivers: bool
    bootloader_updated: bool
    network_fixed: bool
    fstab_updated: bool

    @classmethod
    def from_steps(cls, steps: tuple[StepOutcome, ...]) -> "Modifications":
        done = {step.step for step in steps if step.outcome is Outcome.DONE}
        return cls(
            virtio_drivers=bool({Step.VIRTIO, Step.REBUILD} & done),
            bootloader_updated=Step.BOOTLOADER in done,
            network_fixed=Step.NETWORK in done,
            fstab_updated=Step.FSTAB in done,
        )


class MigrationStatus(BaseModel):
    """Everything a client may want to know of a migration or a rehearsal, at any moment."""

    kind: JobKind = JobKind.MIGRATION
    job_id: str
    vm_name: str
    vcenter: str
    """Empty where the source is a file."""
    source_file: str = ""
    """Its path on the target host; empty where the source is a vCenter."""
    status: JobStatus = JobStatus.PENDING
    phase: Phase = Phase.PLAN
    priority: Priority = Priority.NORMAL
    paused: bool = False
    paused_reason: str = ""
    """Why, in words, while it is paused."""
    space_wait: SpaceWait | None = None
    bandwidth_bytes_per_second: int | None = None
    """The cap of the copy, as it is now."""
    host: str = ""
    to_libvirt: bool = False
    requested_by: str = ""
    tags: tuple[str, ...] = ()
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None = None
    phases: list[PhaseRecord] = Field(default_factory=list)
    plan: MigrationPlan | None = None
    source: PreparedSource | None = None
    """What was done to a source that was running."""
    landed: tuple[LandedDisk, ...] = ()
    verified: tuple[VerifiedDisk, ...] = ()
    guest: GuestSystem | None = None
    steps: tuple[StepOutcome, ...] = ()
    proof: BootProof | None = None
    rehearsed: Rehearsed | None = None
    """What came of a rehearsal."""
    outputs: tuple[OutputDisk, ...] = ()
    output_dir: str = ""
    domain: str = ""
    progress: Progress | None = None
    """The running activity's last word. The client fills it from Temporal's own record; see `client.sdk`."""
    retry: RetryWait | None = None
    retry_count: int = 0
    failures: tuple[Failure, ...] = ()
    not_undone: tuple[str, ...] = ()
    """What a cancel or failure should have put back and could not."""
    warnings: tuple[str, ...] = ()
    """What was noticed on the way, beside what the plan and the steps say."""
    leftovers: tuple[HostLeftovers, ...] = ()
    """After a cancel or failure: what each host that was asked says is there, and what it has deleted."""
    notes: tuple[str, ...] = ()
    """Why nothing moves, in words: no worker, no free slot. The client fills it, as it does `progress`."""

    @property
    def origin(self) -> str:
        """Where the machine comes from, for people: a server or a path."""
        return self.source_file or self.vcenter

    def record(self, phase: Phase) -> PhaseRecord:
        return next(record for record in self.phases if record.phase is phase)


class MigrationResult(BaseModel):
    """What a completed migration returns."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    vm_name: str
    status: JobStatus
    host: str
    output_dir: str
    disks: tuple[OutputDisk, ...]
    landed: tuple[LandedDisk, ...]
    verified: tuple[VerifiedDisk, ...] = ()
    """Empty where verification was left out."""
    guest: GuestSystem
    steps: tuple[StepOutcome, ...]
    modifications: Modifications
    proof: BootProof | None
    domain: str = ""
    """The libvirt domain's name, where one was defined."""
    domain_uuid: str = ""
    memory_bytes: int
    vcpus: int
    firmware: str
    source_capacity_bytes: int
    received_bytes: int
    started_at: datetime
    completed_at: datetime
    duration_seconds: float
    warnings: tuple[str, ...] = ()
