"""The watched folder: what is dropped there becomes a migration, and is put away when that has ended.

Nothing is remembered but what the folder and Temporal hold. A job's id follows from the path and the state of
what was dropped: the same file is never started twice, whoever restarts when, and another file of the same
name is another job.
"""

import asyncio
import json
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pydantic import ValidationError
from temporalio.client import Client, WorkflowExecutionDescription

from hyperctl.activities.cleanup import ERRORS_FOLDER, ErrorRecord
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import sync_folder, write_atomically
from hyperctl.client.errors import ClientError, JobNotFound
from hyperctl.client.migration import Migration
from hyperctl.client.observe import is_open, job_status
from hyperctl.client.sdk import MigrationClient
from hyperctl.worker.dropped import Parcel, find_parcels, state_of
from hyperctl.worker.settings import WorkerSettings
from hyperctl.workflows.errors import HyperctlError
from hyperctl.workflows.request import FileSource, MigrationRequest
from hyperctl.workflows.status import JobStatus

logger = logging.getLogger("hyperctl.watch")

POLL_SECONDS = 2.0
PROCESSED_FOLDER = ".processed"
REQUESTED_BY = "watched folder"
_MARKER = ".moving.json"


@asynccontextmanager
async def watching(client: Client, host: HostSettings, settings: WorkerSettings) -> AsyncIterator[None]:
    """Watch the folder of the settings, if they name one, until the block ends."""
    if settings.watch_dir is None:
        yield
        return
    watcher = Watcher(MigrationClient(client), host.host, settings.watch_dir, settings)
    task = asyncio.create_task(watcher.run(), name="watched folder")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Watcher:
    """Starts what lies in one folder, and puts it away."""

    def __init__(self, client: MigrationClient, host: str, folder: Path, settings: WorkerSettings) -> None:
        self._client = client
        self._host = host
        self._folder = folder
        self._stable_seconds = settings.file_stable_timeout
        self._deletes = settings.cleanup_source
        self._since: dict[Path, tuple[str, float]] = {}
        self._said: dict[Path, str] = {}

    async def run(self) -> None:
        """Look again and again; nothing that goes wrong with one file or one look is the end."""
        logger.info("watching %s", self._folder)
        while True:
            await self._guarded(self._folder, self.look())
            await asyncio.sleep(POLL_SECONDS)

    async def look(self) -> None:
        """One look: go on with what was being put away, then serve every machine that has come to rest."""
        for parcel in await asyncio.to_thread(self._rested):
            await self._guarded(parcel.path, self._serve(parcel))

    def _rested(self) -> list[Parcel]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for marker in self._folder.glob(f"{PROCESSED_FOLDER}/*{_MARKER}"):
            try:
                self._carry_away(marker)
                self._said.pop(marker, None)
            except (OSError, ValueError) as error:  # the others do not wait for this one
                self._say(marker, error)
        parcels = find_parcels(self._folder)
        folder_rests = self._rests(self._folder, state_of(self._folder))
        known = {self._folder, *(parcel.path for parcel in parcels)}
        self._since = {path: seen for path, seen in self._since.items() if path in known}
        rested = [parcel for parcel in parcels if self._rests(parcel.path, parcel.state)]
        return [parcel for parcel in rested if parcel.is_whole or folder_rests]

    def _rests(self, path: Path, state: str) -> bool:
        """Whether the state has been this one for long enough."""
        now = time.monotonic()
        before, since = self._since.get(path, ("", now))
        if before != state:
            since = now
        self._since[path] = (state, since)
        return now - since >= self._stable_seconds

    async def _serve(self, parcel: Parcel) -> None:
        try:
            migration = await self._client.get(parcel.job_id)
        except JobNotFound:
            request = MigrationRequest(
                file=FileSource(path=str(parcel.path)), host=self._host, requested_by=REQUESTED_BY
            )
            await self._client.start(request, job_id=parcel.job_id)
            logger.info("%s: %s is started", parcel.path, parcel.job_id)
            return
        description = await migration.describe()
        if is_open(description):
            return
        if job_status(description) is JobStatus.COMPLETED:
            await asyncio.to_thread(self._put_away, parcel)
        elif not await asyncio.to_thread(self._is_recorded, parcel, description):
            record = await _record(parcel, migration, description)
            await asyncio.to_thread(self._write, parcel, record)

    def _put_away(self, parcel: Parcel) -> None:
        """Note first what is to be carried away: half of a machine would be taken for another one."""
        processed = self._folder / PROCESSED_FOLDER
        processed.mkdir(mode=0o700, exist_ok=True)
        taken = any(os.path.lexists(processed / name) for name in parcel.names)
        target = processed / parcel.job_id if taken else processed
        marker = processed / f"{parcel.job_id}{_MARKER}"
        write_atomically(marker, json.dumps([str(target), *parcel.names]).encode())
        self._carry_away(marker)
        self._error_file(parcel).unlink(missing_ok=True)
        logger.info("%s: migrated, and %s", parcel.path, "deleted" if self._deletes else "put away")

    def _carry_away(self, marker: Path) -> None:
        place, *names = json.loads(marker.read_bytes())
        target = Path(place)
        target.mkdir(mode=0o700, exist_ok=True)
        for name in names:
            source = self._folder / name
            with suppress(FileNotFoundError):  # gone there already
                if not self._deletes:
                    os.rename(source, target / name)
                elif source.is_dir() and not source.is_symlink():
                    shutil.rmtree(source)
                else:
                    source.unlink()
        sync_folder(self._folder)
        sync_folder(target)
        marker.unlink(missing_ok=True)

    def _error_file(self, parcel: Parcel) -> Path:
        return self._folder / ERRORS_FOLDER / f"{parcel.path.name}.error.json"

    def _is_recorded(self, parcel: Parcel, description: WorkflowExecutionDescription) -> bool:
        """Whether the error file speaks of this end of this job: after a retry there is another."""
        try:
            record = ErrorRecord.model_validate_json(self._error_file(parcel).read_bytes())
        except (FileNotFoundError, ValidationError):
            return False
        return record.job_id == parcel.job_id and record.timestamp == description.close_time

    def _write(self, parcel: Parcel, record: ErrorRecord) -> None:
        file = self._error_file(parcel)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        write_atomically(file, record.model_dump_json(indent=1).encode())
        logger.warning("%s: %s; see %s", parcel.path, record.error, file)

    async def _guarded(self, path: Path, work: Awaitable[None]) -> None:
        """Say what goes wrong, once; the next look tries again."""
        try:
            await work
            self._said.pop(path, None)
        except (OSError, ValueError, HyperctlError, ClientError) as error:
            self._say(path, error)

    def _say(self, path: Path, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if self._said.get(path) != text:
            logger.warning("%s: %s", path, text)
        self._said[path] = text


async def _record(
    parcel: Parcel, migration: Migration, description: WorkflowExecutionDescription
) -> ErrorRecord:
    status = await migration.status()
    first = status.failures[0] if status.failures else None
    return ErrorRecord(
        job_id=parcel.job_id,
        filename=parcel.path.name,
        error="; ".join(failure.message for failure in status.failures)
        or f"the migration is {status.status}",
        traceback=first.traceback if first else "",
        phase=status.phase,
        timestamp=description.close_time or status.updated_at,
        hint=(first.hint if first else "") or f"Try again: hyperctl retry --job {parcel.job_id}",
        failures=status.failures,
    )
