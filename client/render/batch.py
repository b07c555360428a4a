"""A batch of rehearsals: what has changed since the last look, and the table at its end, failures first."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from hyperctl.client.render.events import Event, Line, Mark, Working
from hyperctl.client.render.rehearsed import MARKS, brief_reason, failures_first, verdict_text
from hyperctl.client.render.text import columns, duration, plural, safe, size
from hyperctl.workflows.rehearsal import RehearsalBatchStatus, RehearsalResult, Verdict

HEADER = ("VM", "VERDICT", "READ", "TOOK", "COPY, EST.", "JOB", "WHY")
_STYLES = {Verdict.BOOTS: "green", Verdict.DOES_NOT_BOOT: "bold red", Verdict.NOT_REHEARSED: "yellow"}


class BatchTeller:
    """Tells every verdict once."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._notes: tuple[str, ...] = ()

    def tell(self, status: RehearsalBatchStatus) -> Iterator[Event]:
        """The verdicts since the last status, and what is under way."""
        for item in status.items:
            if item.verdict is not None and item.job_id not in self._told:
                self._told.add(item.job_id)
                reason = item.reason.message if item.reason else ""
                yield Line(MARKS[item.verdict], f"{item.vm_name}: {verdict_text(item.verdict, reason)}")
        yield from (Line(Mark.WAITING, note) for note in status.notes if note not in self._notes)
        self._notes = status.notes
        done = len(self._told)
        under_way = sum(item.is_under_way for item in status.items)
        yield Working(f"{done} of {plural(len(status.items), 'rehearsal')} done, {under_way} under way")


def rows(results: Sequence[RehearsalResult]) -> Iterator[tuple[RehearsalResult, tuple[str, ...]]]:
    """A row for each, failures first; its texts may hold anything."""
    for result in failures_first(results):
        estimate = result.estimate
        yield (
            result,
            (
                result.vm_name,
                result.verdict.words,
                size(result.read_bytes) if result.read_bytes else "-",
                duration(result.duration_seconds) if result.duration_seconds else "-",
                duration(estimate.copy_seconds) if estimate else "-",
                result.job_id,
                brief_reason(result) or "-",
            ),
        )


def batch_table(results: Sequence[RehearsalResult]) -> Table:
    """For a terminal, which may be narrow: reasons wrap, and `hyperctl list` has the ids."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in _without_id(HEADER):
        wraps = title == "WHY"
        table.add_column(title, no_wrap=not wraps, overflow="fold", ratio=1 if wraps else None)
    for result, cells in rows(results):
        style = _STYLES[result.verdict]
        texts = [Text(safe(cell)) for cell in _without_id(cells)]
        texts[1].stylize(style)
        table.add_row(*texts)
    return table


def _without_id(cells: tuple[str, ...]) -> tuple[str, ...]:
    id_column = HEADER.index("JOB")
    return cells[:id_column] + cells[id_column + 1 :]


def plain_rows(results: Sequence[RehearsalResult]) -> Iterator[str]:
    """The same in columns, a line each."""
    return columns([HEADER, *(tuple(safe(cell) for cell in cells) for _, cells in rows(results))])
