"""How an inventory is shown: as wide as the terminal, whole in a pipe, and as names for a batch."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from hyperctl.client.cli.batch_file import read_batch
from hyperctl.client.cli.inventory import _print_names
from hyperctl.client.remembered import Remembered, remember
from hyperctl.client.render.inventory import COLUMNS, count_text, inventory_rows, inventory_table
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.identity import derive_rehearsal_id
from hyperctl.workflows.rehearsal import Verdict
from hyperctl.workflows.status import JobKind, JobStatus
from tests.unit.inventories import encrypted, job, listed, running

HIDDEN = listed(
    "hidden\x1b[31m",
    power_state=None,
    firmware=None,
    networks=(),
    problems=(Failure(code=ErrorCode.PERMISSION_DENIED, message="me lacks the privilege System.Read"),),
)
ROWS = [
    Remembered(listed("db-01"), job(JobKind.REHEARSAL, "db-01"), job(JobKind.MIGRATION, "db-01")),
    Remembered(running("a-name-that-is-longer-than-any-column-may-be")),
    Remembered(encrypted("secret-01"), job(JobKind.REHEARSAL, "secret-01", verdict=Verdict.NOT_REHEARSED)),
    Remembered(HIDDEN),
]


def _drawn(width: int) -> tuple[list[str], tuple[str, ...]]:
    table, left_out = inventory_table(ROWS, width)
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue().splitlines(), left_out


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200, 400])
def test_the_table_fits_and_says_what_it_leaves_out(width: int) -> None:
    lines, left_out = _drawn(width)
    head, text = lines[0], "\n".join(lines)
    assert max(len(line) for line in lines) <= width
    for title in ("VM", "POWER", "CAN BE MIGRATED"):
        assert title in head
    assert {title for title in left_out if title in head} == set()
    assert set(left_out) | {column.title for column in COLUMNS if column.title in head} == {
        column.title for column in COLUMNS if column.title != "SNAPSHOTS"
    }, "none has any"
    for told in ("secret-01", "no: is encrypted", "hidden\\x1b[31m"):
        assert told in text
    if width == 400:
        assert left_out == ()
        assert "boots, 3 days ago" in text
        assert "with --shutdown or --snapshot" in text


def test_the_verdict_comes_before_all_else_that_may_be_left_out() -> None:
    assert "boots, 3 days ago" in "\n".join(_drawn(110)[0])


def test_a_pipe_gets_every_column() -> None:
    head, first, second, *_ = inventory_rows(ROWS)
    assert head.split() == " ".join(column.title for column in COLUMNS).split()
    for cell in ("db-01", "DC1", "12.0 GiB", "VM Network  ", "boots, 3 days ago", "completed, 3 days ago"):
        assert cell in first
    assert "with --shutdown or --snapshot" in second
    counted = "4 virtual machines: 1 can be migrated, 1 run and need --shutdown or --snapshot, 2 cannot"
    assert count_text(ROWS) == counted


def test_a_job_belongs_to_the_machine_of_its_name_and_with_two_to_that_of_its_datacenter() -> None:
    machines = [listed("a"), listed("twin"), listed("twin", datacenter="DC2")]
    of_twin = derive_rehearsal_id("vc.example.com", "DC2", "twin")
    jobs = [
        job(JobKind.MIGRATION, "a", status=JobStatus.EXPORTING, ended_at=None),
        job(JobKind.REHEARSAL, "twin", job_id=of_twin),
        job(JobKind.REHEARSAL, "twin"),
        job(JobKind.MIGRATION, "a"),
        job(JobKind.REHEARSAL, "gone"),
    ]
    first, one, other = remember(machines, jobs, "vc.example.com")
    assert first.migration is not None
    assert first.migration.status is JobStatus.EXPORTING
    assert (first.rehearsal, one.rehearsal) == (None, None)
    assert other.rehearsal is not None
    assert other.rehearsal.job_id == of_twin


def test_names_are_a_file_for_a_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _print_names([listed(name) for name in ("db-01", "web server 2", "#odd", " blank", "twin", "twin")])
    said = capsys.readouterr()
    file = tmp_path / "tonight.txt"
    file.write_text(said.out)
    problems: list[str] = []
    found = read_batch(str(file), {"vcenter": {"server": "vc.example.com"}}, problems)
    assert problems == []
    assert [request.vm_name for request in found] == ["db-01", "web server 2", "twin"]
    for told in ("left out: '#odd'", "left out: ' blank'", "twin is there 2 times", "--datacenter"):
        assert told in said.err
