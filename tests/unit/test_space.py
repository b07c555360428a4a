"""What is said where images find no room."""

import errno
import os
import threading
from pathlib import Path

import pytest

from hyperctl.activities.export import space_watch
from hyperctl.activities.export.space import storage_errors
from hyperctl.activities.export.space_watch import SpaceWatch
from hyperctl.workflows.errors import ErrorCode, HyperctlError

REFUSED = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def test_a_quota_is_told_as_one_and_without_a_number(tmp_path: Path) -> None:
    told = "a quota of the worker's user"
    with pytest.raises(HyperctlError, match=told) as caught, storage_errors(tmp_path / "disk1.raw", 1 << 30):
        raise REFUSED
    assert caught.value.code is ErrorCode.NO_SPACE


def test_a_copy_that_a_quota_holds_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_watch, "TRY_AGAIN_SECONDS", 0.3)
    watch = SpaceWatch(tmp_path, 0, 60.0, lambda: 1)
    said: list[str] = []

    class Looking(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            said.append(watch.message)
            return super().wait(timeout)

    # There is room, so that it goes on by itself.
    watch.hold(Looking())(REFUSED)
    assert "quota used up" in said[0]
    assert "missing" not in said[0]


def test_a_file_that_is_too_large_for_its_file_system_has_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(HyperctlError) as caught, storage_errors(tmp_path / "disk1.raw", 1 << 30):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    assert "XFS" in caught.value.failure.hint
