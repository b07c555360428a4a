"""What is read of a guest's files, and written into them, is bounded."""

import os
from pathlib import Path

import pytest

from hyperctl.activities.convert.files import LARGEST_TEXT_BYTES
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work
from tests.unit.tree import tree


def test_a_sparse_file_is_not_collected_in_memory(tmp_path: Path) -> None:
    files = tree(tmp_path, {"/boot/initrd.img": b"1234"})
    assert files.content("/boot/initrd.img", 4) == b"1234"
    with pytest.raises(StepFailed, match=r"/boot/initrd\.img is larger than 3 bytes"):
        files.content("/boot/initrd.img", 3)
    os.truncate(tmp_path / "boot/initrd.img", 1 << 40)
    with pytest.raises(StepFailed, match=r"/boot/initrd\.img is larger"):
        files.content("/boot/initrd.img")


def test_what_cannot_be_written_keeps_its_attributes(tmp_path: Path) -> None:
    files = tree(tmp_path, {"/etc/fstab": "old", "/etc/folder/file": ""})
    for path in ("/etc/fstab", "/etc/folder"):
        files.guest.set_e2attrs(path, "i")
    files.replace("/etc/fstab", "new", Work())
    assert (files.text("/etc/fstab"), files.guest.get_e2attrs("/etc/fstab")) == ("new", "i")
    with pytest.raises(IsADirectoryError):
        files.replace("/etc/folder", "", Work())
    assert files.guest.get_e2attrs("/etc/folder") == "i"


def test_only_a_files_text_is_written_over(tmp_path: Path) -> None:
    files, work = tree(tmp_path, {"/etc/folder/long": " " * (LARGEST_TEXT_BYTES + 1)}), Work()
    os.mkfifo(tmp_path / "etc/pipe")
    for path in ("/etc/pipe", "/etc/folder", "/etc/folder/long"):
        with pytest.raises(StepFailed, match=f"{path} is no file of up to"):
            files.edit(path, "new", work)
    assert work.changed == []
    assert files.edit("/etc/new", "new", work)
    assert not files.edit("/etc/new", "new", work)
    assert work.changed == ["/etc/new"]
