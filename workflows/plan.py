"""What will be done: the outcome of the read-only preflight."""

from pydantic import BaseModel, ConfigDict, Field, computed_field

from hyperctl.workflows.errors import Failure
from hyperctl.workflows.machine import Machine


class SourcePlan(BaseModel):
    """What the source side says. `machine` is missing when it could not be read."""

    model_config = ConfigDict(frozen=True)

    host: str
    """The worker host that looked, on which all further work runs."""
    machine: Machine | None = None
    transport: str = "nfc"
    transport_reason: str = ""
    """Why this one, in a sentence."""
    problems: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()


class TargetPlan(BaseModel):
    """What the target host says."""

    model_config = ConfigDict(frozen=True)

    output_dir: str
    """The folder under which everything of this host's migrations lives, as resolved there."""
    acceleration: str = ""
    free_bytes: int = 0
    needed_bytes: int = 0
    """For what the disks hold now."""
    most_bytes: int = 0
    """For disks that fill up while they are copied."""
    staged_bytes: int = 0
    """What an earlier try of this job has left here to go on from."""
    domain_name: str = ""
    """Empty where none is to be defined."""
    networks: dict[str, str] = Field(default_factory=dict)
    """vSphere's network to libvirt's, or `bridge:NAME`, for every NIC."""
    problems: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()


class MigrationPlan(BaseModel):
    """Both sides agreed: nothing stands against the migration."""

    model_config = ConfigDict(frozen=True)

    host: str
    machine: Machine
    transport: str
    transport_reason: str = ""
    output_dir: str
    acceleration: str
    domain_name: str
    staged_bytes: int = 0
    """What an earlier try of this job has left on the host to go on from."""
    warnings: tuple[str, ...] = ()


class Preflight(BaseModel):
    """What `PlanWorkflow` returns: both sides as they are now, and everything that stands against it."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    """Of the migration that was looked into, which need not have been started."""
    vm_name: str
    source: SourcePlan
    target: TargetPlan
    problems: tuple[Failure, ...] = ()
    """Of both sides together, and of other jobs."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def possible(self) -> bool:
        """Whether the migration could begin now."""
        return not self.problems and self.source.machine is not None

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.source.warnings + self.target.warnings
