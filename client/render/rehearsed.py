"""A rehearsal as it is shown: its story so far, its end, and many of them in the order of their need."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from hyperctl.client.render.ending import Ending, NextStep, Problem
from hyperctl.client.render.events import Line, Mark, Stage, StageBegun
from hyperctl.client.render.story import Told, converting, found_machine, preparing, proving, retrying
from hyperctl.client.render.text import duration, plural, size
from hyperctl.workflows.estimate import Estimate
from hyperctl.workflows.rehearsal import RehearsalResult, Verdict
from hyperctl.workflows.status import MigrationStatus, Phase, PhaseState

ORDER = (Verdict.DOES_NOT_BOOT, Verdict.NOT_REHEARSED, Verdict.BOOTS)
"""Failures first."""
MARKS = {Verdict.BOOTS: Mark.OK, Verdict.DOES_NOT_BOOT: Mark.FAILED, Verdict.NOT_REHEARSED: Mark.WARNING}


def rehearsal_story(status: MigrationStatus) -> Iterator[Told]:
    """Everything that a rehearsal's status says has happened, from the beginning. Pure."""
    yield "stage1", StageBegun(Stage.LOOK if status.source_file else Stage.CONNECT)
    yield from found_machine(status)
    if status.plan:
        yield "host", Line(Mark.INFO, f"Rehearsed on {status.plan.host}; nothing is copied", detail=True)
        if status.plan.transport_reason:
            yield "transport", Line(Mark.INFO, status.plan.transport_reason, detail=True)
        for text in status.plan.warnings:
            yield f"warning:{text}", Line(Mark.WARNING, text)
    if any(
        record.phase is Phase.REHEARSE and record.state is not PhaseState.WAITING for record in status.phases
    ):
        yield "stage2", StageBegun(Stage.REHEARSE)
        yield from preparing(status)
        yield from converting(status)
        if status.proof or (status.progress and status.progress.phase is Phase.PROVE):
            yield from proving(status)
    rehearsed = status.rehearsed
    for text in rehearsed.warnings if rehearsed else ():
        yield f"warning:{text}", Line(Mark.WARNING, text)
    yield from retrying(status)


def verdict_text(verdict: Verdict, reason: str) -> str:
    """`boots`, `does not boot: REASON`, `not rehearsed: REASON`."""
    return f"{verdict.words}: {reason}" if reason and verdict is not Verdict.BOOTS else verdict.words


def reason_text(result: RehearsalResult) -> str:
    return "; ".join(failure.message for failure in result.reasons)


def rehearsal_ending(result: RehearsalResult) -> Ending:
    """What came of one rehearsal."""
    boots = result.verdict is Verdict.BOOTS
    rows = [
        ("Rehearsal", result.job_id),
        ("Source VM", f"{result.vm_name} ({result.source_file or f'vSphere, {result.vcenter}'})"),
        ("Verdict", result.verdict.words),
        *fact_rows(result),
    ]
    return Ending(
        f"{result.vm_name} {_said(result.verdict)}",
        boots,
        tuple(rows),
        problems=tuple(Problem(failure.message, failure.hint) for failure in result.reasons),
        remarks=tuple(dict.fromkeys(warnings_of(result))),
        next_steps=(NextStep("View logs", (f"hyperctl logs --job {result.job_id}",)),),
    )


def _said(verdict: Verdict) -> str:
    return "was not rehearsed" if verdict is Verdict.NOT_REHEARSED else verdict.words


def warnings_of(result: RehearsalResult) -> Iterator[str]:
    """What to know beside the verdict, of the plan, the steps and the boot."""
    yield from result.warnings
    for step in result.steps:
        yield from step.warnings
    if result.proof:
        yield from result.proof.warnings


def fact_rows(result: RehearsalResult) -> Iterator[tuple[str, str]]:
    """What was measured, and the estimate with what it is from."""
    if result.guest:
        yield "Guest", result.guest.product_name
    if result.host:
        yield "Host", result.host
    if result.duration_seconds:
        waited = f", {duration(result.waited_seconds)} of it for the source"
        yield "Rehearsal took", f"{duration(result.duration_seconds)}{waited}"
        yield "Read", f"{size(result.read_bytes)} of the disks; nothing was written to them"
    if result.estimate:
        yield from estimate_rows(result.estimate)


def estimate_rows(estimate: Estimate) -> Iterator[tuple[str, str]]:
    """The migration as far as it could be measured; every figure says what it was made from."""
    sample = estimate.sample
    rate, whole = size(sample.bytes_per_second), size(estimate.transfer_bytes)
    yield (
        "Copy, estimated",
        f"{duration(estimate.copy_seconds)} for {whole} {estimate.way} at {rate}/s, "
        f"as in a sample of {size(sample.read_bytes)} over {plural(sample.connections, 'connection')}",
    )
    yield (
        "Will land, estimated",
        f"{size(estimate.land_bytes_low)} to {size(estimate.land_bytes_high)}: {estimate.land_basis}",
    )
    if estimate.guest_seconds:
        yield "Conversion and proof", f"{duration(estimate.guest_seconds)}, as they took here"
    if estimate.needed_bytes:
        enough = "" if estimate.needed_bytes <= estimate.free_bytes else ", TOO LITTLE"
        yield "Room needed", f"{size(estimate.needed_bytes)}; {size(estimate.free_bytes)} are free{enough}"


def failures_first(results: Iterable[RehearsalResult]) -> list[RehearsalResult]:
    return sorted(results, key=lambda result: (ORDER.index(result.verdict), result.vm_name.casefold()))


def count_text(results: Sequence[RehearsalResult]) -> str:
    """`1 does not boot, 2 not rehearsed, 4 boot`."""
    counts = {verdict: sum(result.verdict is verdict for result in results) for verdict in ORDER}
    return ", ".join(f"{count} {_of_many(verdict, count)}" for verdict, count in counts.items() if count)


def _of_many(verdict: Verdict, count: int) -> str:
    several = {Verdict.BOOTS: "boot", Verdict.DOES_NOT_BOOT: "do not boot"}
    return verdict.words if count == 1 else several.get(verdict, verdict.words)


def age(moment: datetime) -> str:
    """`3 days ago`, `2h 10m ago`."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    days = int(seconds // 86400)
    return f"{plural(days, 'day')} ago" if days else f"{duration(seconds)} ago"
