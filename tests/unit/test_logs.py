"""A job's log is one file, in which offsets stay what they are."""

from pathlib import Path

from hyperctl.activities.attempt import attempt
from hyperctl.activities.logs import LIMIT_BYTES, JobLog
from hyperctl.workflows.status import Phase


def _write(folder: Path, name: str, text: str) -> None:
    (folder / "job-1").mkdir(exist_ok=True)
    (folder / "job-1" / name).write_text(text)


def test_attempts_side_by_side_are_read_in_the_order_of_their_lines(tmp_path: Path) -> None:
    """Both begin in one second, and the first goes on after the second has begun: offsets must not move."""
    log = JobLog(tmp_path, "job-1")
    with attempt(Phase.VERIFY, "job-1", tmp_path) as verify:
        verify.log.info("one")
        first = log.read(0)
        with attempt(Phase.CONVERT, "job-1", tmp_path) as convert:
            convert.log.info("two")
            verify.log.info("three")
            second = log.read(first.next_offset)
    lines = (first.text + second.text).splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["begins", "one", "begins", "two", "three"]
    assert " verify 1 INFO one" in lines[1]
    assert log.read(0).text == first.text + second.text + log.read(second.next_offset).text


def test_attempts_of_one_phase_do_not_write_each_others_lines(tmp_path: Path) -> None:
    with attempt(Phase.IMPORT, "job-1", tmp_path) as one, attempt(Phase.IMPORT, "job-1", tmp_path):
        one.log.info("once")
    assert JobLog(tmp_path, "job-1").read(0).text.count("once") == 1


def test_a_line_that_is_still_being_written_waits(tmp_path: Path) -> None:
    _write(tmp_path, "job.log", "done\nhal")
    assert JobLog(tmp_path, "job-1").read(0).text == "done\n"


def test_a_negative_offset_counts_lines_from_the_end(tmp_path: Path) -> None:
    _write(tmp_path, "job.log", "".join(f"{n}\n" for n in range(100)))
    assert JobLog(tmp_path, "job-1").read(-2).text == "98\n99\n"


def test_the_end_of_a_long_log_is_found_from_its_end(tmp_path: Path) -> None:
    lines = [f"{n} {'x' * 997}\n" for n in range(300)]
    _write(tmp_path, "job.log", "".join(lines) + "half")
    assert JobLog(tmp_path, "job-1").read(-201).text == "".join(lines[100:])
    assert JobLog(tmp_path, "job-1").read(-1000).text.startswith("0 x")


def test_an_endless_line_is_handed_on_in_pieces(tmp_path: Path) -> None:
    _write(tmp_path, "job.log", "x" * (LIMIT_BYTES + 1))
    assert len(JobLog(tmp_path, "job-1").read(0).text) == LIMIT_BYTES


def test_an_unknown_job_and_a_job_that_names_a_path_have_no_log(tmp_path: Path) -> None:
    _write(tmp_path, "job.log", "secret\n")
    assert JobLog(tmp_path / "job-1", "../job-1").read(0).text == ""
    assert JobLog(tmp_path, "job-2").read(0).text == ""
