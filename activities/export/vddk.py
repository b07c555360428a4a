"""The transport that reads by VMware's own library, VDDK, through nbdkit's plugin for it.

The library is proprietary and never part of this: an administrator unpacks it on the worker's host. What is
known of holes is not read, a copy that breaks goes on where it was, and nothing but the argv of the NBD
server is of VMware; nbdkit-vddk-plugin(1) documents it.
"""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from pyVmomi import vmodl

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.landing import Landing
from hyperctl.activities.export.ranges import copy_ranges
from hyperctl.activities.export.transport import Received, Terms
from hyperctl.activities.export.vsphere import VSphereMachine, opened_machine
from hyperctl.activities.nbd.reader import NbdReader
from hyperctl.activities.nbd.server import NbdServer
from hyperctl.activities.nbd.vddk import library_missing, opened_vddk
from hyperctl.activities.process import ProcessError, run
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.credentials import resolve
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.inventory import read_machine
from hyperctl.activities.vsphere.session import Session, fault_text
from hyperctl.activities.vsphere.snapshots import as_of
from hyperctl.workflows.contract import ExportInput
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import MachineDisk, PowerState

LOOK_SECONDS = 300.0
"""So often is the machine looked at, which also keeps the session from idling out."""
PROBE_TIMEOUT_SECONDS = 60.0
_LIBRARY = "libvixDiskLib.so*"

OpenServer = Callable[[MachineDisk], AbstractContextManager[NbdServer]]


@contextmanager
def vddk_transport(argument: ExportInput, settings: HostSettings, terms: Terms) -> Iterator["VddkMachine"]:
    """The machine in its vCenter, each of its disks served by VMware's library while it is copied."""
    credentials = resolve(argument.source_vcenter, settings)
    with opened_machine(argument, settings, terms.attempt) as (session, source):

        def serve(disk: MachineDisk) -> AbstractContextManager[NbdServer]:
            return opened_vddk(
                session,
                credentials,
                settings,
                source.machine.moref,
                disk.file_name,
                terms.attempt,
                argument.snapshot,
            )

        yield VddkMachine(session, source, terms, argument.connections, serve)


def probe_vddk(settings: HostSettings, attempt: Attempt) -> None:
    """Look whether the library and nbdkit's plugin are on this host and fit together.

    Raises the `HyperctlError` (`host_incapable`) that says why they cannot be used.
    """
    folder = settings.vddk_library_dir
    if folder is None:
        raise library_missing(settings)
    if not any(Path(folder).glob(f"lib64/{_LIBRARY}")):
        raise HyperctlError(
            ErrorCode.HOST_INCAPABLE,
            f"{folder} on {settings.host} holds no lib64/{_LIBRARY}",
            "HYPERCTL_VDDK_LIBRARY_DIR must be the folder vmware-vix-disklib-distrib.",
        )
    try:
        run(
            ["nbdkit", "--dump-plugin", "vddk", f"libdir={folder}"],
            attempt,
            timeout_seconds=PROBE_TIMEOUT_SECONDS,
        )
    except (ProcessError, OSError) as error:
        raise HyperctlError(
            ErrorCode.HOST_INCAPABLE,
            f"nbdkit's VDDK plugin does not work on {settings.host}: {error}",
            "Install it (nbdkit-plugin-vddk, or build nbdkit with it); the library must be of version 6.5 "
            "or later.",
        ) from error


class VddkMachine(VSphereMachine):
    """A `Source`."""

    def __init__(
        self, session: Session, source: SourceMachine, terms: Terms, connections: int, serve: OpenServer
    ) -> None:
        super().__init__(session, source, terms)
        self._connections = connections
        self._serve = serve

    @contextmanager
    def open(self) -> Iterator["_VddkSource"]:
        yield _VddkSource(self.session, self.source, self.terms, self._connections, self._serve)


class _VddkSource:
    def __init__(
        self, session: Session, source: SourceMachine, terms: Terms, connections: int, serve: OpenServer
    ) -> None:
        self._session = session
        self._source = source
        self._terms = terms
        self._connections = connections
        self._serve = serve
        self._looked = time.monotonic()

    def version(self, disk: MachineDisk) -> str:
        return ""

    def copy(self, disk: MachineDisk, landing: Landing, stop: threading.Event) -> Received:
        with self.reader(disk, stop) as reader:
            return Received(copy_ranges(reader, landing, self._terms.throttle, self._terms.attempt, stop), "")

    @contextmanager
    def reader(self, disk: MachineDisk, stop: threading.Event) -> Iterator[NbdReader]:
        with self._serve(disk) as server:
            reader = NbdReader(server, disk.name, self._connections, stop, self._terms.attempt)
            if reader.capacity_bytes != disk.capacity_bytes:
                raise HyperctlError(
                    ErrorCode.IMAGE_INVALID,
                    f"{disk.name} is read as a disk of {reader.capacity_bytes} bytes, "
                    f"vSphere says {disk.capacity_bytes}",
                )
            yield reader

    def confirm(self, disk: MachineDisk, received: Received) -> str | None:
        """Nothing is stated to compare with; the machine must still be in the state it was copied in."""
        self._look()
        return ""

    def told(self, percent: int) -> None:
        """Nobody asks."""

    def check(self) -> None:
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._look()

    def diagnose(self) -> None:
        """Beside the machine's state, what an NBD server says of a broken read is all that is known of it."""
        try:
            self._look()
        except (OSError, http.client.HTTPException, vmodl.MethodFault) as error:
            self._terms.attempt.log.warning("could not look at the machine: %s", fault_text(error))

    def _look(self) -> None:
        """Raise where the disks are no longer what has been copied.

        The machine runs, has run or was changed; or its snapshot is gone, where that is copied.
        """
        self._looked = time.monotonic()
        now = read_machine(self._session, self._source.machine.moref)
        if self._source.snapshot is not None:
            as_of(self._session, now, self._source.snapshot.moref)
            return
        if now.machine.power_state is not PowerState.OFF or now.state != self._source.state:
            raise HyperctlError(
                ErrorCode.VM_POWERED_ON,
                f"{self._source.machine.name} has been powered on or changed while its disks were read",
                "Shut it down in the guest, then try again: they are read anew.",
            )
