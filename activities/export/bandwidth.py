"""A bandwidth cap that changes while a copy runs: a small file in the job's staging folder tells of it.

The workflow numbers the changes of its run. A copy begins with the cap and the number in its input and
takes from the file only what is of the same run and newer; so neither a restarted worker nor a file that an
earlier run left makes it go back to an old cap.
"""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from temporalio import activity

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.space import shown, storage_errors
from hyperctl.activities.export.throttle import Throttle
from hyperctl.activities.staging import Staging, write_atomically
from hyperctl.workflows.contract import SET_BANDWIDTH, ExportInput, Nothing, SetBandwidthInput
from hyperctl.workflows.errors import ErrorCode, HyperctlError

FILE = "bandwidth.json"


class BandwidthOrder(BaseModel):
    """The file's content."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    """The workflow run whose change it is."""
    revision: int
    bytes_per_second: int | None


class BandwidthActivities:
    """`set_bandwidth`."""

    @activity.defn(name=SET_BANDWIDTH.name, no_thread_cancel_exception=True)
    def set_bandwidth(self, argument: SetBandwidthInput) -> Nothing:
        """Tell the copy that runs, or is about to, on this host."""
        order_bandwidth(argument, run_id())
        return Nothing()


def order_bandwidth(argument: SetBandwidthInput, run: str) -> None:
    """Leave an order for the copy. Raises `HyperctlError` (`storage_failed`) where it cannot be written."""
    staging = Staging(argument.output_dir, argument.job_id)
    order = BandwidthOrder(run_id=run, revision=argument.revision, bytes_per_second=argument.bytes_per_second)
    try:
        staging.create()
        write_atomically(staging.folder / FILE, order.model_dump_json().encode())
    except OSError as error:
        raise HyperctlError(
            ErrorCode.STORAGE_FAILED, f"cannot write {staging.folder / FILE}: {error.strerror or error}"
        ) from error


def run_id() -> str:
    """The workflow run that the running activity belongs to; empty outside of Temporal."""
    return (activity.info().workflow_run_id or "") if activity.in_activity() else ""


class BandwidthOrders:
    """The copy's side: obeys the newest order."""

    def __init__(
        self, argument: ExportInput, staging: Staging, throttle: Throttle, running: Attempt, run: str
    ) -> None:
        self._path: Path = staging.folder / FILE
        self._throttle = throttle
        self._running = running
        self._run = run
        self._revision = argument.bandwidth_revision
        self._seen: tuple[int, int] | None = None
        throttle.change(argument.bandwidth_bytes_per_second)
        if argument.bandwidth_bytes_per_second:
            running.log.info("bandwidth: at most %s/s", shown(argument.bandwidth_bytes_per_second))
        self.obey()

    def obey(self) -> None:
        """Look for a new order; costs one `stat` where there is none. Raises `HyperctlError`."""
        with storage_errors(self._path, 0):
            try:
                status = os.stat(self._path)
            except FileNotFoundError:
                return
        seen = (status.st_ino, status.st_mtime_ns)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            order = BandwidthOrder.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError) as error:
            self._running.log.warning("%s cannot be read: %s", self._path, error)
            return
        if order.run_id != self._run or order.revision <= self._revision:
            return
        self._revision = order.revision
        self._throttle.change(order.bytes_per_second)
        cap = f"at most {shown(order.bytes_per_second)}/s" if order.bytes_per_second else "no cap"
        self._running.log.info("bandwidth from now on: %s", cap)
