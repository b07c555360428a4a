"""A running source made ready for its copy, and put back: shut down and powered on, or snapshots.

Everything looks before it acts: an attempt that was killed at any moment is taken up by the next one, and a
retry of the job finds its snapshot, or the machine that it has switched off.
"""

from datetime import UTC

from pyVmomi import vim, vmodl
from temporalio import activity

from hyperctl.activities.attempt import Attempt, attempt
from hyperctl.activities.commit import commit_begun
from hyperctl.activities.export.earlier import holds_all_of, is_of_present_state
from hyperctl.activities.export.space import storage_errors
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.activities.switched_off import SwitchedOff, SwitchedOffRecord
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.inventory import read_machine
from hyperctl.activities.vsphere.power import (
    ask_to_shut_down,
    power_off,
    power_on,
    wait_until_off,
)
from hyperctl.activities.vsphere.session import Session, open_session
from hyperctl.activities.vsphere.snapshots import (
    create_snapshot,
    find_snapshots,
    needs_consolidation,
    remove_snapshot,
    remove_snapshots_of,
    snapshot_name,
)
from hyperctl.activities.vsphere.task import insistently, wait_for_other_tasks
from hyperctl.workflows.contract import (
    POWER_ON_SOURCE,
    PREPARE_SOURCE,
    REMOVE_SNAPSHOT,
    TAKE_SNAPSHOT,
    PowerOnSourceInput,
    PrepareSourceInput,
    PutBackResult,
    RemoveSnapshotInput,
)
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import PowerState
from hyperctl.workflows.request import WhenRunning
from hyperctl.workflows.source import PreparedSource, Snapshot
from hyperctl.workflows.status import Phase


