"""`InventoryWorkflow`: one page of what a vCenter holds."""

import pydantic
from temporalio import workflow

from hyperctl.workflows.contract import READ_INVENTORY, ReadInventoryInput
from hyperctl.workflows.inventory import InventoryPage, InventoryRequest
from hyperctl.workflows.request import Priority
from hyperctl.workflows.steps import tried_once


@workflow.defn(name="InventoryWorkflow", failure_exception_types=[pydantic.ValidationError])
class InventoryWorkflow:
    """Short. A page is far below what Temporal takes in one message; clients ask for the next."""

    @workflow.run
    async def run(self, request: InventoryRequest) -> InventoryPage:
        with tried_once(Priority.HIGH) as steps:
            return await steps.activity(
                READ_INVENTORY,
                ReadInventoryInput(request=request),
                host=request.host,
                summary=f"list the machines in {request.vcenter.server}",
            )
