"""A job's own folder on its host: images, overlays, and the record of what is finished.

It lies under the output folder, so that the finished disks get to their place by a rename.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from hyperctl.workflows.request import DiskFormat

JOBS_FOLDER = ".jobs"
BOOT_UNCONVERTED = "boot_unconverted"
"""A record of the boot proof: how the unconverted guest booted, true as long as the images are the same."""

ResultT = TypeVar("ResultT", bound=BaseModel)


class Staging:
    """`OUTPUT_DIR/.jobs/JOB`, readable by its owner only."""

    def __init__(self, output_dir: str | Path, job_id: str) -> None:
        self.output_dir = Path(output_dir)
        self.folder = self.output_dir / JOBS_FOLDER / job_id
        self.job_id = job_id

    def create(self) -> None:
        """Make the folder where it is missing."""
        jobs = self.folder.parent
        jobs.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o711, exist_ok=True)

    def image(self, index: int, image_format: DiskFormat = DiskFormat.RAW) -> Path:
        return self.folder / f"disk{index}.{image_format}"

    def ledger(self, index: int) -> Path:
        return self.folder / f"disk{index}.ledger"

    def overlay(self, index: int) -> Path:
        return self.folder / f"disk{index}.overlay.qcow2"

    def proof(self) -> Path:
        """What a boot proof needs and leaves: its own overlays, the serial log, the last screen."""
        return self.folder / "proof"

    def evidence(self) -> Path:
        """What is kept of trial boots, for the clean-up to put beside the images."""
        return self.folder / "evidence"

    def finished(self, step: str, result_type: type[ResultT]) -> ResultT | None:
        """The result of a step that has finished before, or None."""
        try:
            return result_type.model_validate_json(self._record(step).read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            return None  # written by another release: the step is done again, which is always safe

    def finish(self, step: str, result: BaseModel) -> None:
        """Record durably that a step has finished and with what."""
        write_atomically(self._record(step), result.model_dump_json(indent=1).encode())

    def forget(self, *steps: str) -> None:
        """Drop records, so that the steps are done again."""
        for step in steps:
            self._record(step).unlink(missing_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=False) if self.folder.exists() else None

    def _record(self, step: str) -> Path:
        return self.folder / f"{step}.done.json"


def used_bytes(staging: Staging) -> int:
    """What the files of a working folder occupy, 0 where there is none."""
    if not staging.folder.is_dir():
        return 0
    files = (path for path in staging.folder.iterdir() if path.is_file() and not path.is_symlink())
    return sum(map(occupied_bytes, files))


def occupied_bytes(path: Path) -> int:
    """What a file takes of its file system, 0 where there is none."""
    try:
        return path.stat().st_blocks * 512
    except (FileNotFoundError, NotADirectoryError):
        return 0


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that at any moment, power loss included, it is either the old or the new one."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
