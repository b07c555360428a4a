"""What belongs together in a watched folder."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hyperctl.worker.dropped import Parcel, find_parcels, state_of
from tests.unit.archives import envelope

DESCRIPTOR = '# Disk DescriptorFile\nversion=1\ncreateType="twoGbMaxExtentFlat"\n\nRW 8 FLAT "{}" 0\n'


def found(folder: Path) -> dict[str, tuple[str, ...]]:
    return {parcel.path.name: parcel.names for parcel in find_parcels(folder)}


def only(folder: Path) -> Parcel:
    (parcel,) = find_parcels(folder)
    return parcel


def test_each_machine_has_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "a.ova").write_bytes(b"a")
    (tmp_path / "b.ovf").write_bytes(envelope({"b disk.vmdk": 1, "b2.vmdk": 1}, 512))
    (tmp_path / "b disk.vmdk").write_bytes(b"KDMV")
    (tmp_path / "b2.vmdk").write_text(DESCRIPTOR.format("b2-f001.vmdk"))
    (tmp_path / "b.mf").write_text("")
    (tmp_path / "c.vmdk").write_text(DESCRIPTOR.format("c-f001.vmdk"))
    for extent in ("b2-f001.vmdk", "c-f001.vmdk"):
        (tmp_path / extent).write_bytes(bytes(4096))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "d.ovf").write_bytes(envelope({"x.vmdk": 1}, 512))
    (tmp_path / "e").mkdir()
    for name in (".hidden.ova", "late.ova.part", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".processed").mkdir()
    (tmp_path / ".processed" / "old.ova").write_bytes(b"x")
    assert found(tmp_path) == {
        "a.ova": ("a.ova",),
        "b.ovf": ("b.ovf", "b disk.vmdk", "b.mf", "b2-f001.vmdk", "b2.vmdk"),
        "c.vmdk": ("c.vmdk", "c-f001.vmdk"),
        "d": ("d",),
    }


def test_a_reference_is_understood_as_it_is_meant(tmp_path: Path) -> None:
    text = envelope({"NAME": 1}, 512).replace(b'href="NAME"', b"href = 'a%20b &amp; c.vmdk'")
    (tmp_path / "b.ovf").write_bytes(text)
    (tmp_path / "a b & c.vmdk").write_bytes(b"KDMV")
    assert found(tmp_path) == {"b.ovf": ("b.ovf", "a b & c.vmdk")}


def test_what_is_missing_or_may_be_a_part_is_not_whole(tmp_path: Path) -> None:
    (tmp_path / "b.vmdk").write_bytes(b"KDMV")
    assert not only(tmp_path).is_whole
    (tmp_path / "b.ovf").write_bytes(envelope({"b.vmdk": 1, "b2.vmdk": 1}, 512))
    assert not only(tmp_path).is_whole
    (tmp_path / "b2.vmdk").write_bytes(b"KDMV")
    assert only(tmp_path).is_whole


@pytest.mark.parametrize("name", ["../other.vmdk", "/etc/passwd", "..%2Fother.vmdk", "other.ova"])
def test_nothing_of_others_is_carried_away(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "watched"
    folder.mkdir()
    (tmp_path / "other.vmdk").write_bytes(b"x")
    (folder / "other.ova").write_bytes(b"x")
    (folder / "b.ovf").write_bytes(envelope({name: 1}, 512))
    assert found(folder)["b.ovf"] == ("b.ovf",)


def test_a_job_is_of_one_state_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "b.ovf").write_bytes(envelope({"b.vmdk": 1}, 512))
    (tmp_path / "b.vmdk").write_bytes(b"KDMV")
    before, folder = only(tmp_path), state_of(tmp_path)
    assert only(tmp_path).job_id == before.job_id
    os.utime(tmp_path / "b.vmdk", (1, 1))
    assert only(tmp_path).job_id != before.job_id
    assert state_of(tmp_path) != folder


def test_a_pipe_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "b.vmdk")
    os.mkfifo(tmp_path / "c.ovf")
    assert found(tmp_path) == {"b.vmdk": ("b.vmdk",), "c.ovf": ("c.ovf",)}


def test_a_folder_closed_to_us_holds_nobody_up() -> None:
    """As `lost+found` is at the top of a file system."""
    with TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "lost+found").mkdir(mode=0)
        (folder / "a.ova").write_bytes(b"a")
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # root may read every folder
        try:
            assert found(folder) == {"a.ova": ("a.ova",)}
            assert state_of(folder)
        finally:
            os.seteuid(user)
