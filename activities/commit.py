"""Make the conversion part of the images, and put them into the output folder.

The overlays are merged into their bases, all disks of the guest, and stay beside them until the job is
cleaned up: base and overlay together show the converted disk at every moment, so a merge that was cut off at
any point is simply done again. A durable marker goes first; from then on a base no longer matches its
ledger and the overlays must not be thrown away. The output folder appears in one rename, complete; its images
are links to the staged ones, so that the records of the earlier steps stay true until the job is cleaned up.
"""

import os
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from temporalio import activity

from hyperctl.activities.attempt import Attempt, attempt
from hyperctl.activities.chain import state_of_base
from hyperctl.activities.image_file import ImageBusyError, image_info, wait_until_free
from hyperctl.activities.output import choose_folder, output_exists
from hyperctl.activities.process import ProcessError, run
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging, sync_folder, write_atomically
from hyperctl.workflows.contract import COMMIT_CONVERSION, CommitInput, CommitResult
from hyperctl.workflows.disk import ConvertedDisk, OutputDisk
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.status import DiskProgress, Phase

STEP = COMMIT_CONVERSION.name
MARKER = f"{STEP}.begun"
COMMIT_TIMEOUT_SECONDS = 6 * 3600.0
FOLDER_MODE = 0o711
"""qemu runs as a user of its own and must pass through; only the owner may list."""


class Begun(BaseModel):
    """The marker's content: where the images are going."""

    model_config = ConfigDict(frozen=True)

    folder: str


class CommitActivities:
    """`commit_conversion`."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    @activity.defn(name=COMMIT_CONVERSION.name, no_thread_cancel_exception=True)
    def commit_conversion(self, argument: CommitInput) -> CommitResult:
        with attempt(Phase.IMPORT, argument.job_id, self._settings.log_dir) as running:
            return commit(argument, running)


def commit_begun(staging: Staging) -> Begun | None:
    """Whether the merge of a job's overlays has begun, and for which folder.

    From then on the bases no longer match their ledgers, and the overlays must stay.
    """
    try:
        return Begun.model_validate_json((staging.folder / MARKER).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise HyperctlError(
            ErrorCode.STORAGE_FAILED, f"the marker {staging.folder / MARKER} is damaged: {error}"
        ) from error


def commit(argument: CommitInput, running: Attempt) -> CommitResult:
    """Merge every overlay into its base and bring the images to their place.

    Safe to run again after being stopped at any moment: the folder is chosen once, with the marker. Raises
    `OUTPUT_EXISTS` when somebody else's images are in that place, `IMAGE_INVALID` for an overlay over another
    base, `STORAGE_FAILED`.
    """
    staging = Staging(argument.output_dir, argument.job_id)
    known = staging.finished(STEP, CommitResult)
    if known is not None and all(Path(disk.path).exists() for disk in known.disks):
        running.log.info("committed before, in %s", known.folder)
        return known
    begun = commit_begun(staging)
    if begun is not None:
        folder = Path(begun.folder)
    else:
        folder = choose_folder(argument.output_dir, argument.date, argument.vm_name, argument.job_id)
        for disk in argument.disks:
            _check_overlay(disk, running)
        running.checkpoint()
        write_atomically(staging.folder / MARKER, Begun(folder=str(folder)).model_dump_json().encode())
    for disk in argument.disks:
        _merge(disk, argument.disks, running)
    if not _is_published(argument.disks, folder):
        _publish(argument.disks, staging, folder)
    result = CommitResult(
        folder=str(folder),
        disks=tuple(
            OutputDisk(
                index=disk.index,
                path=str(folder / _image_name(disk)),
                format=disk.base_format,
                capacity_bytes=disk.capacity_bytes,
            )
            for disk in argument.disks
        ),
    )
    staging.finish(STEP, result)
    return result


def _image_name(disk: ConvertedDisk) -> str:
    return f"disk{disk.index}.{disk.base_format}"


def _check_overlay(disk: ConvertedDisk, running: Attempt) -> None:
    """The overlay must be one of ours over just this base: a merge writes to whatever its header names."""
    try:
        info = image_info(disk.overlay, "qcow2", running)
    except ValueError as error:
        raise HyperctlError(
            ErrorCode.IMAGE_INVALID, f"the overlay {disk.overlay} cannot be read: {error}"
        ) from error
    fits = (
        info.backing_format == disk.base_format and Path(info.backing).resolve() == Path(disk.base).resolve()
    )
    if not fits:
        raise HyperctlError(
            ErrorCode.IMAGE_INVALID,
            f"the overlay {disk.overlay} lies over {info.backing!r} ({info.backing_format}) "
            f"and not over {disk.base} ({disk.base_format})",
        )
    if disk.base_state not in ("", state_of_base(disk.base)):
        raise HyperctlError(
            ErrorCode.IMAGE_INVALID,
            f"{disk.base} is not the image that was converted: somebody has changed, removed or replaced it",
            "Put that one back, or delete what is here (hyperctl discard --job JOB) and migrate it again.",
        )


def _merge(disk: ConvertedDisk, disks: tuple[ConvertedDisk, ...], running: Attempt) -> None:
    """Write the overlay's clusters into the base; the overlay keeps them (`-d`), so it can be done again."""
    progress = tuple(
        DiskProgress(
            index=other.index,
            name=_image_name(other),
            done_bytes=other.capacity_bytes if other.index < disk.index else 0,
            total_bytes=other.capacity_bytes,
            finished=other.index < disk.index,
        )
        for other in disks
    )
    running.report(message=f"waiting until disk {disk.index} is free", disks=progress)
    try:
        # A worker that was killed leaves its qemu-img behind, which holds the images' locks until it is done.
        wait_until_free(disk.overlay, "qcow2", running)
    except (ValueError, ImageBusyError) as error:
        raise HyperctlError(ErrorCode.STORAGE_FAILED, str(error)) from error
    running.report(message=f"merging the conversion into disk {disk.index}", disks=progress)
    try:
        run(
            ["qemu-img", "commit", "-q", "-f", "qcow2", "-d", disk.overlay],
            running,
            timeout_seconds=COMMIT_TIMEOUT_SECONDS,
        )
    except ProcessError as error:
        raise HyperctlError(
            ErrorCode.STORAGE_FAILED,
            f"the conversion could not be merged into {disk.base}: {error}",
            "Nothing is lost: a retry goes on with the merge.",
        ) from error
    descriptor = os.open(disk.base, os.O_RDWR)
    try:
        os.fchown(descriptor, os.geteuid(), os.getegid())
        os.fchmod(descriptor, 0o600)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_published(disks: tuple[ConvertedDisk, ...], folder: Path) -> bool:
    """Whether the folder is there with links to just our images; anybody else's is not ours."""
    try:
        return all(os.path.samefile(disk.base, folder / _image_name(disk)) for disk in disks)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _publish(disks: tuple[ConvertedDisk, ...], staging: Staging, folder: Path) -> None:
    """Let the output folder appear, complete, in one rename."""
    ready = staging.folder / "output"
    if ready.exists():
        shutil.rmtree(ready)
    ready.mkdir(mode=FOLDER_MODE)
    for disk in disks:
        os.link(disk.base, ready / _image_name(disk))
    sync_folder(ready)
    folder.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    try:
        os.rename(ready, folder)
    except OSError as error:
        if folder.exists():
            raise output_exists(folder) from error
        raise HyperctlError(
            ErrorCode.STORAGE_FAILED, f"{folder} could not be made: {error.strerror}"
        ) from error
    sync_folder(folder.parent)
    sync_folder(folder.parent.parent)
