"""One line of a bench's table: what was measured, beside what it is measured against."""

from collections.abc import Sequence
from statistics import median

from pydantic import BaseModel, ConfigDict

_HEADINGS = ("measure", "value", "anchor", "goal", "met")


class Row(BaseModel):
    """Medians of runs in turns with the anchor's, on one machine in the same minutes."""

    model_config = ConfigDict(frozen=True)

    measure: str
    value: float
    unit: str
    anchor: str
    """The peer or the limit."""
    anchor_value: float
    goal: str
    """In words, `at most 0.5 of the anchor`."""
    met: bool


def at_most(
    share: float, measure: str, unit: str, ours: Sequence[float], anchor: str, its: Sequence[float]
) -> Row:
    """A row whose goal is to stay below a share of the anchor's median."""
    row = _row(f"at most {share:g} of the anchor", measure, unit, ours, anchor, its)
    return row.model_copy(update={"met": row.value <= share * row.anchor_value})


def at_least(
    share: float, measure: str, unit: str, ours: Sequence[float], anchor: str, its: Sequence[float]
) -> Row:
    """A row whose goal is to reach a share of the anchor's median."""
    row = _row(f"at least {share:g} of the anchor", measure, unit, ours, anchor, its)
    return row.model_copy(update={"met": row.value >= share * row.anchor_value})


def _row(goal: str, measure: str, unit: str, ours: Sequence[float], anchor: str, its: Sequence[float]) -> Row:
    return Row(
        measure=measure,
        value=round(median(ours), 2),
        unit=unit,
        anchor=anchor,
        anchor_value=round(median(its), 2),
        goal=goal,
        met=False,
    )


def table(rows: Sequence[Row]) -> str:
    """The rows for a person, with the ratio of value and anchor."""
    cells = [_HEADINGS]
    for row in rows:
        ratio = f"{row.value / row.anchor_value:.2f}" if row.anchor_value else "-"
        cells.append(
            (
                row.measure,
                f"{row.value:g} {row.unit}",
                f"{row.anchor}: {row.anchor_value:g} {row.unit} (ratio {ratio})",
                row.goal,
                "yes" if row.met else "NO",
            )
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)
