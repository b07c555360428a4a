"""What follows a migration that was cancelled or failed: undos, what its hosts say is left, error file."""

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel
from temporalio import workflow
from temporalio.exceptions import ActivityError

from hyperctl.workflows import contract
from hyperctl.workflows.board import ProgressBoard
from hyperctl.workflows.control import CancelRequest
from hyperctl.workflows.leftover import HostLeftovers
from hyperctl.workflows.plan import MigrationPlan
from hyperctl.workflows.request import MigrationRequest, Priority
from hyperctl.workflows.steps import StepRunner
from hyperctl.workflows.undo import Undo, UndoStack

ResultT = TypeVar("ResultT", bound=BaseModel)

ERROR_FILE = "write the error file"
COPY = "delete the copied disks"
ASKS_WHAT_IS_LEFT = "ask the hosts what is left"
"""A patch: a migration begun by an older release does not."""


class Aftermath:
    """Puts away what must not stay, and has the hosts say what does."""

    def __init__(
        self,
        request: MigrationRequest,
        job_id: str,
        steps: StepRunner,
        undos: UndoStack,
        board: ProgressBoard,
    ) -> None:
        self._request = request
        self._job_id = job_id
        self._steps = steps
        self._undos = undos
        self._board = board
        self._hosts: list[str] = [request.host] if request.host else []

    def may_hold(self, host: str) -> None:
        """This host may hold something of the job from now on."""
        if host not in self._hosts:
            self._hosts.append(host)

    async def take_back(
        self, plan: MigrationPlan | None, requested: Callable[[], CancelRequest | None]
    ) -> None:
        """Run the undos; afterwards only the copied disks are left, for a retry, unless told otherwise.

        `requested` is asked for the cancel late: one may come while the undos run.
        """
        status = self._board.status
        asks = workflow.patched(ASKS_WHAT_IS_LEFT)
        if not asks and plan is not None and _discards(requested()):
            self._undos.push(Undo(COPY, lambda: self.undo(contract.DISCARD_COPY, plan)))
        status.not_undone = await self._undos.run()
        if asks:
            cancel = requested()
            for host in cancel.hosts if cancel and cancel.discard else ():
                self.may_hold(host)
            output_dir = plan.output_dir if plan else self._request.output_dir or ""
            for host in self._hosts:
                answer = await self._left_on(host, output_dir, discards=_discards(requested()))
                status.leftovers += (answer,)
        if plan is not None and status.failures:
            try:
                await contract.RECORD_FAILURE.start(
                    contract.RecordFailureInput(
                        job_id=self._job_id,
                        output_dir=plan.output_dir,
                        vm_name=plan.machine.name,
                        phase=status.phase,
                        failures=status.failures,
                    ),
                    host=plan.host,
                    summary="write the error file",
                    priority=self._steps.priority,
                )
            except ActivityError as error:
                status.not_undone += (f"{ERROR_FILE}: {error.cause or error}",)

    async def undo(
        self, stub: contract.Activity[contract.DiscardInput, ResultT], plan: MigrationPlan
    ) -> None:
        """One undo on the plan's host."""
        await stub.start(
            contract.DiscardInput(
                job_id=self._job_id, output_dir=plan.output_dir, domain_name=plan.domain_name
            ),
            host=plan.host,
            summary="undo",
            priority=self._steps.priority,
        )

    async def _left_on(self, host: str, output_dir: str, *, discards: bool) -> HostLeftovers:
        """What a host says it holds of the job, once it has deleted it where that was asked."""
        stub = contract.DISCARD_COPY if discards else contract.TAKE_STOCK
        try:
            found = await stub.start(
                contract.DiscardInput(job_id=self._job_id, output_dir=output_dir),
                host=host,
                summary="delete what this job has left" if discards else "see what is left for a retry",
                priority=Priority.HIGH,
            )
        except ActivityError as error:
            return HostLeftovers(host=host, problem=str(error.cause or error))
        return HostLeftovers(host=host, removed=found.removed, left=found.left)


def _discards(cancel: CancelRequest | None) -> bool:
    return cancel is not None and cancel.discard
