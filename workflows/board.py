"""Where a job's state is kept and shown: status document, search attributes, Web UI details."""

from temporalio import workflow

from hyperctl.workflows import attributes
from hyperctl.workflows.rehearsal import RehearsalRequest
from hyperctl.workflows.request import MigrationRequest
from hyperctl.workflows.status import (
    PHASES,
    JobKind,
    JobStatus,
    MigrationStatus,
    Phase,
    PhaseRecord,
    PhaseState,
)
from hyperctl.workflows.steps import StepRunner

_MARK = {
    PhaseState.WAITING: "·",
    PhaseState.RUNNING: "▶",
    PhaseState.DONE: "✔",
    PhaseState.SKIPPED: "–",
    PhaseState.FAILED: "✘",
}


class ProgressBoard:
    """Owns the status document; `publish` makes Temporal show what it says."""

    def __init__(self, request: MigrationRequest | RehearsalRequest, job_id: str) -> None:
        kind = JobKind.REHEARSAL if isinstance(request, RehearsalRequest) else JobKind.MIGRATION
        self._underlying = JobStatus.PENDING
        self._shown: dict[str, str] = {}
        self.status = MigrationStatus(
            kind=kind,
            job_id=job_id,
            vm_name=request.name,
            vcenter=request.vcenter.server if request.vcenter else "",
            priority=request.priority,
            requested_by=request.requested_by,
            tags=request.tags,
            created_at=workflow.info().start_time,
            updated_at=workflow.now(),
            phases=[PhaseRecord(phase=phase) for phase in PHASES[kind]],
        )
        self.status.source_file = request.file.path if request.file else ""
        if isinstance(request, MigrationRequest):
            self.status.to_libvirt = request.to_libvirt
            self.status.bandwidth_bytes_per_second = request.bandwidth_bytes_per_second

    def enter(self, phase: Phase, status: JobStatus) -> None:
        """A phase begins (or begins again after a retry); the one before it is done."""
        now = workflow.now()
        current = self.status.record(self.status.phase)
        if current.phase is not phase and current.state is PhaseState.RUNNING:
            current.state, current.finished_at = PhaseState.DONE, now
        record = self.status.record(phase)
        record.state, record.finished_at = PhaseState.RUNNING, None
        record.started_at = record.started_at or now
        self.status.phase = phase
        self._underlying = status

    def skip(self, phase: Phase) -> None:
        """The running phase turns out to have nothing to do, because the request says so."""
        record = self.status.record(phase)
        record.state, record.finished_at = PhaseState.SKIPPED, workflow.now()

    def finish(self, status: JobStatus) -> None:
        """The job has ended."""
        now = workflow.now()
        record = self.status.record(self.status.phase)
        if record.state is PhaseState.RUNNING:
            record.state = PhaseState.DONE if status is JobStatus.COMPLETED else PhaseState.FAILED
            record.finished_at = now
        self.status.completed_at = now
        self._underlying = status

    def publish(self, steps: StepRunner) -> None:
        """Take over what the step runner knows and show everything."""
        status = self.status
        status.updated_at = workflow.now()
        status.priority = steps.priority
        status.space_wait = None if self._underlying.is_final else steps.space
        status.paused = (steps.paused or status.space_wait is not None) and not self._underlying.is_final
        status.paused_reason = self._paused_reason()
        status.status = JobStatus.PAUSED if status.paused else self._underlying
        status.retry = steps.waiting
        status.retry_count = steps.retries
        self._upsert()
        workflow.set_current_details(self._details())

    def _paused_reason(self) -> str:
        if not self.status.paused:
            return ""
        return self.status.space_wait.failure.message if self.status.space_wait else "on request"

    def _upsert(self) -> None:
        status = self.status
        values = {
            attributes.STATUS: str(status.status),
            attributes.PHASE: str(status.phase),
            attributes.PRIORITY: str(status.priority),
            attributes.VM_NAME: status.vm_name,
            attributes.VCENTER: status.vcenter or attributes.NO_VCENTER,
            attributes.REQUESTED_BY: status.requested_by,
            attributes.TARGET_HOST: status.host,
            attributes.ESXI_HOST: status.plan.machine.esxi_host if status.plan else "",
        }
        changed = {
            key: value for key, value in values.items() if value and self._shown.get(key.name) != value
        }
        if changed:
            workflow.upsert_search_attributes([key.value_set(value) for key, value in changed.items()])
            self._shown.update({key.name: value for key, value in changed.items()})

    def _details(self) -> str:
        """Markdown for the Web UI: an operator's view in a few lines."""
        status = self.status
        head = f"**{status.vm_name}** from {status.origin}: **{status.status}**"
        lines = [f"{head} (priority {status.priority})", ""]
        for record in status.phases:
            span = ""
            if record.started_at and record.finished_at:
                span = f" ({(record.finished_at - record.started_at).total_seconds():.0f} s)"
            lines.append(f"- {_MARK[record.state]} {record.phase}{span}")
        if status.plan:
            machine = status.plan.machine
            lines += [
                "",
                f"{machine.guest_full_name or machine.guest_id}, {len(machine.disks)} disk(s), "
                f"{machine.capacity_bytes / 2**30:.1f} GiB, on {status.plan.host}",
            ]
            if status.plan.transport_reason and status.kind is JobKind.MIGRATION:
                lines += ["", f"Copied by {status.plan.transport}: {status.plan.transport_reason}"]
        if status.retry:
            lines += [
                "",
                f"Retry {status.retry.retry} of {status.retry.max_retries} at "
                f"{status.retry.next_attempt_at:%Y-%m-%d %H:%M:%S} UTC: {status.retry.failure.message} "
                "(signal `retry_now` to try at once)",
            ]
        if status.space_wait:
            wait = status.space_wait
            lines += [
                "",
                f"Paused since {wait.since:%Y-%m-%d %H:%M:%S} UTC: {wait.failure.message}. "
                f"{wait.failure.hint} Looks again at {wait.next_attempt_at:%Y-%m-%d %H:%M:%S} UTC "
                "(signal `resume` to do so now).",
            ]
        elif status.paused:
            lines += ["", "Paused on request (signal `resume` to go on)."]
        if status.bandwidth_bytes_per_second:
            lines += ["", f"Bandwidth: at most {status.bandwidth_bytes_per_second / 2**20:.1f} MiB/s"]
        for disk in status.verified:
            lines += ["", f"Verified: {disk.statement}"]
        if status.proof:
            verdict = "passed" if status.proof.passed else "not passed"
            lines += ["", f"Boot proof {verdict} in {status.proof.boot_seconds:.0f} s"]
        if status.rehearsed:
            reason = f": {status.rehearsed.reason.message}" if status.rehearsed.reason else ""
            lines += ["", f"**{status.rehearsed.verdict.words}**{reason}"]
        if status.output_dir:
            lines += ["", f"Output: `{status.output_dir}`"]
        for failure in status.failures:
            lines += ["", f"**{failure.code}**: {failure.message} {failure.hint}"]
        for text in status.warnings:
            lines += ["", f"Warning: {text}"]
        for text in status.not_undone:
            lines += ["", f"Not undone: {text}"]
        return "\n".join(lines)
