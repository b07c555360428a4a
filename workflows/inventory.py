"""What a vCenter holds: the question, its answer in pages, and one machine as it stands in a list."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, computed_field

from hyperctl.workflows.errors import Failure
from hyperctl.workflows.machine import Firmware, PowerState
from hyperctl.workflows.request import Name, VCenter, WhenRunning

Pattern = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]


class InventoryRequest(BaseModel):
    """The argument of `InventoryWorkflow`. A pattern has `*`, `?` and `[...]`, and no case."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    vcenter: VCenter
    """Its `datacenter`: only what is in there."""
    name: Pattern | None = None
    """Of the VMs wanted."""
    folder: Pattern | None = None
    """Of the folder that they are in or below, from the datacenter on: `Production/web`."""
    host: Name | None = None
    """The worker host that looks; any when missing."""
    start: str = ""
    """What the page before had as `next`; empty for the first."""


class ToolsState(StrEnum):
    """VMware's tools in the guest, which `--shutdown` and `--quiesce` need running."""

    RUNNING = "running"
    NOT_RUNNING = "not_running"
    NOT_INSTALLED = "not_installed"
    UNKNOWN = "unknown"

    @property
    def words(self) -> str:
        return self.value.replace("_", " ")


class Readiness(StrEnum):
    """Whether a migration that is asked for with no options could take it from its source now."""

    YES = "yes"
    IF_ASKED = "if_asked"
    """It runs: with what `needs` says."""
    NO = "no"


class InventoryMachine(BaseModel):
    """One VM. What could not be read of it is missing, and `problems` says why."""

    model_config = ConfigDict(frozen=True)

    name: str
    moref: str
    datacenter: str
    folder: str = ""
    """Its path in the datacenter, `Production/web`; empty at the top."""
    esxi_host: str = ""
    power_state: PowerState | None = None
    guest_id: str = ""
    guest_full_name: str = ""
    firmware: Firmware | None = None
    vcpus: int = 0
    memory_bytes: int = 0
    disks: int = 0
    capacity_bytes: int = 0
    """Of all disks together."""
    used_bytes: int = 0
    """What they use on their datastores, an upper bound of what lands."""
    snapshots: int = 0
    networks: tuple[str, ...] = ()
    """vSphere's names, one for each NIC."""
    tools: ToolsState = ToolsState.UNKNOWN
    needs: tuple[WhenRunning, ...] = ()
    """Of one that runs: what may be done to it so that it can be migrated, any of these."""
    problems: tuple[Failure, ...] = ()
    """What stands against it whatever is done; the words are those of the migration's own preflight."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ready(self) -> Readiness:
        if self.problems:
            return Readiness.NO
        return Readiness.IF_ASKED if self.needs else Readiness.YES


class InventoryPage(BaseModel):
    """What `InventoryWorkflow` returns: the machines that fit, by name, as many as one answer takes."""

    model_config = ConfigDict(frozen=True)

    machines: tuple[InventoryMachine, ...] = ()
    next: str = ""
    """To ask for what follows; empty where nothing does."""
    visible: int = 0
    """Machines that the user sees there, before the patterns."""
    fitting: int = 0
    """Of these, those that fit, on all pages."""
