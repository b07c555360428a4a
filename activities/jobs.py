"""What Temporal knows of other jobs, asked for from a host: some things must not be done beside them."""

from datetime import datetime, timedelta

from temporalio import activity
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus, WorkflowQueryFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from hyperctl.workflows import attributes
from hyperctl.workflows.contract import FIND_RIVAL, REQUIRE_ENDED, FindRivalInput, Nothing, RequireEndedInput
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.status import JobKind, MigrationStatus, Phase

QUERY_TIMEOUT = timedelta(seconds=5)


class JobActivities:
    """`require_ended` and `find_rival`."""

    @activity.defn(name=REQUIRE_ENDED.name)
    async def require_ended(self, argument: RequireEndedInput) -> Nothing:
        """Raise `JOB_RUNNING` while the job is under way. One that is not known has ended."""
        handle = activity.client().get_workflow_handle(argument.job_id)
        try:
            description = await handle.describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return Nothing()
            raise _again(error) from error
        if description.status is WorkflowExecutionStatus.RUNNING:
            raise HyperctlError(
                ErrorCode.JOB_RUNNING,
                f"{argument.job_id} is under way",
                f"Stop it first: hyperctl cancel --discard --job {argument.job_id}.",
            )
        return Nothing()

    @activity.defn(name=FIND_RIVAL.name)
    async def find_rival(self, argument: FindRivalInput) -> Nothing:
        """Raise `VM_MIGRATING` where another job is migrating the same machine.

        Of two that are both still planning, the one that was started first goes on.
        """
        client = activity.client()
        try:
            others = await _others(client, argument)
            mine = await _begun(client, argument.job_id) if others else None
        except RPCError as error:
            raise _again(error) from error
        for other in others:
            status = await _status(client, other.id)
            # Temporal's lists lag: one that has ended may still be in them as running.
            if status is None or status.status.is_final:
                continue
            if status.plan is None or not _is_same(status.plan.machine, argument.machine):
                continue
            if status.phase is Phase.PLAN and mine and (mine, argument.job_id) < (other.start_time, other.id):
                continue  # it will see us
            raise HyperctlError(
                ErrorCode.VM_MIGRATING,
                f"{argument.machine.name} ({argument.machine.moref} in {argument.machine.datacenter}) "
                f"is being migrated already, by {other.id}",
                f"Follow that one: hyperctl status --follow --job {other.id}.",
            )
        return Nothing()


def _again(error: RPCError) -> ApplicationError:
    """Temporal could not say it now; the activity is tried again."""
    return ApplicationError(f"Temporal does not answer: {error.message}", type="temporal_unreachable")


async def _begun(client: Client, job_id: str) -> datetime | None:
    """When the job was started; None where nobody has, and it is only asked what would be."""
    try:
        return (await client.get_workflow_handle(job_id).describe()).start_time
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def _others(client: Client, argument: FindRivalInput) -> list[WorkflowExecution]:
    """Other open migrations of a VM of that name from that vCenter."""
    name, server = attributes.quoted(argument.machine.name), attributes.quoted(argument.server)
    query = (
        f'WorkflowType = "{JobKind.MIGRATION.workflow_type}" AND ExecutionStatus = "Running" '
        f"AND {attributes.VM_NAME.name} = {name} AND {attributes.VCENTER.name} = {server}"
    )
    return [found async for found in client.list_workflows(query) if found.id != argument.job_id]


async def _status(client: Client, job_id: str) -> MigrationStatus | None:
    """What a job says of itself; None where it has ended in between or nobody answers."""
    try:
        answer: MigrationStatus = await client.get_workflow_handle(job_id).query(
            "status", result_type=MigrationStatus, rpc_timeout=QUERY_TIMEOUT
        )
    except (TimeoutError, RPCError, WorkflowQueryFailedError):
        return None
    return answer


def _is_same(one: Machine, other: Machine) -> bool:
    return (one.moref, one.uuid) == (other.moref, other.uuid)
