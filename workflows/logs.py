"""`LogsWorkflow`: read a piece of a job's log from the host that wrote it."""

import pydantic
from temporalio import workflow

from hyperctl.workflows.contract import READ_LOG, ReadLogInput, ReadLogResult
from hyperctl.workflows.control import LogsRequest
from hyperctl.workflows.request import Priority


@workflow.defn(name="LogsWorkflow", failure_exception_types=[pydantic.ValidationError])
class LogsWorkflow:
    """Short; clients give it an execution timeout, for the case that the host has no worker."""

    @workflow.run
    async def run(self, request: LogsRequest) -> ReadLogResult:
        return await READ_LOG.start(
            ReadLogInput(job_id=request.job_id, offset=request.offset, wait_seconds=request.wait_seconds),
            host=request.host,
            summary=f"read the log of {request.job_id}",
            priority=Priority.HIGH,
        )
