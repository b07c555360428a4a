"""Where a job has staged on this host, recorded apart from the copies: its output folder may change."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging, write_atomically
from hyperctl.workflows.errors import ErrorCode, HyperctlError

FOLDER = "jobs"


class _Record(BaseModel):
    """The record's content."""

    model_config = ConfigDict(frozen=True)

    output_dirs: tuple[str, ...] = ()


class JobPlaces:
    """`WORK_DIR/jobs/JOB.json`: every output folder below which the job has begun to stage."""

    def __init__(self, settings: HostSettings, job_id: str) -> None:
        self._usual = settings.output_dir
        self._job_id = job_id
        self._path = settings.work_dir / FOLDER / f"{Path(job_id).name}.json"

    def add(self, output_dir: str) -> None:
        """Record a place, durably, before anything is put there."""
        known = self._read()
        if output_dir in known:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write((*known, output_dir))

    def forget(self, output_dir: str) -> None:
        """Nothing of the job is left there."""
        known = self._read()
        if output_dir in known:
            self._write(tuple(other for other in known if other != output_dir))

    def staged(self, *also: str) -> tuple[Staging, ...]:
        """The working folders of the job that exist: in the recorded places, the usual one and these."""
        places = dict.fromkeys((*(place for place in also if place), *self._read(), self._usual))
        found = {staging.folder: staging for staging in (Staging(place, self._job_id) for place in places)}
        return tuple(staging for staging in found.values() if staging.folder.is_dir())

    def _read(self) -> tuple[str, ...]:
        try:
            return _Record.model_validate_json(self._path.read_bytes()).output_dirs
        except FileNotFoundError:
            return ()
        except ValidationError as error:
            raise HyperctlError(
                ErrorCode.STORAGE_FAILED,
                f"the record {self._path} is damaged",
                "It names the output folders with a .jobs/ folder of this job. Delete it once you have them.",
            ) from error

    def _write(self, output_dirs: tuple[str, ...]) -> None:
        if output_dirs:
            write_atomically(self._path, _Record(output_dirs=output_dirs).model_dump_json().encode())
        else:
            self._path.unlink(missing_ok=True)
