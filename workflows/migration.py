"""`MigrationWorkflow`: the story of one VM's way from vSphere to KVM, from top to bottom."""

import asyncio
from datetime import timedelta

import pydantic
from temporalio import workflow

from hyperctl.workflows import contract
from hyperctl.workflows.aftermath import Aftermath
from hyperctl.workflows.bandwidth import Bandwidth
from hyperctl.workflows.disk import LandedDisk, OutputDisk
from hyperctl.workflows.guest import BootProof, rebuilt_warning
from hyperctl.workflows.job import DurableJob
from hyperctl.workflows.plan import MigrationPlan
from hyperctl.workflows.preflight import look_at_both, refuse_rivals
from hyperctl.workflows.preparation import SourcePreparation
from hyperctl.workflows.request import InitramfsWay, MigrationRequest, Priority, ProveMode, VerifyMode
from hyperctl.workflows.source import PreparedSource
from hyperctl.workflows.status import (
    JobStatus,
    MigrationResult,
    Modifications,
    Phase,
)
from hyperctl.workflows.steps import StepFailed
from hyperctl.workflows.undo import Undo, UndoStack

CONVERSION = "throw the conversion's overlays away"
DOMAIN = "remove the libvirt domain"
REFUSES_RIVALS = "refuse a second job of one machine"
CLEANUP_DECIDES = "a cancel after the clean-up is too late"
REBUILDS_UNBOOTABLE = "an initramfs that finds no root device is rebuilt"
"""Patches: the shapes that a migration begun by an older release does not have."""


