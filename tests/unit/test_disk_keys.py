"""The worker's file of disk keys: whose are tried first, and what is refused without showing any of it."""

from pathlib import Path

import pytest

from hyperctl.activities.convert.disk_keys import read_disk_keys
from hyperctl.workflows.errors import ErrorCode, HyperctlError


def keys_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys.yaml"
    path.touch(mode=mode)
    path.chmod(mode)
    path.write_text(text)
    return path


def test_the_machines_own_come_first_and_none_is_shown(tmp_path: Path) -> None:
    binary = tmp_path / "system.key"
    binary.touch(mode=0o600)
    binary.write_bytes(b"\x00\xff\n")
    text = f"passphrases: [general]\nmachines:\n  db:\n    passphrases: [own]\n    key_files: [{binary}]\n"
    path = keys_file(tmp_path, text)
    keys = read_disk_keys(path, "db")
    assert [key.content for key in keys] == [b"own", b"\x00\xff\n", b"general"]
    assert [key.content for key in read_disk_keys(path, "web")] == [b"general"]
    assert "own" not in repr(keys[0])
    assert read_disk_keys(None, "db") == ()


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open.key"
    open_to_all.write_bytes(b"secret")
    open_to_all.chmod(0o644)
    path = keys_file(tmp_path, f"key_files: [{open_to_all}]\n")
    with pytest.raises(HyperctlError, match=r"open\.key may be read") as refused:
        read_disk_keys(path, "db")
    assert refused.value.code is ErrorCode.CREDENTIALS_UNSAFE


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("passphrases: [hunter2", ErrorCode.CREDENTIALS_MISSING),
        ("passphrase: [hunter2]", ErrorCode.CREDENTIALS_MISSING),
        ("passphrases: {hunter2: 1}", ErrorCode.CREDENTIALS_MISSING),
    ],
)
def test_a_broken_file_is_refused_without_its_content(text: str, code: ErrorCode, tmp_path: Path) -> None:
    with pytest.raises(HyperctlError) as refused:
        read_disk_keys(keys_file(tmp_path, text), "db")
    assert refused.value.code is code
    assert "hunter2" not in str(refused.value) + refused.value.failure.hint


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(HyperctlError, match="No such file"):
        read_disk_keys(tmp_path / "missing.yaml", "db")
