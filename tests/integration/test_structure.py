"""A qcow2 file as a whole, as qemu-img sees it."""

import subprocess
import threading
from pathlib import Path

import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.ledger import LedgerHeader, create_ledger, read_ledger
from hyperctl.activities.verify.activity import verify_disks
from hyperctl.activities.verify.structure import StructureError, check_qcow2
from hyperctl.workflows.contract import VerifyInput
from hyperctl.workflows.disk import LandedDisk
from hyperctl.workflows.request import VerifyMode

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


def test_an_image_in_use_is_waited_for_and_not_called_damaged(tmp_path: Path, running: Attempt) -> None:
    """Whoever is called damaged is thrown away and fetched anew, however long that takes."""
    disk = qcow2(tmp_path / "disk.qcow2")
    with subprocess.Popen(
        ["qemu-io", "-f", "qcow2", disk.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as user:
        assert user.stdin is not None
        assert user.stdout is not None
        user.stdin.write(b"read 0 512\n")
        user.stdin.flush()
        user.stdout.readline()  # it has the image open
        threading.Timer(0.5, user.stdin.close).start()
        assert "qemu-img check" in check_qcow2(disk, running)
        assert user.poll() is not None or user.stdin.closed


def test_a_missing_programme_is_no_damage(
    tmp_path: Path, running: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = qcow2(tmp_path / "disk.qcow2")
    ledger = tmp_path / "ledger"
    landed = create_ledger(ledger, LedgerHeader(disk.capacity_bytes, "x"))
    landed.record_zeroes(range(landed.blocks.header.blocks))
    root = landed.finish(0, "").root_digest
    landed.close()
    disk = disk.model_copy(update={"ledger": str(ledger), "root_digest": root})
    monkeypatch.setenv("PATH", str(tmp_path))
    order = VerifyInput(job_id="job", output_dir=str(tmp_path), disks=(disk,), mode=VerifyMode.FULL)
    with pytest.raises(FileNotFoundError, match="qemu-img"):
        verify_disks(order, running)
    assert read_ledger(ledger).finish is not None, "nothing of the copy was thrown away"
