"""Where the finished images go, and how their folder is named."""

from pathlib import Path

import pytest

from hyperctl.activities.commit import MARKER, commit_begun, output_folder, safe_folder_name
from hyperctl.activities.staging import Staging
from hyperctl.workflows.errors import ErrorCode, HyperctlError


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


def test_the_marker_says_whether_a_merge_has_begun(tmp_path: Path) -> None:
    staging = Staging(tmp_path, "job-1")
    staging.create()
    assert commit_begun(staging) is None
    (staging.folder / MARKER).write_text('{"folder": "/srv/out/2026-01-17/web"}')
    begun = commit_begun(staging)
    assert begun is not None
    assert begun.folder == "/srv/out/2026-01-17/web"
    (staging.folder / MARKER).write_text("{")
    with pytest.raises(HyperctlError) as refused:
        commit_begun(staging)
    assert refused.value.code is ErrorCode.STORAGE_FAILED