class PrepareSourceActivities:
    """`prepare_source`, `take_snapshot`, and what takes them back: `remove_snapshot`, `power_on_source`."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    @activity.defn(name=PREPARE_SOURCE.name, no_thread_cancel_exception=True)
    def prepare_source(self, argument: PrepareSourceInput) -> PreparedSource:
        with attempt(Phase.EXPORT, argument.job_id, self._settings.log_dir) as running:
            return prepare_source(argument, self._settings, running)

    @activity.defn(name=TAKE_SNAPSHOT.name, no_thread_cancel_exception=True)
    def take_snapshot(self, argument: PrepareSourceInput) -> PreparedSource:
        with attempt(Phase.REHEARSE, argument.job_id, self._settings.log_dir) as running:
            return take_snapshot(argument, self._settings, running)

    @activity.defn(name=REMOVE_SNAPSHOT.name, no_thread_cancel_exception=True)
    def remove_snapshot(self, argument: RemoveSnapshotInput) -> PutBackResult:
        with attempt(Phase.CLEANUP, argument.job_id, self._settings.log_dir) as running:
            return insistently(running, lambda: remove_job_snapshot(argument, self._settings, running))

    @activity.defn(name=POWER_ON_SOURCE.name, no_thread_cancel_exception=True)
    def power_on_source(self, argument: PowerOnSourceInput) -> PutBackResult:
        with attempt(Phase.CLEANUP, argument.job_id, self._settings.log_dir) as running:
            return insistently(running, lambda: power_on_source(argument, self._settings, running))


def prepare_source(argument: PrepareSourceInput, settings: HostSettings, running: Attempt) -> PreparedSource:
    """Have the source as it is to be copied: off, or in a snapshot.

    A machine that is off already is copied as it is. Raises `HyperctlError`: `vm_powered_on`,
    `tools_not_running`, `output_exists`, and what vCenter says.
    """
    with open_session(argument.vcenter, settings, running) as session:
        source = read_machine(session, argument.machine.moref)
        _refuse_suspended(source)
        preparation = _Preparation(argument, settings, running, session, source)
        if argument.running.action is WhenRunning.SNAPSHOT:
            return preparation.copied_snapshot()
        return preparation.shut_down()


def take_snapshot(argument: PrepareSourceInput, settings: HostSettings, running: Attempt) -> PreparedSource:
    """Have a machine that runs in a snapshot, of which nothing is recorded: a rehearsal leaves nothing here.

    One that is off is read as it is. Raises `HyperctlError` as `prepare_source` does.
    """
    with open_session(argument.vcenter, settings, running) as session:
        source = read_machine(session, argument.machine.moref)
        _refuse_suspended(source)
        if source.machine.power_state is PowerState.OFF:
            return PreparedSource()
        return _Preparation(argument, settings, running, session, source).snapshot()


def _refuse_suspended(source: SourceMachine) -> None:
    if source.machine.power_state is PowerState.SUSPENDED:
        raise HyperctlError(
            ErrorCode.VM_POWERED_ON,
            f"{source.machine.name} is suspended",
            "Resume it: what its memory holds is not on its disks.",
        )


class _Preparation:
    """One look at one source, and what follows from it."""

    def __init__(
        self,
        argument: PrepareSourceInput,
        settings: HostSettings,
        running: Attempt,
        session: Session,
        source: SourceMachine,
    ) -> None:
        self._argument = argument
        self._asked = argument.running
        self._running = running
        self._session = session
        self._source = source
        self._name = source.machine.name
        self._is_off = source.machine.power_state is PowerState.OFF
        self._staging = Staging(argument.output_dir, argument.job_id)
        self._record = SwitchedOffRecord(settings, argument.job_id)

    def copied_snapshot(self) -> PreparedSource:
        earlier = self._staging.finished(PREPARE_SOURCE.name, PreparedSource)
        final = commit_begun(self._staging) is not None
        snapshot = earlier.snapshot if earlier else None
        if (
            snapshot
            and (final or not self._is_off)
            and holds_all_of(self._staging, snapshot, self._argument.format)
        ):
            # A failed conversion must not cost a second copy, as one of a new snapshot would be.
            text = f"going on from the copy of {self._name} as it was at {_moment(snapshot)}"
            self._running.log.info("%s", text)
            warning = f"{text}: what it wrote since is not moved"
            return PreparedSource(snapshot=snapshot, copied=True, warnings=(warning,))
        if final:
            self._check_final_images()
        if self._is_off:
            self._running.log.info("%s is off and is copied as it is", self._name)
            return PreparedSource()
        prepared = self.snapshot()
        with storage_errors(self._staging.folder, 0):
            self._staging.create()
            self._staging.finish(PREPARE_SOURCE.name, prepared)
        return prepared

    def snapshot(self) -> PreparedSource:
        """The job's snapshot, found or made."""
        wait_for_other_tasks(self._session, self._source, self._running)
        return self._find_snapshot() or PreparedSource(
            snapshot=create_snapshot(
                self._session,
                self._source,
                self._running,
                self._argument.job_id,
                quiesce=self._asked.quiesce,
            )
        )

    def _find_snapshot(self) -> PreparedSource | None:
        """The one that an earlier attempt has made; one that is not as it was asked for is removed."""
        found = find_snapshots(self._session, self._source, snapshot_name(self._argument.job_id))
        usable = [item for item in found if item.snapshot.quiesced or not self._asked.quiesce]
        for item in reversed(found):
            if item is not (usable[-1] if usable else None):
                remove_snapshot(self._session, self._source, item, self._running)
        if not usable:
            return None
        prepared = PreparedSource(snapshot=usable[-1].snapshot)
        text = f"going on from the snapshot of {self._name} of {_moment(usable[-1].snapshot)}"
        self._running.log.info("%s", text)
        return prepared.model_copy(update={"warnings": (f"{text}: what it wrote since is not moved",)})

    def shut_down(self) -> PreparedSource:
        if commit_begun(self._staging) is not None:
            self._check_final_images()
        record = self._record.read(self._source)
        warnings = self._left_snapshots()
        if self._is_off:
            if record is None:
                self._record.forget()
            return PreparedSource(switched_off=record is not None, warnings=warnings)
        try:
            forced = not self._guest_goes_off(record)
        except vim.fault.InvalidPowerState:
            self._running.log.info("somebody else has switched %s off", self._name)
            return PreparedSource(warnings=warnings)
        if forced:
            power_off(self._session, self._source, self._running)
        return PreparedSource(switched_off=True, forced=forced, warnings=warnings)

    def _guest_goes_off(self, record: SwitchedOff | None) -> bool:
        """Ask the guest and wait for it; False where it is to be powered off."""
        timeout = self._asked.shutdown_timeout_seconds
        if record is None or not record.asked or not record.left_seconds(timeout):
            record = SwitchedOff.beginning(self._source)
            self._record.write(record)
            if not self._ask():
                if self._asked.force_off:
                    self._record.write(record.model_copy(update={"asked": False}))
                    return False
                self._record.forget()
                raise HyperctlError(
                    ErrorCode.TOOLS_NOT_RUNNING,
                    f"{self._name} cannot be asked to shut down: no tools run in its guest",
                    "Start them, shut it down by hand, or give --force-off.",
                )
            record = record.model_copy(update={"asked": True})
            self._record.write(record)
        if wait_until_off(self._session, self._source, self._running, record.left_seconds(timeout)):
            return True
        if self._asked.force_off:
            self._running.log.warning("%s has not shut down in %.0f s", self._name, timeout)
            return False
        raise HyperctlError(
            ErrorCode.VM_POWERED_ON,
            f"{self._name} has not shut down in {timeout:.0f} s",
            "It has been asked, and may still do so. Look at its console, give it more time "
            "(--shutdown-timeout), or have it powered off then (--force-off).",
        )

    def _ask(self) -> bool:
        try:
            return ask_to_shut_down(self._session, self._source, self._running)
        except (vmodl.MethodFault, HyperctlError):
            self._record.forget()  # it has surely not been asked, as it may have been after other errors
            raise

    def _left_snapshots(self) -> tuple[str, ...]:
        name = snapshot_name(self._argument.job_id)
        if not find_snapshots(self._session, self._source, name):
            return ()
        return (f"{self._name} has the snapshot {name} of an earlier attempt: remove it in vSphere",)

    def _check_final_images(self) -> None:
        """Images that are converted are not copied again, so they must not be older than the machine."""
        if self._is_off and is_of_present_state(self._staging, self._session, self._source):
            return
        begun = commit_begun(self._staging)
        folder = begun.folder if begun else ""
        raise HyperctlError(
            ErrorCode.OUTPUT_EXISTS,
            f"{self._name} has been running since the images of an earlier attempt were made final: "
            "they do not hold what it did since",
            f"To take them as they are: hyperctl import --job {self._argument.job_id}. To begin anew, delete "
            f"{self._staging.folder} and {folder} first.",
        )


