"""The disks of a machine that stays where it is, shown to qemu here for as long as a rehearsal takes."""

import http.client
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyVmomi import vmodl

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.chain import BaseDisk
from hyperctl.activities.export.datastore import datastore_transport
from hyperctl.activities.export.file import file_transport
from hyperctl.activities.export.ranges import DiskReader
from hyperctl.activities.export.throttle import Throttle
from hyperctl.activities.export.transport import ReadableSource, ReadableTransport, Received, Terms
from hyperctl.activities.export.vddk import vddk_transport
from hyperctl.activities.nbd.disk_server import DiskServer
from hyperctl.activities.nbd.fetched import FetchedDisk
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.target.libvirt_host import connect, qemu_user
from hyperctl.activities.vsphere.session import fault_text
from hyperctl.workflows.contract import ExportInput, RehearseInput
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import Machine, MachineDisk
from hyperctl.workflows.request import TransportChoice

CONNECTIONS = 4
"""To each disk, where several pay."""
TRANSPORTS: dict[str, ReadableTransport] = {
    TransportChoice.DATASTORE: datastore_transport,
    TransportChoice.VDDK: vddk_transport,
    TransportChoice.FILE: file_transport,
}
"""Those that read anywhere in a disk."""
_OF_THE_SOURCE = (ErrorCode.VM_POWERED_ON, ErrorCode.SNAPSHOT_LOST, ErrorCode.SOURCE_INVALID)


@dataclass(frozen=True, slots=True)
class ShownSource:
    """A machine that nobody writes to, and its disks as bases for overlays."""

    machine: Machine
    bases: tuple[BaseDisk, ...]
    disks: tuple[FetchedDisk, ...]
    readers: tuple[tuple[MachineDisk, DiskReader], ...]
    stop: threading.Event
    """Ends every read of them."""
    opened: ReadableSource

    def check(self) -> None:
        """Raise the `HyperctlError` for which a disk cannot be read as a rehearsal needs it."""
        for disk in self.disks:
            disk.check()

    def confirm(self) -> None:
        """Raise where what was read is no longer what is there: the machine runs or has run meanwhile, its
        snapshot is gone, a file was written to."""
        for disk in self.machine.disks:
            self.opened.confirm(disk, Received(0, ""))

    def diagnose(self, attempt: Attempt) -> None:
        """Raise as `confirm` where that is why the disks could not be read."""
        try:
            self.opened.diagnose()
        except HyperctlError as error:
            if error.code in _OF_THE_SOURCE:
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
def shown_disks(
    argument: RehearseInput, folder: Path, settings: HostSettings, running: Attempt
) -> Iterator[ShownSource]:
    """By one of the transports, which are those of copies. Raises `HyperctlError`."""
    asked = ExportInput(
        job_id=argument.job_id,
        vcenter=argument.request.vcenter,
        file=argument.request.file,
        machine=argument.machine,
        transport=argument.transport,
        output_dir="",
        connections=CONNECTIONS,
        snapshot=argument.snapshot,
    )
    group = _qemu_group(settings)
    stop = threading.Event()
    terms = Terms(running, Throttle(), settings.stream_silence_seconds)
    with ExitStack() as resources:
        transport = TRANSPORTS[argument.transport]
        source = resources.enter_context(transport(asked, settings, terms))
        # What was asked may name the machine otherwise than its file does.
        machine = argument.machine.model_copy(update={"disks": source.machine.disks})
        opened = resources.enter_context(source.open())
        resources.callback(stop.set)
        bases, disks, readers = [], [], []
        for index, disk in enumerate(machine.disks, start=1):
            reader = resources.enter_context(opened.reader(disk, stop))
            name = disk.file_name or disk.label
            fetched = FetchedDisk(name, reader, disk.capacity_bytes, folder, stop, running)
            resources.enter_context(fetched)
            server = resources.enter_context(DiskServer(fetched, folder / f"{index}.nbd", running, group))
            bases.append(BaseDisk(index, server.address, "raw", disk.capacity_bytes))
            disks.append(fetched)
            readers.append((disk, reader))
        yield ShownSource(machine, tuple(bases), tuple(disks), tuple(readers), stop, opened)


def _qemu_group(settings: HostSettings) -> int | None:
    """Whose qemu libvirt runs, where that is not our own user."""
    if os.geteuid() != 0:
        return None
    with connect(settings.libvirt_uri) as connection:
        user = qemu_user(connection)
    return user.gid if user else None
