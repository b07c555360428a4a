"""A handle on one migration."""

from temporalio.client import WorkflowExecutionDescription, WorkflowFailureError
from temporalio.exceptions import WorkflowAlreadyStartedError

from hyperctl.client.errors import JobConflict, MigrationCancelled, MigrationFailed, NoWorker
from hyperctl.client.job import Job, failures_of
from hyperctl.client.joblog import require_host
from hyperctl.client.observe import attribute, is_open, job_status, status_without_worker
from hyperctl.client.visibility import hosts_of
from hyperctl.workflows import attributes
from hyperctl.workflows.bandwidth import LOWEST_BYTES_PER_SECOND
from hyperctl.workflows.contract import ImportResult
from hyperctl.workflows.control import CancelRequest, DiscardRequest, ImportRequest, domain_name_problem
from hyperctl.workflows.leftover import HostLeftovers
from hyperctl.workflows.queues import WORKFLOW_QUEUE
from hyperctl.workflows.request import MigrationRequest, VCenter
from hyperctl.workflows.status import JobKind, JobStatus, MigrationResult, MigrationStatus


class Migration(Job[MigrationRequest, MigrationResult]):
    """One migration, which need not be under way. Made by `MigrationClient`, not by hand."""

    kind = JobKind.MIGRATION
    _request_type = MigrationRequest
    _result_type = MigrationResult

    async def result(self) -> MigrationResult:
        """Wait for the end. Raises `MigrationFailed`, or `MigrationCancelled`, which is one of these."""
        try:
            with self._connection.errors():
                result: MigrationResult = await self._handle.result()
                return result
        except WorkflowFailureError as error:
            status = await self.status()
            failures = status.failures or failures_of(error)
            kind = MigrationCancelled if status.status is JobStatus.CANCELLED else MigrationFailed
            raise kind(status, failures) from error

    async def cancel(self, *, discard: bool = False, reason: str = "") -> None:
        """Stop it and take back what it did; the copied disks stay unless they are to be discarded.

        Returns when the request is recorded; `watch` shows the end, with what is left where. Raises
        `JobConflict` if it has ended; `discard` is for that.
        """
        hosts = await hosts_of(self._connection, self.job_id) if discard else ()
        await self._cancel(CancelRequest(discard=discard, reason=reason, hosts=hosts))

    async def discard(self, *, images: bool = False, look_only: bool = False) -> tuple[HostLeftovers, ...]:
        """Delete what this migration, which has ended, has left on its hosts; what each of them says of it.

        With `images` the finished images of a completed one, too; with `look_only` nothing is deleted. Raises
        `JobConflict` while it is under way, `NoWorker`, or `MigrationFailed` with what a host could not do.
        """
        description = await self.describe()
        if is_open(description) and not look_only:
            raise JobConflict(
                f"{self.job_id} is under way: it is {job_status(description)}",
                f"Stop it and delete its copy: hyperctl cancel --discard --job {self.job_id}",
            )
        status = await self.status()
        asked = await self._request_or_placeholder()
        latest = attribute(description.typed_search_attributes, attributes.TARGET_HOST)
        known = (latest, asked.host or "", *await hosts_of(self._connection, self.job_id))
        found = []
        for host in dict.fromkeys(name for name in known if name):
            with self._connection.errors():
                await require_host(
                    self._connection.client,
                    host,
                    f"no worker is on {host} to look for what {self.job_id} left",
                )
            request = DiscardRequest(
                job_id=self.job_id,
                host=host,
                output_dir=status.plan.output_dir if status.plan else asked.output_dir or "",
                images_dir=status.output_dir if images and status.status is JobStatus.COMPLETED else "",
                look_only=look_only,
            )
            found.append(await self._discard_on(request, status))
        return tuple(found)

    async def _discard_on(self, request: DiscardRequest, status: MigrationStatus) -> HostLeftovers:
        prefix = "look" if request.look_only else "discard"
        try:
            with self._connection.errors():
                answer: HostLeftovers = await self._connection.client.execute_workflow(
                    "DiscardWorkflow",
                    request,
                    id=f"{prefix}-{self.job_id}",
                    task_queue=WORKFLOW_QUEUE,
                    result_type=HostLeftovers,
                    static_summary=f"{prefix} what {self.job_id} has left on {request.host}",
                )
        except WorkflowAlreadyStartedError as error:
            raise JobConflict(f"somebody else is at it already: {prefix}-{self.job_id}") from error
        except WorkflowFailureError as error:
            raise MigrationFailed(status, failures_of(error)) from error
        return answer

    async def set_bandwidth(self, bytes_per_second: int | None) -> None:
        """Cap what the whole copy takes from the network, also while it runs; None lifts the cap."""
        if bytes_per_second is not None and bytes_per_second < LOWEST_BYTES_PER_SECOND:
            raise ValueError(f"a bandwidth is at least {LOWEST_BYTES_PER_SECOND} bytes a second")
        await self._signal("set_bandwidth", bytes_per_second)

    async def import_domain(
        self,
        *,
        start: bool = False,
        network_map: dict[str, str] | None = None,
        domain_name: str | None = None,
    ) -> ImportResult:
        """Define the libvirt domain of a completed migration that was not asked to. Needs a worker.

        Raises `ValueError` for a name that libvirt does not take.
        """
        problem = domain_name_problem(domain_name) if domain_name is not None else ""
        if problem:
            raise ValueError(problem)
        status = await self.status()
        if status.status is not JobStatus.COMPLETED:
            raise JobConflict(
                f"{self.job_id} is {status.status}: only a completed migration has disks to import",
                f"See hyperctl status --job {self.job_id}.",
            )
        if status.plan is None:
            raise NoWorker(
                f"no worker answers on queue {WORKFLOW_QUEUE}",
                "The import is a worker's work; start one with: hyperctl worker",
            )
        asked = await self.request()
        argument = ImportRequest(
            job_id=self.job_id,
            host=status.host,
            machine=status.plan.machine,
            domain_name=domain_name,
            disks=status.outputs,
            guest=status.guest,
            network_map=asked.network_map if network_map is None else network_map,
            start=start,
            hardware=asked.hardware,
        )
        try:
            with self._connection.errors():
                imported: ImportResult = await self._connection.client.execute_workflow(
                    "ImportWorkflow",
                    argument,
                    id=f"import-{self.job_id}",
                    task_queue=WORKFLOW_QUEUE,
                    result_type=ImportResult,
                    static_summary=f"define a domain of {argument.machine.name} on {argument.host}",
                )
        except WorkflowAlreadyStartedError as error:
            raise JobConflict(f"{self.job_id} is being imported already") from error
        except WorkflowFailureError as error:
            raise MigrationFailed(status, failures_of(error)) from error
        return imported

    def _placeholder(self) -> MigrationRequest:
        return MigrationRequest(vm_name="(unreadable)", vcenter=VCenter(server="(unreadable)"))

    def _without_worker(
        self,
        description: WorkflowExecutionDescription,
        request: MigrationRequest,
        result: MigrationResult | None,
    ) -> MigrationStatus:
        return status_without_worker(description, request, result)
