"""What qemu-img says of an image that is a file here: its header, and whether somebody has it open."""

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.process import ProcessError, run

INFO_TIMEOUT_SECONDS = 60.0
LOCK_TIMEOUT_SECONDS = 3600.0
LOCK_POLL_SECONDS = 0.2


class _Data(BaseModel):
    model_config = ConfigDict(extra="ignore")

    data_file: str = Field(default="", alias="data-file")


class _Specific(BaseModel):
    model_config = ConfigDict(extra="ignore")

    data: _Data = _Data()


class ImageInfo(BaseModel):
    """The part of `qemu-img info --output=json` that matters here."""

    model_config = ConfigDict(extra="ignore")

    format: str
    virtual_bytes: int = Field(alias="virtual-size")
    named_backing: str = Field(default="", alias="backing-filename")
    backing: str = Field(default="", alias="full-backing-filename")
    backing_format: str = Field(default="", alias="backing-filename-format")
    specific: _Specific = Field(default=_Specific(), alias="format-specific")

    @property
    def stands_alone(self) -> bool:
        """Whether all of its content is in this one file."""
        return not (self.named_backing or self.specific.data.data_file)


class ImageBusyError(Exception):
    """Another process had an image open for too long."""


def image_info(path: Path | str, image_format: str, attempt: Attempt) -> ImageInfo:
    """Raises `ValueError` where it is no such image."""
    argv = ["qemu-img", "info", "--force-share", "--output=json", "-f", image_format, str(path)]
    try:
        return ImageInfo.model_validate_json(run(argv, attempt, timeout_seconds=INFO_TIMEOUT_SECONDS).stdout)
    except (ProcessError, ValidationError) as error:
        raise ValueError(f"{path} is no image of format {image_format}: {error}") from error


def wait_until_free(path: Path | str, image_format: str, attempt: Attempt) -> None:
    """Wait for the end of a process that has the image, or one below it, open.

    A worker that was killed may have left one that is just ending. Raises `ValueError` where the image cannot
    be read at all, `ImageBusyError`.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    argv = ["qemu-img", "info", "--backing-chain", "-f", image_format, str(path)]
    said = False
    while (locked := run(argv, attempt, timeout_seconds=INFO_TIMEOUT_SECONDS, check=False)).returncode != 0:
        shared = [*argv, "--force-share"]
        if run(shared, attempt, timeout_seconds=INFO_TIMEOUT_SECONDS, check=False).returncode != 0:
            raise ValueError(f"{path} cannot be opened: {locked.complaint}")
        if time.monotonic() > deadline:
            raise ImageBusyError(f"{path} cannot be opened: {locked.complaint}")
        if not said:
            attempt.log.info("%s is in use by another process; waiting for its end", path)
            said = True
        attempt.checkpoint()
        time.sleep(LOCK_POLL_SECONDS)


@contextmanager
def as_storage_error(path: Path) -> Iterator[None]:
    """What keeps qemu-img from telling of an image of our own, as an `OSError` of its storage."""
    try:
        yield
    except (ImageBusyError, ProcessError) as error:
        raise OSError(errno.EIO, str(error), str(path)) from error
