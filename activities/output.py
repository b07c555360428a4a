"""Where finished images go: a folder for each migration, which is never another's."""

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from hyperctl.workflows.errors import ErrorCode, HyperctlError

RESULT_FILE = "migration.json"

_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f]")


class _Owner(BaseModel):
    """Whose result lies in a folder, by its `migration.json`."""

    model_config = ConfigDict(extra="ignore")

    job_id: str


def choose_folder(output_dir: str, date: str, vm_name: str, job_id: str) -> Path:
    """`OUTPUT_DIR/DATE/VM`, or the first of `VM~2`, `VM~3` ... that is free.

    The others are for the further migrations of a day: what a completed migration of the same job has left
    stays. Raises `OUTPUT_EXISTS` where something else has the VM's folder.
    """
    first = folder = output_folder(output_dir, date, vm_name)
    if folder.exists() and not _is_result_of(folder, job_id):
        raise output_exists(folder)
    number = 1
    while folder.exists():
        number += 1
        folder = first.with_name(f"{first.name}~{number}")
    return folder


def output_folder(output_dir: str, date: str, vm_name: str) -> Path:
    """`OUTPUT_DIR/DATE/VM`, with the VM's name made safe as a folder's."""
    return Path(output_dir) / date / safe_folder_name(vm_name)


def safe_folder_name(vm_name: str) -> str:
    """The name without separators and control characters, never hidden, never `.` or `..`."""
    name = _UNSAFE.sub("_", vm_name).strip()
    name = re.sub(r"^\.+", lambda dots: "_" * len(dots[0]), name) or "_"
    while len(name.encode()) > 200:
        name = name[:-1]
    return name


def nearest(path: Path) -> Path:
    """The path itself or the nearest folder above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def output_exists(folder: Path) -> HyperctlError:
    return HyperctlError(
        ErrorCode.OUTPUT_EXISTS,
        f"{folder} already exists and is not this migration's",
        "Move it away, or give another --output-dir.",
    )


def _is_result_of(folder: Path, job_id: str) -> bool:
    """Whether a completed migration of this job has left the folder."""
    try:
        return _Owner.model_validate_json((folder / RESULT_FILE).read_bytes()).job_id == job_id
    except (OSError, ValidationError):
        return False
