"""What a vCenter holds, as a table: all columns in a pipe, on a terminal those that fit."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from hyperctl.client.remembered import Remembered
from hyperctl.client.render.planned import remembered_migration, remembered_rehearsal
from hyperctl.client.render.text import columns, plural, safe, size
from hyperctl.workflows.inventory import InventoryMachine, Readiness
from hyperctl.workflows.machine import PowerState
from hyperctl.workflows.request import WhenRunning

_POWER = {PowerState.ON: "on", PowerState.OFF: "off", PowerState.SUSPENDED: "suspended"}
_OPTIONS = {WhenRunning.SHUTDOWN: "--shutdown", WhenRunning.SNAPSHOT: "--snapshot"}
_STYLES = {Readiness.YES: "green", Readiness.IF_ASKED: "yellow", Readiness.NO: "red"}
READY = "CAN BE MIGRATED"
READY_WIDTH = 24
"""At least, where its texts are longer."""
WIDEST = 32
"""Of any other column; what is longer goes on below."""
GAP = 3


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title, the text of a cell, and how soon it is left out; those without a place never are."""

    title: str
    cell: Callable[[Remembered], str]
    place: int = 0


def ready_text(machine: InventoryMachine) -> str:
    """`yes`, `with --shutdown or --snapshot`, or `no: REASON`, which need not repeat the machine's name."""
    if machine.problems:
        reasons = (problem.message.removeprefix(f"{machine.name} ") for problem in machine.problems)
        return f"no: {'; '.join(reasons)}"
    if machine.needs:
        return f"with {' or '.join(_OPTIONS[way] for way in machine.needs)}"
    return "yes"


COLUMNS = (
    Column("VM", lambda row: row.machine.name),
    Column("FOLDER", lambda row: "/".join(filter(None, (row.machine.datacenter, row.machine.folder))), 12),
    Column("HOST", lambda row: row.machine.esxi_host, 13),
    Column("POWER", lambda row: _POWER[row.machine.power_state] if row.machine.power_state else ""),
    Column("GUEST", lambda row: row.machine.guest_full_name or row.machine.guest_id, 5),
    Column("FIRMWARE", lambda row: row.machine.firmware or "", 11),
    Column("VCPUS", lambda row: _number(row.machine.vcpus), 7),
    Column("MEMORY", lambda row: _size(row.machine.memory_bytes), 6),
    Column("DISKS", lambda row: _number(row.machine.disks), 8),
    Column("SIZE", lambda row: _size(row.machine.capacity_bytes), 4),
    Column("USED", lambda row: _size(row.machine.used_bytes), 2),
    Column("SNAPSHOTS", lambda row: _number(row.machine.snapshots), 9),
    Column("NETWORKS", lambda row: ", ".join(dict.fromkeys(row.machine.networks)), 10),
    Column("TOOLS", lambda row: row.machine.tools.words, 14),
    Column(READY, lambda row: ready_text(row.machine)),
    Column("REHEARSED", lambda row: remembered_rehearsal(row.rehearsal), 1),
    Column("MIGRATION", lambda row: remembered_migration(row.migration), 3),
)


def inventory_rows(rows: Sequence[Remembered]) -> Iterator[str]:
    """A line each in columns, with the titles first."""
    lines = [tuple(column.title for column in COLUMNS)]
    lines += [tuple(safe(column.cell(row)) or "-" for column in COLUMNS) for row in rows]
    return columns(lines)


def inventory_table(rows: Sequence[Remembered], width: int) -> tuple[Table, tuple[str, ...]]:
    """The table for a terminal so wide, and the titles of what there was no room for."""
    cells = {column.title: [safe(column.cell(row)) for row in rows] for column in COLUMNS}
    shown, left_out = _fitting(cells, width)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in shown:
        ready = column.title == READY
        table.add_column(
            column.title, overflow="fold", ratio=1 if ready else None, max_width=None if ready else WIDEST
        )
    for number, row in enumerate(rows):
        texts = [Text(cells[column.title][number] or "-") for column in shown]
        texts[[column.title for column in shown].index(READY)].stylize(_STYLES[row.machine.ready])
        table.add_row(*texts)
    return table, left_out


def _fitting(cells: dict[str, list[str]], width: int) -> tuple[list[Column], tuple[str, ...]]:
    """By their worth, what has something to say and still fits."""

    def needs(column: Column) -> int:
        most = READY_WIDTH if column.title == READY else WIDEST
        longest = max(len(text) for text in (column.title, *cells[column.title]))
        return max(min(longest, most), len(column.title)) + GAP

    kept = {column.title for column in COLUMNS if not column.place}
    room = width - sum(needs(column) for column in COLUMNS if column.title in kept)
    left_out = []
    for column in sorted((one for one in COLUMNS if one.place), key=lambda one: one.place):
        if not any(cells[column.title]):
            continue
        if needs(column) <= room:
            kept.add(column.title)
            room -= needs(column)
        else:
            left_out.append(column.title)
    return [column for column in COLUMNS if column.title in kept], tuple(left_out)


def count_text(rows: Sequence[Remembered]) -> str:
    """`12 virtual machines: 8 can be migrated, 3 with --shutdown or --snapshot, 1 cannot`."""
    counts = Counter(row.machine.ready for row in rows)
    words = {
        Readiness.YES: "can be migrated",
        Readiness.IF_ASKED: "with --shutdown or --snapshot",
        Readiness.NO: "cannot",
    }
    told = ", ".join(f"{counts[ready]} {said}" for ready, said in words.items() if counts[ready])
    return f"{plural(len(rows), 'virtual machine')}: {told}"


def _number(number: int) -> str:
    return str(number) if number else ""


def _size(size_bytes: int) -> str:
    return size(size_bytes) if size_bytes else ""
