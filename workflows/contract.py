"""The activities a workflow may call: typed stubs, their inputs and their results.

A stub is what a workflow calls; the implementation in `hyperctl.activities` registers under the stub's
name. Every activity takes one `...Input` and returns one `...Result`, so that fields can be added.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict
from temporalio import workflow
from temporalio.common import Priority as TemporalPriority
from temporalio.common import RetryPolicy as TemporalRetryPolicy

from hyperctl.workflows.disk import ConvertedDisk, LandedDisk, OutputDisk, VerifiedDisk
from hyperctl.workflows.errors import Failure
from hyperctl.workflows.guest import BootProof, GuestSystem, Outcome, Step, StepOutcome
from hyperctl.workflows.hardware import Hardware
from hyperctl.workflows.inventory import InventoryPage, InventoryRequest
from hyperctl.workflows.leftover import Leftover
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.plan import SourcePlan, TargetPlan
from hyperctl.workflows.queues import Role, task_queue
from hyperctl.workflows.rehearsal import RehearsalPlan, RehearsalRequest, Rehearsed
from hyperctl.workflows.request import (
    DiskFormat,
    FileSource,
    Fixers,
    InitramfsWay,
    MigrationRequest,
    Priority,
    RunningSource,
    TransportChoice,
    VCenter,
    VerifyMode,
)
from hyperctl.workflows.source import PreparedSource
from hyperctl.workflows.status import MigrationResult

InputT = TypeVar("InputT", bound=BaseModel)
ResultT = TypeVar("ResultT", bound=BaseModel)

_UNLIMITED = timedelta(days=3650)
_INFRASTRUCTURE_RETRY = TemporalRetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=0,
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class PlanSourceInput(_Frozen):
    job_id: str
    request: MigrationRequest


class PlanTargetInput(_Frozen):
    job_id: str
    request: MigrationRequest
    machine: Machine | None
    """None when the source could not be read; the target is then checked as far as it can be."""


class ReadInventoryInput(_Frozen):
    request: InventoryRequest


class PrepareSourceInput(_Frozen):
    job_id: str
    vcenter: VCenter
    machine: Machine
    output_dir: str
    running: RunningSource
    format: DiskFormat = DiskFormat.RAW


class RemoveSnapshotInput(_Frozen):
    """Remove what `prepare_source` has made for this job, found by its name."""

    job_id: str
    vcenter: VCenter
    machine: Machine


class PowerOnSourceInput(_Frozen):
    """Power the source on again, if it was this job that switched it off."""

    job_id: str
    vcenter: VCenter
    machine: Machine
    switched_off: bool
    """It is known that it was; otherwise the record on the host decides."""
    running: RunningSource


class PutBackResult(_Frozen):
    """The source is as it was, but for what the warnings say."""

    warnings: tuple[str, ...] = ()


class ExportInput(_Frozen):
    job_id: str
    vcenter: VCenter | None = None
    file: FileSource | None = None
    """In place of a vCenter."""
    machine: Machine
    transport: str
    output_dir: str
    format: DiskFormat = DiskFormat.RAW
    connections: int = 4
    bandwidth_bytes_per_second: int | None = None
    bandwidth_revision: int = 0
    """How often the workflow's run had changed the cap by then."""
    snapshot: str = ""
    """The reference of the snapshot to copy, `snapshot-123`; empty: the machine as it is, which is off."""
    copied: bool = False
    """All of the snapshot is here by an earlier attempt; it may be gone in the vCenter."""

    @property
    def source_vcenter(self) -> VCenter:
        """For the transports that read from one."""
        assert self.vcenter is not None, f"the transport {self.transport} was planned without a vCenter"
        return self.vcenter


class SetBandwidthInput(_Frozen):
    job_id: str
    output_dir: str
    bytes_per_second: int | None
    """None lifts the cap."""
    revision: int
    """Counts the changes of a run; an older one does not undo a newer."""


class ExportResult(_Frozen):
    disks: tuple[LandedDisk, ...]
    duration_seconds: float


class VerifyInput(_Frozen):
    job_id: str
    output_dir: str
    disks: tuple[LandedDisk, ...]
    mode: VerifyMode


class VerifyResult(_Frozen):
    disks: tuple[VerifiedDisk, ...] = ()
    """What was proved of each, and by what."""
    duration_seconds: float


class ConvertInput(_Frozen):
    job_id: str
    output_dir: str
    machine: Machine
    disks: tuple[LandedDisk, ...]
    fix: Fixers
    initramfs: InitramfsWay = InitramfsWay.AUTO
    serial_console: bool = False
    guest_packages: str | None = None
    hardware: Hardware = Hardware()


