"""The set-up's outcome: used only while all of it is there."""

import json
from pathlib import Path

import pytest

from deploy.dev import prepare
from deploy.dev.prepare import NotSetUp, load_parts


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set-up that has ended well."""
    for name in ("temporal", "vcenter"):
        (tmp_path / name).touch()
    guest = tmp_path / "guests" / "web-server-01"
    guest.mkdir(parents=True)
    (guest / "guest.json").touch()
    parts = tmp_path / "parts.json"
    names = ("temporal", "vcenter", "guests")
    parts.write_text(json.dumps({name: str(tmp_path / name) for name in names}))
    monkeypatch.setattr(prepare, "PARTS", parts)
    return tmp_path


def test_a_complete_set_up_is_used(made: Path) -> None:
    assert load_parts().guests == made / "guests"


@pytest.mark.parametrize("gone", ["parts.json", "temporal", "vcenter", "guests/web-server-01/guest.json"])
def test_what_is_missing_is_said_with_what_to_do(made: Path, gone: str) -> None:
    """A folder without a guest counts as missing: a vCenter that holds nothing serves nobody."""
    (made / gone).unlink()
    with pytest.raises(NotSetUp, match="run deploy/dev/setup"):
        load_parts()
