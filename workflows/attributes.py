"""The search attributes of a migration: what lists can be filtered by. All are keywords.

SQL visibility allows ten keywords a namespace, so these are chosen sparingly.
"""

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from hyperctl.workflows.rehearsal import RehearsalRequest
from hyperctl.workflows.request import MigrationRequest
from hyperctl.workflows.status import JobStatus

STATUS = SearchAttributeKey.for_keyword("Status")
PHASE = SearchAttributeKey.for_keyword("Phase")
PRIORITY = SearchAttributeKey.for_keyword("Priority")
VM_NAME = SearchAttributeKey.for_keyword("VmName")
VCENTER = SearchAttributeKey.for_keyword("VCenter")
"""`NO_VCENTER` where the source is a file."""
ESXI_HOST = SearchAttributeKey.for_keyword("EsxiHost")
TARGET_HOST = SearchAttributeKey.for_keyword("TargetHost")
BATCH_ID = SearchAttributeKey.for_keyword("BatchId")
REQUESTED_BY = SearchAttributeKey.for_keyword("RequestedBy")

NO_VCENTER = "file"

ALL_ATTRIBUTES = (
    STATUS,
    PHASE,
    PRIORITY,
    VM_NAME,
    VCENTER,
    ESXI_HOST,
    TARGET_HOST,
    BATCH_ID,
    REQUESTED_BY,
)


def at_start(request: MigrationRequest | RehearsalRequest, batch_id: str = "") -> TypedSearchAttributes:
    """Set when a job is started, so that lists know one that no worker has taken yet."""
    values = {
        STATUS: str(JobStatus.PENDING),
        PRIORITY: str(request.priority),
        VM_NAME: request.name,
        VCENTER: request.vcenter.server if request.vcenter else NO_VCENTER,
        REQUESTED_BY: request.requested_by,
        BATCH_ID: batch_id,
    }
    return TypedSearchAttributes([SearchAttributePair(key, value) for key, value in values.items() if value])


def quoted(text: str) -> str:
    """A value as a list's query takes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
