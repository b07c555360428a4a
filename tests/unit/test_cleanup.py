"""The end of a job: evidence, result and error file."""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.cleanup import ErrorRecord, clean_up, errors_folder, record_failure
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import CleanUpInput, CommitResult, RecordFailureInput
from hyperctl.workflows.disk import OutputDisk
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.status import JobStatus, MigrationResult, Modifications, Phase
from tests.unit.machines import guest


def result(folder: Path) -> MigrationResult:
    now = datetime.now(UTC)
    return MigrationResult(
        job_id="job-1",
        vm_name="web/01",
        status=JobStatus.COMPLETED,
        host="kvm-01",
        output_dir=str(folder),
        disks=(OutputDisk(index=1, path=str(folder / "disk1.raw"), format="raw", capacity_bytes=4),),
        landed=(),
        guest=guest(),
        steps=(),
        modifications=Modifications.from_steps(()),
        proof=None,
        memory_bytes=1,
        vcpus=1,
        firmware="bios",
        source_capacity_bytes=4,
        received_bytes=2,
        started_at=now,
        completed_at=now,
        duration_seconds=1.0,
    )


def failure_of(output_dir: Path, job_id: str = "job-1") -> Path:
    return record_failure(
        RecordFailureInput(
            job_id=job_id,
            output_dir=str(output_dir),
            vm_name="web/01",
            phase="convert",
            failures=(
                Failure(code=ErrorCode.CONVERSION_FAILED, message="no kernel", hint="install one"),
                Failure(code=ErrorCode.NO_SPACE, message="/boot is full"),
            ),
        )
    )


def test_clean_up_keeps_the_evidence_and_can_be_repeated(tmp_path: Path) -> None:
    staging = Staging(tmp_path, "job-1")
    staging.create()
    folder = tmp_path / "2026-01-17" / "web_01"
    folder.mkdir(parents=True)
    staging.image(1).write_bytes(b"disk")
    (folder / "disk1.raw").hardlink_to(staging.image(1))
    staging.ledger(1).write_text("ledger")
    staging.evidence().mkdir()
    (staging.evidence() / "first-proof.png").write_bytes(b"picture")
    staging.finish("commit_conversion", CommitResult(folder=str(folder), disks=()))
    old_error = failure_of(tmp_path)
    pictures = errors_folder(str(tmp_path)) / "job-1"
    pictures.mkdir()
    argument = CleanUpInput(
        job_id="job-1", output_dir=str(tmp_path), folder=str(folder), result=result(folder)
    )
    for _ in range(2):
        clean_up(argument, Attempt(Phase.CLEANUP, logging.getLogger("test")))
        assert not staging.folder.exists()
        assert (folder / "disk1.raw").read_bytes() == b"disk"
        assert (folder / "evidence" / "disk1.ledger").read_text() == "ledger"
        assert (folder / "evidence" / "commit_conversion.done.json").exists()
        assert (folder / "evidence" / "first-proof.png").read_bytes() == b"picture"
        assert MigrationResult.model_validate_json((folder / "migration.json").read_text()).job_id == "job-1"
        assert not old_error.exists(), "a success takes back the error of an earlier try"
        assert not pictures.exists()


def test_another_jobs_error_file_stays(tmp_path: Path) -> None:
    folder = tmp_path / "2026-01-17" / "web_01"
    folder.mkdir(parents=True)
    file = failure_of(tmp_path, "job-2")
    argument = CleanUpInput(
        job_id="job-1", output_dir=str(tmp_path), folder=str(folder), result=result(folder)
    )
    clean_up(argument, Attempt(Phase.CLEANUP, logging.getLogger("test")))
    assert file.exists()


def test_a_failure_is_written_down(tmp_path: Path) -> None:
    file = failure_of(tmp_path / "not" / "there")
    assert file.name == "web_01.error.json"
    assert file.parent.name == ".errors"
    document = json.loads(file.read_text())
    assert set(document) >= {"job_id", "filename", "error", "traceback", "phase", "timestamp", "hint"}
    record = ErrorRecord.model_validate(document)
    assert (record.error, record.hint, record.phase) == ("no kernel; /boot is full", "install one", "convert")