class ConvertResult(_Frozen):
    disks: tuple[ConvertedDisk, ...]
    guest: GuestSystem
    steps: tuple[StepOutcome, ...]
    duration_seconds: float
    initramfs: InitramfsWay = InitramfsWay.AUTO
    """What was asked for, as are the next two: a conversion for other hardware is another one."""
    serial_console: bool = False
    guest_packages: str | None = None
    hardware: Hardware = Hardware()

    @property
    def may_rebuild(self) -> bool:
        """Whether an initramfs by the guest's own tool is left to try, where the way was left open.

        Not where it has made one, nor where drivers were left out as asked.
        """
        tried = (Outcome.DONE, Outcome.SKIPPED)
        return not any(one.step is Step.REBUILD and one.outcome in tried for one in self.steps)


class ProveInput(_Frozen):
    job_id: str
    output_dir: str
    machine: Machine
    disks: tuple[ConvertedDisk, ...]
    mode: str
    hardware: Hardware = Hardware()
    may_rebuild: bool = False
    """A boot that finds no root device is an answer, not a failure: the initramfs can still be rebuilt."""


class ProveResult(_Frozen):
    proof: BootProof
    duration_seconds: float


class CommitInput(_Frozen):
    job_id: str
    output_dir: str
    vm_name: str
    date: str
    """`2026-01-17`, the day the migration was started, in UTC."""
    disks: tuple[ConvertedDisk, ...]


class CommitResult(_Frozen):
    folder: str
    """`OUTPUT_DIR/DATE/VM`; `VM~2` and so on where the same job has been done before on that day."""
    disks: tuple[OutputDisk, ...]


class ImportInput(_Frozen):
    job_id: str
    machine: Machine
    domain_name: str
    disks: tuple[OutputDisk, ...]
    guest: GuestSystem | None
    network_map: dict[str, str]
    start: bool
    hardware: Hardware = Hardware()


class ImportResult(_Frozen):
    domain: str
    domain_uuid: str
    started: bool
    warnings: tuple[str, ...] = ()


class CleanUpInput(_Frozen):
    job_id: str
    output_dir: str
    folder: str
    result: MigrationResult
    """Kept in the output folder as `migration.json`."""


class PlanRehearsalInput(_Frozen):
    job_id: str
    request: RehearsalRequest


class RehearseInput(_Frozen):
    job_id: str
    request: RehearsalRequest
    machine: Machine
    output_dir: str
    transport: TransportChoice = TransportChoice.DATASTORE
    """One that reads anywhere in a disk."""
    snapshot: str = ""
    """The reference of the snapshot to read; empty: the machine as it is, which is off."""


class DiscardInput(_Frozen):
    """For the undos: what a step may have left behind on its host."""

    job_id: str
    output_dir: str = ""
    """A place to look in beside those that the host has on record."""
    domain_name: str = ""
    images_dir: str = ""
    """The folder of a completed migration's images, where these are meant too."""


class DiscardResult(_Frozen):
    removed: tuple[Leftover, ...] = ()
    left: tuple[Leftover, ...] = ()


class RequireEndedInput(_Frozen):
    job_id: str


class FindRivalInput(_Frozen):
    job_id: str
    server: str
    machine: Machine


class RecordFailureInput(_Frozen):
    job_id: str
    output_dir: str
    vm_name: str
    phase: str
    failures: tuple[Failure, ...]


class RecordFailureResult(_Frozen):
    error_file: str


class Nothing(_Frozen):
    """The result of an activity that has nothing to tell."""


class ReadLogInput(_Frozen):
    job_id: str
    offset: int = 0
    """In bytes of the job's log; negative counts lines from its end (`-50` is the last 50 lines)."""
    wait_seconds: float = 0.0
    """How long to wait for something new where nothing is there yet."""


class ReadLogResult(_Frozen):
    text: str
    next_offset: int


@dataclass(frozen=True, slots=True)
class Activity(Generic[InputT, ResultT]):
    """A typed way to call one activity."""

    name: str
    role: Role
    input_type: type[InputT]
    result_type: type[ResultT]
    heartbeat_timeout: timedelta | None = timedelta(seconds=30)
    """None for one so short that its end is its only sign of life."""
    start_to_close_timeout: timedelta = _UNLIMITED
    schedule_to_close_timeout: timedelta | None = None
    """For one that is done without when nobody is there to do it."""

    def start(
        self, argument: InputT, *, host: str | None, summary: str, priority: Priority
    ) -> workflow.ActivityHandle[ResultT]:
        """Schedule it on the role's queue, of the host where one is given.

        A cancelled activity is waited for: what undoes it must not run beside it.
        """
        return workflow.start_activity(
            self.name,
            argument,
            result_type=self.result_type,
            task_queue=task_queue(self.role, host),
            start_to_close_timeout=self.start_to_close_timeout,
            heartbeat_timeout=self.heartbeat_timeout,
            schedule_to_close_timeout=self.schedule_to_close_timeout,
            retry_policy=_INFRASTRUCTURE_RETRY,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=summary,
            priority=TemporalPriority(priority_key=priority.temporal_key),
        )


