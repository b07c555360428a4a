"""What killed processes with an appliance leave behind."""

import os
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from hyperctl.activities.acceleration import Acceleration
from hyperctl.activities.appliance import FOLDER_PREFIX, appliance_environment, remove_dead_sockets


def listening(folder: Path, resources: ExitStack) -> socket.socket:
    """As libguestfs does it."""
    folder.mkdir(parents=True)
    server = resources.enter_context(socket.socket(socket.AF_UNIX))
    server.bind(str(folder / "guestfsd.sock"))
    server.listen(1)
    return server


def test_only_sockets_that_nobody_has_open_are_removed() -> None:
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as resources:  # a socket's name is short
        folder = Path(temporary)
        waits, talks, dead = (folder / f"libguestfs{name}" for name in ("waits", "talks", "dead"))
        being_made = folder / "libguestfsmade"
        being_made.mkdir()
        listening(waits, resources)
        server = listening(talks, resources)
        client = resources.enter_context(socket.socket(socket.AF_UNIX))
        client.connect(str(talks / "guestfsd.sock"))
        accepted = resources.enter_context(server.accept()[0])
        server.close()  # it takes one connection
        listening(dead, resources).close()
        remove_dead_sockets(folder)
        assert sorted(folder.iterdir()) == sorted([waits, talks, being_made])
        accepted.close()
        client.close()
        remove_dead_sockets(folder)
        assert not talks.exists()


def test_what_an_appliance_leaves_lies_in_a_folder_that_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("LIBGUESTFS_CACHEDIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    (tmp_path / f"{FOLDER_PREFIX}killed").mkdir()
    with appliance_environment(Acceleration.TCG) as environment:
        (folder,) = tmp_path.iterdir()
        assert environment["TMPDIR"] == str(folder)
        assert environment["LIBGUESTFS_CACHEDIR"] == "/var/tmp", "it is built once"
        assert "LIBGUESTFS_BACKEND" in environment
        (folder / "libguestfs").mkdir()
    assert list(tmp_path.iterdir()) == []
    assert os.environ.get("TMPDIR") is None