@workflow.defn(name="MigrationWorkflow", failure_exception_types=[pydantic.ValidationError])
class MigrationWorkflow(DurableJob):
    """Moves one VM. Its workflow id is the job id; its one argument a `MigrationRequest` as plain JSON."""

    @workflow.init
    def __init__(self, request: MigrationRequest) -> None:
        super().__init__(request)
        self._request = request
        self._bandwidth = Bandwidth(request.bandwidth_bytes_per_second)
        self._undos = UndoStack()
        self._source = SourcePreparation(request, self._job_id, self._steps, self._undos, self._board)
        self._aftermath = Aftermath(request, self._job_id, self._steps, self._undos, self._board)
        self._plan: MigrationPlan | None = None

    @workflow.run
    async def run(self, request: MigrationRequest) -> MigrationResult:
        return await self._carry_out(self._migrate())

    async def _migrate(self) -> MigrationResult:
        self._refuse_unusable_id()
        plan = await self._steps.retrying(self._make_plan, waits_for_space=False)
        self._plan = plan
        self._admit(plan)
        landed = await self._steps.retrying(lambda: self._copy(plan))
        await self._source.release(plan)
        converted, proof = await self._convert_and_prove(plan, landed)
        committed = await self._commit(plan, converted)
        imported = await self._import(plan, committed.disks, converted)
        return await self._finish(plan, landed, converted, proof, committed, imported)

    # --- the phases, in their order ---------------------------------------------------------------

    async def _make_plan(self) -> MigrationPlan:
        """Read-only preflight of both sides; every problem at once."""
        self._enter(Phase.PLAN, JobStatus.PENDING)
        request = self._request
        source, target = await look_at_both(self._steps, self._job_id, request, contract.PLAN_SOURCE)
        self._aftermath.may_hold(source.host)
        problems = source.problems + target.problems
        if problems or source.machine is None:
            raise StepFailed(problems)
        plan = MigrationPlan(
            host=source.host,
            machine=source.machine,
            transport=source.transport,
            transport_reason=source.transport_reason,
            output_dir=target.output_dir,
            acceleration=target.acceleration,
            domain_name=source.machine.name,
            staged_bytes=target.staged_bytes,
            warnings=source.warnings + target.warnings,
        )
        self._board.status.plan = plan
        self._board.status.host = plan.host
        if request.file is not None:
            self._board.status.vm_name = plan.machine.name
        if workflow.patched(REFUSES_RIVALS):
            await refuse_rivals(self._steps, self._job_id, request, plan.machine, plan.host)
        return plan

    def _admit(self, plan: MigrationPlan) -> None:
        """Every migration is admitted at once; the queue's dispatcher will decide here."""
        self._enter(Phase.ADMIT, JobStatus.QUEUED)

    async def _copy(self, plan: MigrationPlan) -> tuple[LandedDisk, ...]:
        """Export and verify belong together: what does not verify is fetched again."""
        self._enter(Phase.EXPORT, JobStatus.EXPORTING)
        prepared = await self._source.prepare(plan, never_beside=DOMAIN)
        self._publish()
        exported = await self._export(plan, prepared)
        self._board.status.landed = exported.disks
        self._enter(Phase.VERIFY, JobStatus.VERIFYING)
        if self._request.verify is VerifyMode.NONE:
            self._board.skip(Phase.VERIFY)
            return exported.disks
        verified = await self._steps.activity(
            contract.VERIFY_DISKS,
            contract.VerifyInput(
                job_id=self._job_id,
                output_dir=plan.output_dir,
                disks=exported.disks,
                mode=self._request.verify,
            ),
            host=plan.host,
            summary="read the landed images again and compare them with the ledger",
            interruptible=True,
        )
        self._board.status.verified = verified.disks
        return exported.disks

    async def _export(self, plan: MigrationPlan, prepared: PreparedSource) -> contract.ExportResult:
        """The copy; whoever changes its bandwidth meanwhile is heard on its host."""
        has_ended = False
        following = asyncio.create_task(
            self._bandwidth.follow(
                lambda cap, revision: self._tell_bandwidth(plan, cap, revision), lambda: has_ended
            )
        )

        async def end() -> None:
            nonlocal has_ended
            has_ended = True
            await workflow.wait_condition(following.done)

        try:
            exported = await self._steps.activity(
                contract.EXPORT_DISKS,
                # Made anew for every attempt: the bandwidth may have changed.
                lambda: contract.ExportInput(
                    job_id=self._job_id,
                    vcenter=self._request.vcenter,
                    file=self._request.file,
                    machine=plan.machine,
                    transport=plan.transport,
                    output_dir=plan.output_dir,
                    format=self._request.format,
                    connections=self._request.connections,
                    bandwidth_bytes_per_second=self._bandwidth.bytes_per_second,
                    bandwidth_revision=self._bandwidth.revision,
                    snapshot=prepared.snapshot.moref if prepared.snapshot else "",
                    copied=prepared.copied,
                ),
                host=plan.host,
                summary=f"copy {len(plan.machine.disks)} disk(s) by {plan.transport}",
                interruptible=True,
            )
        except (StepFailed, asyncio.CancelledError):
            await end()
            raise
        await end()
        return exported

    async def _tell_bandwidth(self, plan: MigrationPlan, cap: int | None, revision: int) -> None:
        await contract.SET_BANDWIDTH.start(
            contract.SetBandwidthInput(
                job_id=self._job_id, output_dir=plan.output_dir, bytes_per_second=cap, revision=revision
            ),
            host=plan.host,
            summary="tell the copy its bandwidth",
            priority=Priority.HIGH,
        )

    async def _convert_and_prove(
        self, plan: MigrationPlan, landed: tuple[LandedDisk, ...]
    ) -> tuple[contract.ConvertResult, BootProof | None]:
        """Once more with a rebuilt initramfs, where the boot of an appended one finds no root device."""
        asked = self._request.initramfs
        converted = await self._convert(plan, landed, asked)
        may_rebuild = asked is InitramfsWay.AUTO and converted.may_rebuild
        proof = await self._prove(
            plan, converted, may_rebuild=may_rebuild and workflow.patched(REBUILDS_UNBOOTABLE)
        )
        if proof is None or proof.passed:
            return converted, proof
        self._board.status.warnings += (rebuilt_warning(proof),)
        self._board.status.steps = ()
        converted = await self._convert(plan, landed, InitramfsWay.REBUILD)
        return converted, await self._prove(plan, converted, may_rebuild=False)

    async def _convert(
        self, plan: MigrationPlan, landed: tuple[LandedDisk, ...], initramfs: InitramfsWay
    ) -> contract.ConvertResult:
        self._enter(Phase.CONVERT, JobStatus.CONVERTING)
        self._undos.push(Undo(CONVERSION, lambda: self._aftermath.undo(contract.DISCARD_CONVERSION, plan)))
        converted = await self._steps.retrying(
            lambda: self._steps.activity(
                contract.CONVERT_GUEST,
                contract.ConvertInput(
                    job_id=self._job_id,
                    output_dir=plan.output_dir,
                    machine=plan.machine,
                    disks=landed,
                    fix=self._request.fix,
                    initramfs=initramfs,
                    serial_console=self._request.serial_console,
                    guest_packages=self._request.guest_packages,
                    hardware=self._request.hardware,
                ),
                host=plan.host,
                summary="edit the guest on an overlay",
            )
        )
        self._board.status.guest = converted.guest
        self._board.status.steps = converted.steps
        return converted

    async def _prove(
        self, plan: MigrationPlan, converted: contract.ConvertResult, *, may_rebuild: bool
    ) -> BootProof | None:
        """A proof that is not passed comes back only where rebuilding the initramfs may help."""
        self._enter(Phase.PROVE, JobStatus.PROVING)
        if self._request.prove is ProveMode.NONE:
            self._board.skip(Phase.PROVE)
            return None
        proved = await self._steps.retrying(
            lambda: self._steps.activity(
                contract.PROVE_BOOT,
                contract.ProveInput(
                    job_id=self._job_id,
                    output_dir=plan.output_dir,
                    machine=plan.machine,
                    disks=converted.disks,
                    mode=self._request.prove,
                    hardware=self._request.hardware,
                    may_rebuild=may_rebuild,
                ),
                host=plan.host,
                summary="boot the converted guest once, cut off from every network, and ask it",
            )
        )
        self._board.status.proof = proved.proof
        return proved.proof

    async def _commit(self, plan: MigrationPlan, converted: contract.ConvertResult) -> contract.CommitResult:
        """From here on the conversion stays: a commit that was cut off is finished by a retry."""
        self._enter(Phase.IMPORT, JobStatus.IMPORTING)
        self._undos.forget(CONVERSION)
        committed = await self._steps.retrying(
            lambda: self._steps.activity(
                contract.COMMIT_CONVERSION,
                contract.CommitInput(
                    job_id=self._job_id,
                    output_dir=plan.output_dir,
                    vm_name=plan.machine.name,
                    date=self._board.status.created_at.strftime("%Y-%m-%d"),
                    disks=converted.disks,
                ),
                host=plan.host,
                summary="make the conversion part of the images and put them into the output folder",
            )
        )
        self._board.status.outputs = committed.disks
        self._board.status.output_dir = committed.folder
        return committed

    async def _import(
        self, plan: MigrationPlan, disks: tuple[OutputDisk, ...], converted: contract.ConvertResult
    ) -> contract.ImportResult | None:
        if not self._request.to_libvirt:
            self._board.skip(Phase.IMPORT)
            return None
        self._undos.push(Undo(DOMAIN, lambda: self._aftermath.undo(contract.REMOVE_DOMAIN, plan)))
        imported = await self._steps.retrying(
            lambda: self._steps.activity(
                contract.IMPORT_DOMAIN,
                contract.ImportInput(
                    job_id=self._job_id,
                    machine=plan.machine,
                    domain_name=plan.domain_name,
                    disks=disks,
                    guest=converted.guest,
                    network_map=self._request.network_map,
                    start=self._request.start,
                    hardware=self._request.hardware,
                ),
                host=plan.host,
                summary=f"define the libvirt domain {plan.domain_name}",
            )
        )
        self._board.status.domain = imported.domain
        return imported

    async def _finish(
        self,
        plan: MigrationPlan,
        landed: tuple[LandedDisk, ...],
        converted: contract.ConvertResult,
        proof: BootProof | None,
        committed: contract.CommitResult,
        imported: contract.ImportResult | None,
    ) -> MigrationResult:
        self._enter(Phase.CLEANUP, JobStatus.IMPORTING)
        await self._source.release(plan, last=True)
        started_at = self._board.status.created_at
        now = workflow.now()
        warnings = plan.warnings + self._board.status.warnings
        warnings += tuple(text for step in converted.steps for text in step.warnings)
        result = MigrationResult(
            job_id=self._job_id,
            vm_name=plan.machine.name,
            status=JobStatus.COMPLETED,
            host=plan.host,
            output_dir=committed.folder,
            disks=committed.disks,
            landed=landed,
            verified=self._board.status.verified,
            guest=converted.guest,
            steps=converted.steps,
            modifications=Modifications.from_steps(converted.steps),
            proof=proof,
            domain=imported.domain if imported else "",
            domain_uuid=imported.domain_uuid if imported else "",
            memory_bytes=plan.machine.memory_bytes,
            vcpus=plan.machine.vcpus,
            firmware=plan.machine.firmware,
            source_capacity_bytes=plan.machine.capacity_bytes,
            received_bytes=sum(disk.received_bytes for disk in landed),
            started_at=started_at,
            completed_at=now,
            duration_seconds=(now - started_at) / timedelta(seconds=1),
            warnings=warnings + (imported.warnings if imported else ()),
        )
        decides = workflow.patched(CLEANUP_DECIDES)
        await self._steps.retrying(
            lambda: self._steps.activity(
                contract.CLEAN_UP,
                contract.CleanUpInput(
                    job_id=self._job_id,
                    output_dir=plan.output_dir,
                    folder=committed.folder,
                    result=result,
                ),
                host=plan.host,
                summary="keep the evidence, remove the working files",
                decides=decides,
            )
        )
        return result

    # --- the end, and what clients tell beside what every job is told ------------------------------

    async def _take_back(self) -> None:
        await self._aftermath.take_back(self._plan, lambda: self._cancel if self._cancel_requested else None)

    @workflow.signal(name="set_bandwidth", description="Bytes per second of the whole copy; null: no cap.")
    def set_bandwidth(self, bytes_per_second: int | None = None) -> None:
        if not self._bandwidth.change(bytes_per_second):
            workflow.logger.warning("ignored: set_bandwidth to %r", bytes_per_second)
            return
        self._board.status.bandwidth_bytes_per_second = bytes_per_second
        self._publish()
