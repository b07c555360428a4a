"""A copy that an earlier try of the job has left below another output folder, and how to go on from it."""

import os
from dataclasses import dataclass

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.commit import commit_begun
from hyperctl.activities.export.disks import FOLLOWING_STEPS, only_copier
from hyperctl.activities.output import nearest
from hyperctl.activities.places import JobPlaces
from hyperctl.activities.staging import Staging, sync_folder
from hyperctl.workflows.errors import ErrorCode, HyperctlError


@dataclass(frozen=True, slots=True)
class EarlierCopy:
    """A working folder of the job below another output folder than today's."""

    staging: Staging
    can_move: bool
    """It is on the same filesystem: the disks come by a rename."""
    is_final: bool
    """Its commit has begun: the images are being put, or have been put, where they were to go."""


def earlier_copies(staging: Staging, places: JobPlaces) -> tuple[EarlierCopy, ...]:
    """The job's other working folders on this host."""
    device = nearest(staging.folder).stat().st_dev
    return tuple(
        EarlierCopy(
            staging=other,
            can_move=not staging.folder.exists() and other.folder.stat().st_dev == device,
            is_final=commit_begun(other) is not None,
        )
        for other in places.staged(str(staging.output_dir))
        if other.folder != staging.folder
    )


def final_elsewhere(staging: Staging) -> HyperctlError:
    """A job's images cannot become final twice."""
    return HyperctlError(
        ErrorCode.OUTPUT_EXISTS,
        f"this job has begun to put its final images below {staging.output_dir}",
        f"Go on there with --output-dir {staging.output_dir}, or delete them: "
        f"hyperctl discard --job {staging.job_id}.",
    )


def bring_earlier_copy(staging: Staging, places: JobPlaces, running: Attempt) -> None:
    """Rename an earlier copy to this place, where it lies on the same filesystem and none is here yet.

    What was made of the disks names their old paths and is dropped. Raises `OUTPUT_EXISTS` where the job's
    images are final already, elsewhere.
    """
    for earlier in earlier_copies(staging, places):
        if earlier.is_final:
            raise final_elsewhere(earlier.staging)
        if not earlier.can_move or staging.folder.exists():
            running.log.warning("an earlier copy in %s is not used", earlier.staging.folder)
            continue
        staging.folder.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        with only_copier(earlier.staging, running):
            earlier.staging.forget(*FOLLOWING_STEPS)
            for overlay in earlier.staging.folder.glob("disk*.overlay.qcow2"):
                overlay.unlink()
            os.rename(earlier.staging.folder, staging.folder)
            sync_folder(staging.folder.parent)
            sync_folder(earlier.staging.folder.parent)
        places.forget(str(earlier.staging.output_dir))
        running.log.info("going on from the copy in %s, moved to %s", earlier.staging.folder, staging.folder)
