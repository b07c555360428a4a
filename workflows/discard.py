"""`DiscardWorkflow`: delete what a job that has ended has left on a host, or only say what that is."""

import pydantic
from temporalio import workflow

from hyperctl.workflows.contract import (
    DISCARD_COPY,
    REQUIRE_ENDED,
    TAKE_STOCK,
    DiscardInput,
    RequireEndedInput,
)
from hyperctl.workflows.control import DiscardRequest
from hyperctl.workflows.leftover import HostLeftovers
from hyperctl.workflows.request import Priority
from hyperctl.workflows.steps import tried_once


@workflow.defn(name="DiscardWorkflow", failure_exception_types=[pydantic.ValidationError])
class DiscardWorkflow:
    """Its workflow id is `discard-JOB`."""

    @workflow.run
    async def run(self, request: DiscardRequest) -> HostLeftovers:
        what = DiscardInput(
            job_id=request.job_id, output_dir=request.output_dir, images_dir=request.images_dir
        )
        with tried_once(Priority.HIGH) as steps:
            if not request.look_only:
                await steps.activity(
                    REQUIRE_ENDED,
                    RequireEndedInput(job_id=request.job_id),
                    host=request.host,
                    summary=f"see that {request.job_id} has ended",
                )
            found = await steps.activity(
                TAKE_STOCK if request.look_only else DISCARD_COPY,
                what,
                host=request.host,
                summary=f"{'look at' if request.look_only else 'delete'} what {request.job_id} has left",
            )
        return HostLeftovers(host=request.host, removed=found.removed, left=found.left)
