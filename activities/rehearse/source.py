"""The disks of a machine that stays where it is, shown to qemu here for as long as a rehearsal takes."""

import http.client
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pyVmomi import vmodl

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.chain import BaseDisk
from hyperctl.activities.export.datastore import FlatDisk, locate
from hyperctl.activities.export.datastore_files import DatastoreFiles
from hyperctl.activities.export.ranges import DiskReader, persistently
from hyperctl.activities.export.vsphere import opened_machine
from hyperctl.activities.nbd.disk_server import DiskServer
from hyperctl.activities.nbd.fetched import FetchedDisk
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.target.libvirt_host import connect, qemu_user
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.inventory import read_power
from hyperctl.activities.vsphere.session import Session, fault_text, patiently
from hyperctl.workflows.contract import ExportInput
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import Machine, MachineDisk, PowerState
from hyperctl.workflows.request import VCenter

CONNECTIONS = 4
"""To each disk."""


@dataclass(frozen=True, slots=True)
class ShownSource:
    """A machine that is off, and its disks as bases for overlays."""

    machine: Machine
    bases: tuple[BaseDisk, ...]
    disks: tuple[FetchedDisk, ...]
    readers: tuple[tuple[MachineDisk, DiskReader], ...]
    stop: threading.Event
    """Ends every read of them."""
    session: Session
    source: SourceMachine

    def check(self) -> None:
        """Raise the `HyperctlError` for which a disk cannot be read as a rehearsal needs it."""
        for disk in self.disks:
            disk.check()

    def check_off(self) -> None:
        """Raise where the machine runs or has run meanwhile: what was read is no longer its disk."""
        power = read_power(self.session, self.source.reference)
        if power.state is not PowerState.OFF or power.last_start != self.source.last_start:
            raise HyperctlError(
                ErrorCode.VM_POWERED_ON,
                f"{self.machine.name} has been powered on while it was rehearsed",
                "Rehearse it again when it is off.",
            )

    def diagnose(self, attempt: Attempt) -> None:
        """Raise as `check_off` where that is why the disks could not be read."""
        try:
            self.check_off()
        except HyperctlError as error:
            if error.code is ErrorCode.VM_POWERED_ON:
                raise
            attempt.log.warning("could not look at the machine: %s", error)
        except (OSError, http.client.HTTPException, vmodl.MethodFault) as error:
            attempt.log.warning("could not look at the machine: %s", fault_text(error))

    @property
    def read_bytes(self) -> int:
        return sum(disk.fetched_bytes for disk in self.disks)

    @property
    def waited_seconds(self) -> float:
        return max(disk.waited_until_now_seconds for disk in self.disks)


@contextmanager
def shown_datastore_disks(
    job_id: str, vcenter: VCenter, machine: Machine, folder: Path, settings: HostSettings, running: Attempt
) -> Iterator[ShownSource]:
    """Through the datastore's HTTPS, of a machine that is off. Raises `HyperctlError`."""
    what = ExportInput(job_id=job_id, vcenter=vcenter, machine=machine, transport="datastore", output_dir="")
    group = _qemu_group(settings)
    stop = threading.Event()
    with ExitStack() as resources:
        session, source = resources.enter_context(opened_machine(what, settings, running))
        files = resources.enter_context(DatastoreFiles(session))
        resources.callback(stop.set)
        planned = source.machine.disks

        def find() -> list[FlatDisk]:
            with files.reader(stop) as reader:
                found = [
                    persistently(partial(locate, reader, source, disk), running, stop) for disk in planned
                ]
            return [FlatDisk(files, flat, CONNECTIONS, stop) for flat in found]

        bases, disks = [], []
        flats = patiently(running, find)
        for index, (disk, flat) in enumerate(zip(planned, flats, strict=True), start=1):
            fetched = FetchedDisk(disk.file_name, flat, disk.capacity_bytes, folder, stop, running)
            resources.enter_context(fetched)
            server = resources.enter_context(
                DiskServer(fetched, folder / f"disk{index}.socket", running, group)
            )
            bases.append(BaseDisk(index, server.address, "raw", disk.capacity_bytes))
            disks.append(fetched)
        readers = tuple(zip(planned, flats, strict=True))
        yield ShownSource(source.machine, tuple(bases), tuple(disks), readers, stop, session, source)


def _qemu_group(settings: HostSettings) -> int | None:
    """Whose qemu libvirt runs, where that is not our own user."""
    if os.geteuid() != 0:
        return None
    with connect(settings.libvirt_uri) as connection:
        user = qemu_user(connection)
    return user.gid if user else None
