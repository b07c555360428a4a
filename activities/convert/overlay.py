"""The qcow2 overlays that hold a conversion; the disks under them are never written."""

import os
from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.chain import BaseDisk, state_of_base
from hyperctl.activities.overlay import create_overlay
from hyperctl.activities.staging import Staging, sync_folder
from hyperctl.workflows.disk import ConvertedDisk


def fresh_overlays(
    disks: tuple[BaseDisk, ...], staging: Staging, running: Attempt
) -> tuple[ConvertedDisk, ...]:
    """An empty overlay over every disk, in the guest's order; older ones are thrown away.

    Raises `STORAGE_FAILED`.
    """
    overlays = []
    for disk in sorted(disks, key=lambda one: one.index):
        path = staging.overlay(disk.index)
        create_overlay(path, disk.address, disk.format, running)
        overlays.append(
            ConvertedDisk(
                index=disk.index,
                base=disk.address,
                base_format=disk.format,
                overlay=str(path),
                capacity_bytes=disk.capacity_bytes,
                base_state=state_of_base(disk.address),
            )
        )
    return tuple(overlays)


def make_durable(disks: tuple[ConvertedDisk, ...]) -> None:
    """Bring the overlays onto the disk, before anybody is told that they are complete."""
    for disk in disks:
        descriptor = os.open(disk.overlay, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(Path(disk.overlay).parent)


def remove_overlays(staging: Staging) -> None:
    """Throw the conversion away."""
    for path in staging.folder.glob("disk*.overlay.qcow2"):
        path.unlink()
