"""Addresses of the disks under an overlay."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hyperctl.activities.chain import files_of, nbd_address, nbd_socket
from hyperctl.workflows.disk import ConvertedDisk


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_any_socket_comes_back_from_its_address(name: str) -> None:
    socket = str(Path("/run") / name.replace("/", "_"))
    assert nbd_socket(nbd_address(Path(socket))) == socket


def test_a_file_has_no_socket() -> None:
    assert nbd_socket("/srv/images/disk1.raw") == ""
    assert nbd_socket("/srv/?socket=/x") == ""


def test_only_files_are_made_readable_for_qemu() -> None:
    overlay = "/srv/disk1.overlay.qcow2"
    remote = ConvertedDisk(
        index=1, base=nbd_address(Path("/s")), base_format="raw", overlay=overlay, capacity_bytes=1
    )
    local = remote.model_copy(update={"base": "/srv/disk1.raw"})
    assert list(files_of([remote])) == [Path(overlay)]
    assert list(files_of([local])) == [Path("/srv/disk1.raw"), Path(overlay)]
