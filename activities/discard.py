"""What a job has left on this host: told, and deleted on request, but only what is provably the job's.

Working folders are the job's by their name. Finished images are, while the job goes on, by the commit's
marker and by being links to the job's own staged images; after its end by the result that lies beside them.
What else somebody has put there stays, and so does what a libvirt domain uses.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from temporalio import activity

from hyperctl.activities.attempt import Attempt, attempt
from hyperctl.activities.cleanup import EVIDENCE_FOLDER
from hyperctl.activities.commit import commit_begun
from hyperctl.activities.export.disks import only_copier
from hyperctl.activities.output import RESULT_FILE
from hyperctl.activities.places import JobPlaces
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging, occupied_bytes, sync_folder, used_bytes
from hyperctl.activities.target.libvirt_host import connect, disk_files
from hyperctl.workflows.contract import DISCARD_COPY, TAKE_STOCK, DiscardInput, DiscardResult
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.leftover import Leftover, LeftoverKind
from hyperctl.workflows.status import MigrationResult, Phase

DISCARDED = ".discarded-"
_OWN_NAMES = frozenset({EVIDENCE_FOLDER, RESULT_FILE})


class DiscardActivities:
    """`take_stock` and `discard_copy`."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    @activity.defn(name=TAKE_STOCK.name, no_thread_cancel_exception=True)
    def take_stock(self, argument: DiscardInput) -> DiscardResult:
        """Say what of the job is here; nothing is touched."""
        return DiscardResult(left=take_stock(argument, self._settings))

    @activity.defn(name=DISCARD_COPY.name, no_thread_cancel_exception=True)
    def discard_copy(self, argument: DiscardInput) -> DiscardResult:
        """Delete what the job has left here; say what went, and what stayed and why."""
        with attempt(Phase.CLEANUP, argument.job_id, self._settings.log_dir) as running:
            return discard(argument, self._settings, running)


def take_stock(argument: DiscardInput, settings: HostSettings) -> tuple[Leftover, ...]:
    """The job's working folders and finished images on this host."""
    found = []
    for staging in JobPlaces(settings, argument.job_id).staged(argument.output_dir):
        found += [_describe_images(images) for images in _published(staging)]
        found.append(_describe_copy(staging))
    found += [_describe_images(images) for images in _completed(argument)]
    return tuple(found)


def discard(argument: DiscardInput, settings: HostSettings, running: Attempt) -> DiscardResult:
    """Delete the job's working folders, once nobody writes there, and the images that it has published.

    Images of a completed migration only where `argument.images_dir` names their folder. Safe to run again.
    Raises `STORAGE_FAILED` where something cannot be deleted.
    """
    places = JobPlaces(settings, argument.job_id)
    removed: list[Leftover] = []
    left: list[Leftover] = []
    for staging in places.staged(argument.output_dir):
        with _deleting(staging.folder), only_copier(staging, running):
            _sweep(staging)
            kept = []
            for images in _published(staging):
                kept += _delete_images(images, settings, removed)
            left += kept
            if kept:
                # The marker is what proves these images the job's: it goes when they have gone.
                left.append(_describe_copy(staging, "it proves whose the images are"))
                continue
            gone = _describe_copy(staging)
            _delete_folder(staging)
        places.forget(str(staging.output_dir))
        removed.append(gone)
        running.log.info("%s is deleted", staging.folder)
    for images in _completed(argument):
        with _deleting(images.folder):
            left += _delete_images(images, settings, removed)
    return DiscardResult(removed=tuple(removed), left=tuple(left))


class _Images:
    """A folder of finished images and those files in it that are the job's own."""

    def __init__(self, folder: Path, files: tuple[Path, ...]) -> None:
        self.folder = folder
        self.files = files


def _published(staging: Staging) -> Iterator[_Images]:
    """What a commit that has begun has put into the output folder: links to its own images, nothing else."""
    begun = commit_begun(staging)
    if begun is None:
        return
    folder = Path(begun.folder)
    own = tuple(path for path in _files(folder) if _is_link_to_any(path, staging.folder))
    if own:
        yield _Images(folder, own)


def _completed(argument: DiscardInput) -> Iterator[_Images]:
    """The images of a completed migration of this job, in the folder that was named."""
    if not argument.images_dir:
        return
    folder = Path(argument.images_dir)
    try:
        result = MigrationResult.model_validate_json((folder / RESULT_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return
    if result.job_id == argument.job_id and Path(result.output_dir) == folder:
        named = {Path(disk.path) for disk in result.disks}
        yield _Images(folder, tuple(path for path in _files(folder) if path in named))


def _delete_images(images: _Images, settings: HostSettings, removed: list[Leftover]) -> list[Leftover]:
    """Delete them unless a domain uses them; what stays, and why."""
    reason = _in_use(images.files, settings.libvirt_uri)
    if reason:
        return [_describe_images(images, reason)]
    gone = _describe_images(images)
    for path in images.files:
        path.unlink()
    for name in _OWN_NAMES:
        path = images.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    removed.append(gone)
    if any(images.folder.iterdir()):
        return []  # somebody has put something of their own there
    images.folder.rmdir()
    sync_folder(images.folder.parent)
    return []


def _in_use(files: tuple[Path, ...], libvirt_uri: str) -> str:
    """Why these images must stay: a domain has them as its disks, or nobody can say whether one has."""
    paths = {str(path) for path in files}
    try:
        with connect(libvirt_uri) as connection:
            users = [domain.name() for domain in connection.listAllDomains() if disk_files(domain) & paths]
    except HyperctlError as error:
        return f"whether a domain uses it cannot be known: {error.failure.message}"
    if not users:
        return ""
    name = users[0]
    return f"the libvirt domain {name!r} uses it (virsh undefine --nvram {name!r}, then discard again)"


def _delete_folder(staging: Staging) -> None:
    """Let the folder disappear in one rename, then delete it: a copy that begins meanwhile begins anew."""
    doomed = staging.folder.with_name(f"{DISCARDED}{staging.job_id}.{uuid.uuid4().hex[:8]}")
    os.rename(staging.folder, doomed)
    sync_folder(doomed.parent)
    shutil.rmtree(doomed)


def _sweep(staging: Staging) -> None:
    """Finish deletions of this job that were cut off."""
    for doomed in staging.folder.parent.glob(f"{DISCARDED}{staging.job_id}.*"):
        shutil.rmtree(doomed)


@contextmanager
def _deleting(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HyperctlError(
            ErrorCode.STORAGE_FAILED,
            f"{folder} could not be deleted: {error}",
            "Look at the target host's file system, then: hyperctl discard.",
        ) from error


def _describe_copy(staging: Staging, reason: str = "") -> Leftover:
    return Leftover(
        kind=LeftoverKind.COPY,
        path=str(staging.folder),
        size_bytes=used_bytes(staging),
        reason=reason,
    )


def _describe_images(images: _Images, reason: str = "") -> Leftover:
    return Leftover(
        kind=LeftoverKind.IMAGES,
        path=str(images.folder),
        size_bytes=sum(map(occupied_bytes, images.files)),
        reason=reason,
    )


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_link_to_any(path: Path, folder: Path) -> bool:
    try:
        return any(os.path.samefile(path, other) for other in _files(folder))
    except FileNotFoundError:
        return False
