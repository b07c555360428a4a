"""What a running migration can be told, and what the short helper workflows are asked."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from hyperctl.workflows.disk import OutputDisk
from hyperctl.workflows.guest import GuestSystem
from hyperctl.workflows.hardware import Hardware
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.request import Name

_NOT_IN_A_NAME = re.compile(r"[/\x00-\x1f\x7f]")


def domain_name_problem(name: str) -> str:
    """What libvirt would not take of a domain's name; empty where it would."""
    if not name.strip():
        return "a domain's name must not be empty"
    if name != name.strip():
        return "a domain's name must not begin or end with a space"
    if _NOT_IN_A_NAME.search(name):
        return "libvirt takes no slash and no control character in a domain's name"
    return ""


def _usable_as_domain_name(name: str) -> str:
    problem = domain_name_problem(name)
    if problem:
        raise ValueError(problem)
    return name


DomainName = Annotated[Name, AfterValidator(_usable_as_domain_name)]


class CancelRequest(BaseModel):
    """The argument of the signal `cancel`; may be left out. Unknown fields are let pass."""

    model_config = ConfigDict(frozen=True)

    discard: bool = False
    """Also delete the disks that were copied; otherwise they stay for a later retry."""
    reason: str = ""
    hosts: tuple[Name, ...] = ()
    """With `discard`: where earlier runs of the job may have left something, if the client knows."""

    @classmethod
    def read(cls, argument: object) -> "CancelRequest":
        """Whatever was sent, it is a cancel. What cannot be read of it asks for nothing more."""
        try:
            return cls.model_validate({} if argument is None else argument)
        except ValidationError:
            fields = argument if isinstance(argument, dict) else {}
            reason = fields.get("reason")
            return cls(reason=reason if isinstance(reason, str) else "")


class DiscardRequest(BaseModel):
    """The argument of `DiscardWorkflow`: delete what an ended job has left on one host."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    job_id: Name
    host: Name
    output_dir: str = ""
    """A place to look in beside those that the host has on record."""
    images_dir: str = ""
    """The folder of a completed migration's images, where these are to be deleted, too."""
    look_only: bool = False
    """Delete nothing, only say what is there."""


class ImportRequest(BaseModel):
    """The argument of `ImportWorkflow`: define the domain of a job that ended after its conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: Name
    """The target host that holds the disks."""
    job_id: Name
    machine: Machine
    domain_name: DomainName | None = None
    """The VM's own, with what libvirt does not take replaced, when missing."""
    disks: tuple[OutputDisk, ...]
    guest: GuestSystem | None = None
    network_map: dict[str, str] = Field(default_factory=dict)
    start: bool = False
    hardware: Hardware = Hardware()
    """The same that the guest was converted for."""


class LogsRequest(BaseModel):
    """The argument of `LogsWorkflow`: read a piece of a job's log on the host that wrote it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    job_id: Name
    host: Name
    offset: int = 0
    wait_seconds: float = Field(default=0.0, ge=0, le=30)
