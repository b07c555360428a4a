"""Whether a qcow2 file is sound as a whole: its virtual size, no foreign files, no errors in its tables."""

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.process import ProcessError, run
from hyperctl.workflows.disk import LandedDisk

INFO_TIMEOUT_SECONDS = 60.0
CHECK_TIMEOUT_SECONDS = 3600.0


class StructureError(Exception):
    """The file is not an image of this disk, whatever its blocks hold."""


class _Info(BaseModel):
    """The part of `qemu-img info --output=json` that matters here."""

    model_config = ConfigDict(extra="ignore")

    virtual_bytes: int = Field(alias="virtual-size")
    backing: str = Field(default="", alias="backing-filename")


class _Check(BaseModel):
    """The part of `qemu-img check --output=json` that matters here."""

    model_config = ConfigDict(extra="ignore")

    corruptions: int = 0
    check_errors: int = Field(default=0, alias="check-errors")
    leaks: int = 0


def check_qcow2(disk: LandedDisk, running: Attempt) -> str:
    """What was looked at, in words. Raises `StructureError`.

    Leaked clusters take space and hold nothing; they are only worth a line.
    """
    try:
        info = _Info.model_validate_json(
            run(
                ["qemu-img", "info", "--output=json", "-f", "qcow2", disk.path],
                running,
                timeout_seconds=INFO_TIMEOUT_SECONDS,
            ).stdout
        )
        if info.backing:
            raise StructureError(f"the image names a backing file, {info.backing!r}")
        if info.virtual_bytes != disk.capacity_bytes:
            raise StructureError(
                f"the image is of a disk of {info.virtual_bytes} bytes, the source has {disk.capacity_bytes}"
            )
        checked = run(
            ["qemu-img", "check", "--output=json", "-f", "qcow2", disk.path],
            running,
            timeout_seconds=CHECK_TIMEOUT_SECONDS,
            check=False,
        )
        found = _Check.model_validate_json(checked.stdout)
    except (ProcessError, ValidationError) as error:
        raise StructureError(f"the image cannot be read by qemu-img: {error}") from error
    if found.corruptions or found.check_errors:
        raise StructureError(
            f"qemu-img check finds {found.corruptions} corruptions and {found.check_errors} errors in it"
        )
    if found.leaks:
        running.log.info("%s: %d clusters are leaked", disk.path, found.leaks)
    return "virtual size, qemu-img check"
