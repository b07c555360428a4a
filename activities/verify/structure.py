"""Whether a qcow2 file is sound as a whole: its virtual size, no foreign files, no errors in its tables."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.image_file import as_storage_error, image_info, wait_until_free
from hyperctl.activities.process import ProcessError, run
from hyperctl.workflows.disk import LandedDisk

CHECK_TIMEOUT_SECONDS = 6 * 3600.0


class StructureError(Exception):
    """The file is not an image of this disk, whatever its blocks hold."""


class _Check(BaseModel):
    """The part of `qemu-img check --output=json` that matters here."""

    model_config = ConfigDict(extra="ignore")

    corruptions: int = 0
    check_errors: int = Field(default=0, alias="check-errors")
    leaks: int = 0


def check_qcow2(disk: LandedDisk, running: Attempt) -> str:
    """What was looked at, in words. Raises `StructureError`, and `OSError` where it cannot be told.

    Leaked clusters take space and hold nothing; they are only worth a line.
    """
    path = Path(disk.path)
    try:
        with as_storage_error(path):
            wait_until_free(path, disk.format, running)
            info = image_info(path, disk.format, running)
            if not info.stands_alone:
                raise StructureError(
                    f"the image names a backing file, {info.named_backing!r}, or a data file"
                )
            if info.virtual_bytes != disk.capacity_bytes:
                raise StructureError(
                    f"the image is of a disk of {info.virtual_bytes} bytes, "
                    f"the source has {disk.capacity_bytes}"
                )
            argv = ["qemu-img", "check", "--output=json", "-f", disk.format, disk.path]
            checked = run(argv, running, timeout_seconds=CHECK_TIMEOUT_SECONDS, check=False)
            if checked.returncode < 0:
                raise ProcessError(checked, f"ended by signal {-checked.returncode}")
        found = _Check.model_validate_json(checked.stdout)
    except ValueError as error:
        raise StructureError(f"the image cannot be read by qemu-img: {error}") from error
    if found.corruptions or found.check_errors:
        raise StructureError(
            f"qemu-img check finds {found.corruptions} corruptions and {found.check_errors} errors in it"
        )
    if found.leaks:
        running.log.info("%s: %d clusters are leaked", disk.path, found.leaks)
    return "virtual size, qemu-img check"
