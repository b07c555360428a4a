"""A job's log is one text over the files of all its attempts."""

from pathlib import Path

from hyperctl.activities.logs import LIMIT_BYTES, JobLog


def _write(folder: Path, name: str, text: str) -> None:
    (folder / "job-1").mkdir(exist_ok=True)
    (folder / "job-1" / name).write_text(text)


def test_files_follow_each_other_and_offsets_go_on(tmp_path: Path) -> None:
    _write(tmp_path, "20260101T000000Z-export-1.log", "a\nb\n")
    log = JobLog(tmp_path, "job-1")
    first = log.read(0)
    assert (first.text, first.next_offset) == ("a\nb\n", 4)
    _write(tmp_path, "20260101T000001Z-verify-1.log", "c\n")
    assert log.read(first.next_offset).text == "c\n"


def test_a_line_that_is_still_being_written_waits(tmp_path: Path) -> None:
    _write(tmp_path, "1.log", "done\nhal")
    assert JobLog(tmp_path, "job-1").read(0).text == "done\n"


def test_a_negative_offset_counts_lines_from_the_end(tmp_path: Path) -> None:
    _write(tmp_path, "1.log", "".join(f"{n}\n" for n in range(100)))
    assert JobLog(tmp_path, "job-1").read(-2).text == "98\n99\n"


def test_an_endless_line_is_handed_on_in_pieces(tmp_path: Path) -> None:
    _write(tmp_path, "1.log", "x" * (LIMIT_BYTES + 1))
    assert len(JobLog(tmp_path, "job-1").read(0).text) == LIMIT_BYTES


def test_an_unknown_job_and_a_job_that_names_a_path_have_no_log(tmp_path: Path) -> None:
    _write(tmp_path, "1.log", "secret\n")
    assert JobLog(tmp_path / "job-1", "../job-1").read(0).text == ""
    assert JobLog(tmp_path, "job-2").read(0).text == ""
