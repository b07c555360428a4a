"""Names of the task queues: one a role, and one a role on each host.

Disks are large and local, so after planning everything for one VM runs on one host. Every worker
therefore polls the role's shared queue (`export`) and its own (`export@kvm-01`). The names are part of
the public interface: `docs/workflow-api.md`.
"""

from enum import StrEnum

WORKFLOW_QUEUE = "hyperctl"
"""Where workflow tasks go. Every worker polls it, whatever its roles."""


class Role(StrEnum):
    """What a worker can do."""

    EXPORT = "export"
    VERIFY = "verify"
    CONVERT = "convert"
    IMPORT = "import"
    REHEARSE = "rehearse"
    """Rehearsals, from their preflight on: they take no slot that a migration waits for."""
    SOURCE = "source"
    """Putting the source back, or only looking at it: who exports or rehearses has it too, apart, so that it
    waits for neither."""
    CONTROL = "control"
    """Short work that must never wait behind a copy: reading logs. Every worker has it."""


def task_queue(role: Role, host: str | None = None) -> str:
    """The role's shared queue, or with a host its queue on that host."""
    return f"{role}@{host}" if host else str(role)
