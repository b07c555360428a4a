"""A qcow2 file as a whole, as qemu-img sees it."""

import subprocess
from pathlib import Path

import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.verify.structure import StructureError, check_qcow2
from hyperctl.workflows.disk import LandedDisk

from .conftest import MIB


def qcow2(path: Path, *options: str) -> LandedDisk:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), "64M"], check=True)
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M", "-c", "write -P 8 40M 1M", str(path)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return LandedDisk(
        index=1,
        source_name="vm.vmdk",
        path=str(path),
        format="qcow2",
        ledger="",
        capacity_bytes=64 * MIB,
        allocated_bytes=2 * MIB,
        received_bytes=0,
        digest_algorithm="blake3",
        root_digest="",
    )


def test_a_sound_image_is_sound(tmp_path: Path, running: Attempt) -> None:
    assert "qemu-img check" in check_qcow2(qcow2(tmp_path / "disk.qcow2"), running)


def test_another_virtual_size_is_found(tmp_path: Path, running: Attempt) -> None:
    disk = qcow2(tmp_path / "disk.qcow2").model_copy(update={"capacity_bytes": 65 * MIB})
    with pytest.raises(StructureError, match=str(64 * MIB)):
        check_qcow2(disk, running)


def test_a_foreign_file_is_refused(tmp_path: Path, running: Attempt) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", str(tmp_path / "base"), "64M"], check=True)
    disk = qcow2(tmp_path / "disk.qcow2", "-b", str(tmp_path / "base"), "-F", "raw")
    with pytest.raises(StructureError, match="backing"):
        check_qcow2(disk, running)


def test_damaged_tables_are_found(tmp_path: Path, running: Attempt) -> None:
    disk = qcow2(tmp_path / "disk.qcow2")
    with Path(disk.path).open("r+b") as file:
        file.seek(48)
        (table,) = (int.from_bytes(file.read(8), "big"),)  # the refcount table's offset
        file.seek(table)
        file.write(bytes(8))
    with pytest.raises(StructureError, match="qemu-img check finds"):
        check_qcow2(disk, running)


def test_what_is_no_image_is_refused(tmp_path: Path, running: Attempt) -> None:
    disk = qcow2(tmp_path / "disk.qcow2")
    Path(disk.path).write_bytes(b"nothing" * 1000)
    with pytest.raises(StructureError, match="cannot be read"):
        check_qcow2(disk, running)
