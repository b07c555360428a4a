"""What a migration or a rehearsal does to a source that runs, and how that is taken back."""

from collections.abc import Iterable

from temporalio import workflow

from hyperctl.workflows import contract
from hyperctl.workflows.board import ProgressBoard
from hyperctl.workflows.plan import MigrationPlan
from hyperctl.workflows.request import DiskFormat, MigrationRequest, SourceRequest, WhenRunning
from hyperctl.workflows.source import PreparedSource
from hyperctl.workflows.steps import StepFailed, StepRunner
from hyperctl.workflows.undo import Undo, UndoStack

SNAPSHOT = "remove the snapshot of the source"
POWER = "power the source on again"
PREPARES_SOURCE = "prepare the source"
"""The patch of workflows that can migrate a running source."""


class SourcePreparation:
    """Has a running source shut down, or a snapshot made; registers what takes it back before it acts."""

    def __init__(
        self,
        request: SourceRequest,
        job_id: str,
        steps: StepRunner,
        undos: UndoStack,
        board: ProgressBoard,
        stub: contract.Activity[contract.PrepareSourceInput, PreparedSource] = contract.PREPARE_SOURCE,
    ) -> None:
        self._request = request
        self._job_id = job_id
        self._steps = steps
        self._undos = undos
        self._status = board.status
        self._stub = stub

    async def prepare(self, plan: MigrationPlan, *, never_beside: str = "") -> PreparedSource:
        """Have the source as it is to be read; one that is ready from an earlier try is found again.

        It is not powered on again while the undo `never_beside` could not be done. Raises `StepFailed`.
        """
        action = self._request.running.action
        if action is WhenRunning.REFUSE or not workflow.patched(PREPARES_SOURCE):
            return PreparedSource()
        if action is WhenRunning.SNAPSHOT:
            self._undos.push(Undo(SNAPSHOT, lambda: self._remove_snapshot(plan)))
        else:
            self._undos.push(Undo(POWER, lambda: self._power_on(plan), after=frozenset((never_beside,))))
        prepared = await self._steps.activity(
            self._stub,
            contract.PrepareSourceInput(
                job_id=self._job_id,
                vcenter=self._request.vcenter,
                machine=plan.machine,
                output_dir=plan.output_dir,
                running=self._request.running,
                format=self._format,
            ),
            host=plan.host,
            summary=f"prepare the source {plan.machine.name}: {action}",
        )
        self._status.source = prepared
        self._warn(prepared.warnings)
        return prepared

    @property
    def _format(self) -> DiskFormat:
        return self._request.format if isinstance(self._request, MigrationRequest) else DiskFormat.RAW

    async def release(self, plan: MigrationPlan, *, last: bool = False) -> None:
        """Remove the snapshot once its copy is verified: a snapshot grows and slows its machine.

        One that cannot be removed is no reason to throw a good copy away; the last try says so.
        """
        if SNAPSHOT not in self._undos:
            return
        try:
            removed = await self._steps.activity(
                contract.REMOVE_SNAPSHOT,
                self._snapshot_to_remove(plan),
                host=plan.host,
                summary=f"remove the snapshot of the source {plan.machine.name}",
            )
        except StepFailed as failed:
            if last:
                self._warn(
                    f"the snapshot is not removed: {failure.message} {failure.hint}".strip()
                    for failure in failed.failures
                )
            return
        self._undos.forget(SNAPSHOT)
        self._warn(removed.warnings)

    async def _remove_snapshot(self, plan: MigrationPlan) -> None:
        removed = await contract.REMOVE_SNAPSHOT.start(
            self._snapshot_to_remove(plan), host=plan.host, summary="undo", priority=self._steps.priority
        )
        self._warn(removed.warnings)

    def _snapshot_to_remove(self, plan: MigrationPlan) -> contract.RemoveSnapshotInput:
        return contract.RemoveSnapshotInput(
            job_id=self._job_id, vcenter=self._request.vcenter, machine=plan.machine
        )

    async def _power_on(self, plan: MigrationPlan) -> None:
        source = self._status.source
        put_back = await contract.POWER_ON_SOURCE.start(
            contract.PowerOnSourceInput(
                job_id=self._job_id,
                vcenter=self._request.vcenter,
                machine=plan.machine,
                switched_off=source is not None and source.switched_off,
                running=self._request.running,
            ),
            host=plan.host,
            summary="undo",
            priority=self._steps.priority,
        )
        self._warn(put_back.warnings)

    def _warn(self, texts: Iterable[str]) -> None:
        """Each is said once."""
        self._status.warnings = tuple(dict.fromkeys((*self._status.warnings, *texts)))
