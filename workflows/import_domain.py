"""`ImportWorkflow`: define the libvirt domain of a job that ended after its conversion."""

import pydantic
from temporalio import workflow

from hyperctl.workflows.contract import IMPORT_DOMAIN, ImportInput, ImportResult
from hyperctl.workflows.control import ImportRequest
from hyperctl.workflows.request import Priority
from hyperctl.workflows.steps import tried_once


@workflow.defn(name="ImportWorkflow", failure_exception_types=[pydantic.ValidationError])
class ImportWorkflow:
    """Its workflow id is `import-JOB`."""

    @workflow.run
    async def run(self, request: ImportRequest) -> ImportResult:
        with tried_once(Priority.NORMAL) as steps:
            return await steps.activity(
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
