"""The marker that says how far a merge has come."""

from pathlib import Path

import pytest

from hyperctl.activities.commit import MARKER, commit_begun
from hyperctl.activities.staging import Staging
from hyperctl.workflows.errors import ErrorCode, HyperctlError


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
