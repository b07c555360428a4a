"""Snapshots of a machine: made, found again by name, removed, and what the disks are in one.

vSphere API reference: VirtualMachine.CreateSnapshot_Task, VirtualMachineSnapshot. A removal merges what the
machine has written since, while it goes on writing: it takes from seconds to many hours, and cannot be
hurried.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pyVmomi import vim, vmodl

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.vsphere.hardware import SourceMachine, read_disks
from hyperctl.activities.vsphere.inventory import read_objects
from hyperctl.activities.vsphere.session import Session
from hyperctl.activities.vsphere.task import run_task, wait_for_other_tasks
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.source import Snapshot

LONGEST_NAME = 80
"""vCenter takes no longer one."""


@dataclass(frozen=True, slots=True)
class FoundSnapshot:
    """A snapshot in a machine's tree."""

    reference: Any
    snapshot: Snapshot


def snapshot_name(job_id: str) -> str:
    """The one name of a job's snapshot, by which it is found again."""
    name = f"hyperctl-{job_id}"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 11]}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def find_snapshots(session: Session, source: SourceMachine, name: str | None = None) -> list[FoundSnapshot]:
    """The machine's snapshots, or those of this name, each before its children."""
    (found,) = read_objects(session, [source.reference], vim.VirtualMachine, ["snapshot.rootSnapshotList"])
    trees = found.get("snapshot.rootSnapshotList") or ()
    return [item for item in _walk(trees) if name is None or item.snapshot.name == name]


def create_snapshot(
    session: Session, source: SourceMachine, attempt: Attempt, job_id: str, *, quiesce: bool
) -> Snapshot:
    """Make a job's snapshot, without the machine's memory.

    Raises `HyperctlError`; what a failed creation has left is removed before. The caller has looked for one
    of an earlier attempt.
    """
    name = snapshot_name(job_id)
    what = f"the snapshot {name} of {source.machine.name}"
    description = (
        f"Made by hyperctl for {job_id} at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC. It is removed as soon "
        "as what is read of it has been, and when the job has failed."
    )
    attempt.report(message=f"making {what}")
    try:
        run_task(
            session,
            source,
            attempt,
            lambda: source.reference.CreateSnapshot_Task(
                name=name, description=description, memory=False, quiesce=quiesce
            ),
            f"making {what}",
        )
    except HyperctlError as error:
        for left in find_snapshots(session, source, name):
            attempt.log.warning("%s is left of a creation that failed, and is removed", name)
            remove_snapshot(session, source, left, attempt)
        if not quiesce:
            raise
        raise HyperctlError(
            error.code,
            str(error),
            f"{error.failure.hint} Without --quiesce the guest need not take part.".strip(),
        ) from error
    found = find_snapshots(session, source, name)
    if not found:
        raise HyperctlError(
            ErrorCode.VCENTER_FAULT, f"{session.endpoint} has made {what}, and does not show it"
        )
    attempt.log.info("%s is made, quiesced: %s", what, found[-1].snapshot.quiesced)
    return found[-1].snapshot


def remove_snapshot(session: Session, source: SourceMachine, found: FoundSnapshot, attempt: Attempt) -> None:
    """Remove one, its children excepted, however long it takes. Raises `HyperctlError`."""
    what = f"removing the snapshot {found.snapshot.name} of {source.machine.name}"
    attempt.report(message=what)
    try:
        run_task(
            session,
            source,
            attempt,
            lambda: found.reference.RemoveSnapshot_Task(removeChildren=False, consolidate=True),
            what,
        )
    except vmodl.fault.ManagedObjectNotFound:
        attempt.log.info("the snapshot %s is gone already", found.snapshot.name)
        return
    attempt.log.info("%s is done", what)


def remove_snapshots_of(session: Session, source: SourceMachine, attempt: Attempt, job_id: str) -> None:
    """See that no snapshot of a job is left, whoever has begun to remove it. Raises `HyperctlError`."""
    wait_for_other_tasks(session, source, attempt)
    name = snapshot_name(job_id)
    for found in reversed(find_snapshots(session, source, name)):
        try:
            remove_snapshot(session, source, found, attempt)
        except HyperctlError as error:
            if not any(
                left.reference._GetMoId() == found.reference._GetMoId()
                for left in find_snapshots(session, source, name)
            ):
                attempt.log.warning("the snapshot is gone all the same: %s", error)
                continue
            raise HyperctlError(
                error.code,
                str(error),
                f"{error.failure.hint} Or remove it in vSphere (Snapshots, Delete): it grows and slows the "
                "machine until then.".strip(),
            ) from error


def needs_consolidation(session: Session, source: SourceMachine) -> bool:
    """Whether deltas are left that no snapshot needs."""
    path = "runtime.consolidationNeeded"
    (found,) = read_objects(session, [source.reference], vim.VirtualMachine, [path])
    return bool(found.get(path))


def as_of(session: Session, source: SourceMachine, moref: str) -> SourceMachine:
    """The machine with its disks as one of its snapshots holds them.

    Raises `HyperctlError` (`snapshot_lost`) where that is gone.
    """
    found = [item for item in find_snapshots(session, source) if item.reference._GetMoId() == moref]
    if not found:
        raise HyperctlError(
            ErrorCode.SNAPSHOT_LOST,
            f"the snapshot {moref} of {source.machine.name} is gone from {session.endpoint}",
            "Somebody has removed it. The next try makes a new one, and copies all of it.",
        )
    try:
        (shown,) = read_objects(session, [found[0].reference], vim.vm.Snapshot, ["config.hardware.device"])
        allocated = {disk.key: disk.allocated_bytes for disk in source.machine.disks}
        disks = read_disks(shown.get("config.hardware.device") or (), allocated)
    except vmodl.fault.ManagedObjectNotFound:
        return as_of(session, source, moref)  # it went between the two reads
    return replace(
        source, machine=source.machine.model_copy(update={"disks": disks}), snapshot=found[0].snapshot
    )


def _walk(trees: Iterable[Any]) -> Iterator[FoundSnapshot]:
    for tree in trees:
        snapshot = Snapshot(
            moref=tree.snapshot._GetMoId(),
            name=tree.name,
            taken_at=tree.createTime,
            quiesced=bool(tree.quiesced),
        )
        yield FoundSnapshot(tree.snapshot, snapshot)
        yield from _walk(tree.childSnapshotList or ())
