"""The search attributes of a migration: what lists can be filtered by. All are keywords.

SQL visibility allows ten keywords a namespace, so these are chosen sparingly.
"""

from temporalio.common import SearchAttributeKey

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