PLAN_SOURCE = Activity("plan_source", Role.EXPORT, PlanSourceInput, SourcePlan)
PREVIEW_SOURCE = Activity("preview_source", Role.SOURCE, PlanSourceInput, SourcePlan)
"""`plan_source` for who only asks, and must not wait behind copies."""
PLAN_TARGET = Activity("plan_target", Role.IMPORT, PlanTargetInput, TargetPlan)
READ_INVENTORY = Activity("read_inventory", Role.SOURCE, ReadInventoryInput, InventoryPage)
PREPARE_SOURCE = Activity("prepare_source", Role.EXPORT, PrepareSourceInput, PreparedSource)
REMOVE_SNAPSHOT = Activity("remove_snapshot", Role.SOURCE, RemoveSnapshotInput, PutBackResult)
POWER_ON_SOURCE = Activity("power_on_source", Role.SOURCE, PowerOnSourceInput, PutBackResult)
EXPORT_DISKS = Activity("export_disks", Role.EXPORT, ExportInput, ExportResult)
VERIFY_DISKS = Activity("verify_disks", Role.VERIFY, VerifyInput, VerifyResult)
CONVERT_GUEST = Activity("convert_guest", Role.CONVERT, ConvertInput, ConvertResult)
PROVE_BOOT = Activity("prove_boot", Role.CONVERT, ProveInput, ProveResult)
COMMIT_CONVERSION = Activity("commit_conversion", Role.CONVERT, CommitInput, CommitResult)
IMPORT_DOMAIN = Activity("import_domain", Role.IMPORT, ImportInput, ImportResult)
CLEAN_UP = Activity("clean_up", Role.CONVERT, CleanUpInput, Nothing)
PLAN_REHEARSAL = Activity("plan_rehearsal", Role.REHEARSE, PlanRehearsalInput, RehearsalPlan)
TAKE_SNAPSHOT = Activity("take_snapshot", Role.REHEARSE, PrepareSourceInput, PreparedSource)
REHEARSE = Activity("rehearse", Role.REHEARSE, RehearseInput, Rehearsed)
DISCARD_CONVERSION = Activity("discard_conversion", Role.CONVERT, DiscardInput, Nothing)
DISCARD_COPY = Activity("discard_copy", Role.CONTROL, DiscardInput, DiscardResult)
TAKE_STOCK = Activity(
    "take_stock", Role.CONTROL, DiscardInput, DiscardResult, schedule_to_close_timeout=timedelta(seconds=20)
)
REQUIRE_ENDED = Activity("require_ended", Role.CONTROL, RequireEndedInput, Nothing, heartbeat_timeout=None)
FIND_RIVAL = Activity("find_rival", Role.CONTROL, FindRivalInput, Nothing, heartbeat_timeout=None)
REMOVE_DOMAIN = Activity("remove_domain", Role.IMPORT, DiscardInput, Nothing)
RECORD_FAILURE = Activity("record_failure", Role.CONVERT, RecordFailureInput, RecordFailureResult)
READ_LOG = Activity("read_log", Role.CONTROL, ReadLogInput, ReadLogResult)
SET_BANDWIDTH = Activity(
    "set_bandwidth",
    Role.CONTROL,
    SetBandwidthInput,
    Nothing,
    heartbeat_timeout=None,
    start_to_close_timeout=timedelta(seconds=20),
    schedule_to_close_timeout=timedelta(seconds=60),
)

ALL_ACTIVITIES = (
    PLAN_SOURCE,
    PREVIEW_SOURCE,
    PLAN_TARGET,
    READ_INVENTORY,
    PREPARE_SOURCE,
    REMOVE_SNAPSHOT,
    POWER_ON_SOURCE,
    EXPORT_DISKS,
    VERIFY_DISKS,
    CONVERT_GUEST,
    PROVE_BOOT,
    COMMIT_CONVERSION,
    IMPORT_DOMAIN,
    CLEAN_UP,
    PLAN_REHEARSAL,
    TAKE_SNAPSHOT,
    REHEARSE,
    DISCARD_CONVERSION,
    DISCARD_COPY,
    TAKE_STOCK,
    REQUIRE_ENDED,
    FIND_RIVAL,
    REMOVE_DOMAIN,
    RECORD_FAILURE,
    READ_LOG,
    SET_BANDWIDTH,
)