def remove_job_snapshot(
    argument: RemoveSnapshotInput, settings: HostSettings, running: Attempt
) -> PutBackResult:
    """See that the job's snapshot is gone, however long it takes. Raises `HyperctlError`."""
    try:
        with open_session(argument.vcenter, settings, running) as session:
            source = read_machine(session, argument.machine.moref)
            remove_snapshots_of(session, source, running, argument.job_id)
            if not needs_consolidation(session, source):
                return PutBackResult()
    except HyperctlError as error:
        if error.code is not ErrorCode.VM_NOT_FOUND:
            raise
        running.log.warning("%s, and its snapshots with it", error)
        return PutBackResult()
    name = source.machine.name
    text = (
        f"the disks of {name} need consolidation: in vSphere, Snapshots, Consolidate. Until then it writes "
        "to deltas that grow."
    )
    running.log.warning("%s", text)
    return PutBackResult(warnings=(text,))


def power_on_source(argument: PowerOnSourceInput, settings: HostSettings, running: Attempt) -> PutBackResult:
    """Power the machine on again, if this job has switched it off and nobody has started it since.

    A guest that has been asked and is still going down is waited for as long as it was given. Raises
    `HyperctlError`.
    """
    file = SwitchedOffRecord(settings, argument.job_id)
    with open_session(argument.vcenter, settings, running) as session:
        source = read_machine(session, argument.machine.moref)
        name = source.machine.name
        record = file.read(source)
        if record is None and not argument.switched_off:
            running.log.info("%s was not switched off by this job", name)
            file.forget()
            return PutBackResult()
        wait_for_other_tasks(session, source, running)
        goes_off = record is not None and record.asked is not False
        timeout = argument.running.shutdown_timeout_seconds
        left = record.left_seconds(timeout) if record and goes_off else 0.0
        if wait_until_off(session, source, running, left):
            power_on(session, source, running)
            file.forget()
            return PutBackResult()
    file.forget()
    if not goes_off:
        return PutBackResult()  # it was never switched off, or somebody has started it
    text = f"{name} was asked to shut down and is still on: should it go off after all, power it on again"
    running.log.warning("%s", text)
    return PutBackResult(warnings=(text,))


def _moment(snapshot: Snapshot) -> str:
    return f"{snapshot.taken_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
