"""`ImportWorkflow`: define the libvirt domain of a job that ended after its conversion."""

import pydantic
from temporalio import workflow

from hyperctl.workflows.contract import IMPORT_DOMAIN, ImportInput, ImportResult
from hyperctl.workflows.control import ImportRequest
from hyperctl.workflows.request import Priority
from hyperctl.workflows.retry import RetryPolicy
from hyperctl.workflows.steps import StepFailed, StepRunner


@workflow.defn(name="ImportWorkflow", failure_exception_types=[pydantic.ValidationError])
class ImportWorkflow:
    """Its workflow id is `import-JOB`."""

    @workflow.run
    async def run(self, request: ImportRequest) -> ImportResult:
        runner = StepRunner(RetryPolicy(max_retries=0), Priority.NORMAL, lambda: None)
        try:
            return await runner.activity(
                IMPORT_DOMAIN,
                ImportInput(
                    job_id=request.job_id,
                    machine=request.machine,
                    domain_name=request.domain_name or request.machine.name,
                    disks=request.disks,
                    guest=request.guest,
                    network_map=request.network_map,
                    start=request.start,
                    hardware=request.hardware,
                ),
                host=request.host,
                summary=f"define the libvirt domain {request.domain_name or request.machine.name}",
            )
        except StepFailed as failed:
            raise failed.as_error() from failed
