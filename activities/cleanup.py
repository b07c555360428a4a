"""The end of a job on its host: evidence kept and working files removed, or the failure written down."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from temporalio import activity

from hyperctl.activities.attempt import Attempt, attempt
from hyperctl.activities.commit import commit_begun
from hyperctl.activities.output import RESULT_FILE, safe_folder_name
from hyperctl.activities.places import JobPlaces
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging, sync_folder, write_atomically
from hyperctl.activities.switched_off import SwitchedOffRecord
from hyperctl.workflows.contract import (
    CLEAN_UP,
    RECORD_FAILURE,
    CleanUpInput,
    Nothing,
    RecordFailureInput,
    RecordFailureResult,
)
from hyperctl.workflows.errors import ErrorCode, Failure, HyperctlError
from hyperctl.workflows.status import Phase

EVIDENCE_FOLDER = "evidence"
ERRORS_FOLDER = ".errors"


class ErrorRecord(BaseModel):
    """`.errors/VM.error.json`: why the last try of a VM's migration failed."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    filename: str
    error: str
    traceback: str
    phase: str
    timestamp: datetime
    hint: str
    failures: tuple[Failure, ...]


class CleanUpActivities:
    """`clean_up` and `record_failure`."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    @activity.defn(name=CLEAN_UP.name, no_thread_cancel_exception=True)
    def clean_up(self, argument: CleanUpInput) -> Nothing:
        with attempt(Phase.CLEANUP, argument.job_id, self._settings.log_dir) as running:
            clean_up(argument, running)
            SwitchedOffRecord(self._settings, argument.job_id).forget()  # it is to stay off
            _forget_places(argument, self._settings, running)
            return Nothing()

    @activity.defn(name=RECORD_FAILURE.name, no_thread_cancel_exception=True)
    def record_failure(self, argument: RecordFailureInput) -> RecordFailureResult:
        with attempt(Phase.CLEANUP, argument.job_id, self._settings.log_dir) as running:
            file = record_failure(argument)
            running.log.info("wrote %s", file)
            return RecordFailureResult(error_file=str(file))


def errors_folder(output_dir: str) -> Path:
    """Where failures of this host's migrations are kept."""
    return Path(output_dir) / ERRORS_FOLDER


def error_file(output_dir: str, vm_name: str) -> Path:
    return errors_folder(output_dir) / f"{safe_folder_name(vm_name)}.error.json"


def clean_up(argument: CleanUpInput, running: Attempt) -> None:
    """Write `migration.json`, move the ledgers, records and proofs to `evidence/`, remove the staging folder.

    Safe to run again. An error file of an earlier try of the same job goes, because it is no longer true.
    """
    folder = Path(argument.folder)
    staging = Staging(argument.output_dir, argument.job_id)
    running.report(message="keeping the evidence")
    try:
        evidence = folder / EVIDENCE_FOLDER
        evidence.mkdir(mode=0o700, exist_ok=True)
        for kept in (staging.folder, staging.evidence()):
            for source in sorted(kept.iterdir()) if kept.exists() else ():
                proves = kept == staging.evidence() or source.name.endswith((".ledger", ".done.json"))
                if source.is_file() and proves:
                    os.replace(source, evidence / source.name)
        sync_folder(evidence)
        write_atomically(folder / RESULT_FILE, argument.result.model_dump_json(indent=1).encode(), mode=0o644)
        staging.remove()
    except OSError as error:
        raise HyperctlError(ErrorCode.STORAGE_FAILED, f"cleaning up in {folder} failed: {error}") from error
    _forget_failure(argument)


def record_failure(argument: RecordFailureInput) -> Path:
    """Write the VM's error file and return its path."""
    first = argument.failures[0] if argument.failures else _unnamed()
    record = ErrorRecord(
        job_id=argument.job_id,
        filename=argument.vm_name,
        error="; ".join(failure.message for failure in argument.failures) or first.message,
        traceback=first.traceback,
        phase=argument.phase,
        timestamp=datetime.now(UTC),
        hint=first.hint,
        failures=argument.failures,
    )
    file = error_file(argument.output_dir, argument.vm_name)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(file, record.model_dump_json(indent=1).encode())
    except OSError as error:
        raise HyperctlError(ErrorCode.STORAGE_FAILED, f"{file} could not be written: {error}") from error
    return file


def _forget_places(argument: CleanUpInput, settings: HostSettings, running: Attempt) -> None:
    """An earlier copy below another output folder is of no use any more."""
    places = JobPlaces(settings, argument.job_id)
    for staging in places.staged():
        if commit_begun(staging) is None:
            try:
                staging.remove()
            except OSError as error:
                running.log.warning("an earlier copy in %s stays: %s", staging.folder, error)
                continue
            places.forget(str(staging.output_dir))
    places.forget(argument.output_dir)


def _unnamed() -> Failure:
    return Failure(code=ErrorCode.INTERNAL_ERROR, message="the migration failed without a reason")


def _forget_failure(argument: CleanUpInput) -> None:
    file = error_file(argument.output_dir, argument.result.vm_name)
    try:
        record = ErrorRecord.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return  # none, or somebody else's
    if record.job_id == argument.job_id:
        file.unlink(missing_ok=True)
        pictures = errors_folder(argument.output_dir) / argument.job_id
        if pictures.exists():
            shutil.rmtree(pictures)
