"""The export activity: copying a machine's disks."""

import time

from temporalio import activity

from hyperctl.activities.attempt import Attempt, attempt
from hyperctl.activities.commit import commit_begun
from hyperctl.activities.export.disks import export_machine
from hyperctl.activities.export.move import bring_earlier_copy
from hyperctl.activities.export.space import storage_errors
from hyperctl.activities.places import JobPlaces
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import EXPORT_DISKS, ExportInput, ExportResult
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.status import Phase


class ExportActivities:
    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    @activity.defn(name=EXPORT_DISKS.name, no_thread_cancel_exception=True)
    def export_disks(self, argument: ExportInput) -> ExportResult:
        """Copy the machine's disks; what an earlier attempt finished is not copied again."""
        with attempt(Phase.EXPORT, argument.job_id, self._settings.log_dir) as running:
            return export_disks(argument, self._settings, running)


def export_disks(argument: ExportInput, settings: HostSettings, running: Attempt) -> ExportResult:
    """See `export_machine`. Once the images are final, the recorded result is returned.

    Until then the vCenter is asked even where everything is whole: a machine that has been running since
    must be copied again, or what it did in the meantime would be lost without a word.
    """
    staging = Staging(argument.output_dir, argument.job_id)
    with storage_errors(staging.folder, 0):
        return _export_disks(argument, staging, settings, running)


def _export_disks(
    argument: ExportInput, staging: Staging, settings: HostSettings, running: Attempt
) -> ExportResult:
    before = staging.finished(EXPORT_DISKS.name, ExportResult)
    if commit_begun(staging) is not None:
        if before is None:
            raise HyperctlError(
                ErrorCode.STORAGE_FAILED,
                f"{staging.folder} holds final images, but not the record of their copy",
                "Move what you need of it away and delete it, then start again.",
            )
        running.log.info("the images are final")
        return before
    if argument.copied:
        if before is None:
            raise HyperctlError(
                ErrorCode.SNAPSHOT_LOST,
                f"the copy of the snapshot in {staging.folder} is no longer whole",
                "The next try makes a new snapshot, and copies all of it.",
            )
        running.log.info("the snapshot is here already, whole")
        return before
    started = time.monotonic()
    places = JobPlaces(settings, argument.job_id)
    places.add(argument.output_dir)
    bring_earlier_copy(staging, places, running)
    disks = export_machine(argument, settings, running)
    if before is not None and before.disks == disks:
        return before
    result = ExportResult(disks=disks, duration_seconds=time.monotonic() - started)
    staging.finish(EXPORT_DISKS.name, result)
    return result
