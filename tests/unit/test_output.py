"""Where the finished images go, and how their folder is named."""

from pathlib import Path

import pytest

from hyperctl.activities.output import RESULT_FILE, choose_folder, output_folder, safe_folder_name
from hyperctl.workflows.errors import ErrorCode, HyperctlError

DAY = "2026-01-17"


@pytest.mark.parametrize(
    ("name", "safe"),
    [("web-server-01", "web-server-01"), ("a/b\\c", "a_b_c"), ("..", "__"), (".hidden", "_hidden"), ("", "_"),
     ("Büro PC (alt)", "Büro PC (alt)"), ("x\ny\x00", "x_y_"), (" .. ", "__"), ("../../etc", "___.._etc")],
)  # fmt: skip
def test_folder_names(name: str, safe: str) -> None:
    assert safe_folder_name(name) == safe
    folder = output_folder("/srv/out", "2026-01-17", name)
    assert folder.parent == Path("/srv/out/2026-01-17")
    assert folder.resolve().parent == folder.parent


def test_long_names_fit_a_filesystem() -> None:
    assert len(safe_folder_name("ü" * 255).encode()) <= 200


def leave_result(folder: Path, job_id: str) -> None:
    folder.mkdir(parents=True)
    (folder / RESULT_FILE).write_text(f'{{"job_id": "{job_id}", "vm_name": "web"}}')


def test_a_further_migration_on_a_day_gets_a_folder_beside_the_first(tmp_path: Path) -> None:
    def choose() -> str:
        return choose_folder(str(tmp_path), DAY, "web", "job-1").name

    assert choose() == "web"
    for taken, following in (("web", "web~2"), ("web~2", "web~3")):
        leave_result(tmp_path / DAY / taken, "job-1")
        assert choose() == following
    leave_result(tmp_path / DAY / "web~3", "job-of-another")
    assert choose() == "web~4"
    assert choose_folder(str(tmp_path), "2026-01-18", "web", "job-1").name == "web"


@pytest.mark.parametrize("result", ['{"job_id": "job-2"}', "{", None])
def test_a_folder_that_is_not_the_jobs_own_is_refused(tmp_path: Path, result: str | None) -> None:
    folder = tmp_path / DAY / "web"
    folder.mkdir(parents=True)
    if result is not None:
        (folder / RESULT_FILE).write_text(result)
    with pytest.raises(HyperctlError) as refused:
        choose_folder(str(tmp_path), DAY, "web", "job-1")
    assert refused.value.code is ErrorCode.OUTPUT_EXISTS
    assert str(folder) in str(refused.value)
