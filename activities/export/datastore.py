"""The transport that reads a disk's flat file from its datastore: HTTPS ranges, several at a time.

A disk is a small descriptor and, beside it, a file that is the disk byte for byte; the file is locked while
the machine runs. What is proved of a copy: every byte came in an answer for exactly the range that was asked
for, TLS kept it as it was sent, the file has the disk's capacity, its ETag and time stayed the same from the
first answer to the last, and the machine was never started in between. The source states no checksum, so that
damage on its own side, before TLS, cannot be seen.
"""

import http.client
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from pyVmomi import vmodl

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.datastore_files import DatastoreFiles, FileReader, FileState, RangeAnswer
from hyperctl.activities.export.flat_descriptor import MOST_BYTES, flat_extent
from hyperctl.activities.export.landing import Landing
from hyperctl.activities.export.ranges import Extent, copy_ranges, persistently
from hyperctl.activities.export.transport import Received, Terms
from hyperctl.activities.export.vsphere import VSphereMachine, opened_machine
from hyperctl.activities.plan_running import why_not_flat
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.datastore_path import DatastorePath
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.inventory import Datastore, read_datastores, read_power
from hyperctl.activities.vsphere.session import Session, fault_text, meaning, patiently
from hyperctl.workflows.contract import ExportInput
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import MachineDisk, PowerState
from hyperctl.workflows.request import WhenRunning

LOOK_SECONDS = 60.0
"""So often is it looked whether the machine is still off, which also keeps the session from idling out."""
PROBE_TRIES = 2
_WITHOUT_FILES = {"vsan": "vSAN", "vvol": "Virtual Volumes", "pmem": "persistent memory"}


@dataclass(frozen=True, slots=True)
class FlatFile:
    """Where a disk's bytes are, and in what state they were found."""

    target: str
    """What to ask the web server for."""
    name: str
    """As vSphere writes it."""
    state: FileState


@contextmanager
def datastore_transport(
    argument: ExportInput, settings: HostSettings, terms: Terms
) -> Iterator["_DatastoreMachine"]:
    """The machine in its vCenter. Opening it for copying finds every disk's flat file."""
    if argument.snapshot:
        raise HyperctlError(
            ErrorCode.VM_POWERED_ON,
            f"{argument.machine.name} has been powered on since it was planned: its files are locked",
            "Start the migration again: it is planned for a machine that runs.",
        )
    with opened_machine(argument, settings, terms.attempt) as (session, source):
        yield _DatastoreMachine(session, source, terms, argument.connections)


def probe_datastore(
    session: Session, source: SourceMachine, when_running: WhenRunning, running: Attempt
) -> None:
    """Try whether the disks can be read so: descriptors, and a byte of each file of a machine that is off.

    Raises the `HyperctlError` that says why not.
    """
    is_off = source.machine.power_state is PowerState.OFF
    reason = why_not_flat(source, when_running)
    if reason:
        raise HyperctlError(
            ErrorCode.VM_UNSUPPORTED,
            reason,
            "Copy with --transport nfc; or delete the snapshots, or take --shutdown in place of --snapshot.",
        )
    try:
        check_kinds(read_datastores(session, source.reference))
    except vmodl.MethodFault as error:
        raise meaning(error, session.endpoint, session.username) from error
    stop = threading.Event()

    def look() -> None:
        with DatastoreFiles(session) as files, files.reader(stop) as reader:
            for disk in source.machine.disks:
                # Of a machine that runs the flat file is locked.
                found = partial(locate if is_off else extent_of, reader, source, disk)
                persistently(found, running, stop, PROBE_TRIES)

    try:
        patiently(running, look)
    finally:
        stop.set()


def check_kinds(datastores: Iterable[Datastore]) -> None:
    """Raise `HyperctlError` where a datastore keeps objects in place of files. Pure."""
    for datastore in datastores:
        kind = _WITHOUT_FILES.get(datastore.kind.lower())
        if kind is not None:
            raise HyperctlError(
                ErrorCode.VM_UNSUPPORTED,
                f"{datastore.name} is {kind}, which has no files to read",
                "Copy with --transport nfc.",
            )


def extent_of(reader: FileReader, source: SourceMachine, disk: MachineDisk) -> tuple[str, str]:
    """What to ask for to get a disk's flat file, and its name. Raises `HyperctlError` for other disks."""
    path = DatastorePath.parse(disk.file_name)
    form, descriptor = _descriptor(reader, path, path.targets(source.datacenter_path))
    extent = flat_extent(descriptor, str(path))
    if extent.size_bytes != disk.capacity_bytes:
        raise _wrong_size(str(path), extent.size_bytes, disk)
    flat = path.beside(extent.file)
    return flat.targets(source.datacenter_path)[form], str(flat)


def _descriptor(reader: FileReader, path: DatastorePath, targets: Sequence[str]) -> tuple[int, bytes]:
    """A descriptor, and which form of its name the server takes."""
    *others, last = enumerate(targets)
    for form, target in others:
        try:
            return form, reader.whole(target, str(path), MOST_BYTES)
        except HyperctlError as error:
            if error.code is not ErrorCode.IMAGE_INVALID:
                raise
    return last[0], reader.whole(last[1], str(path), MOST_BYTES)


def locate(reader: FileReader, source: SourceMachine, disk: MachineDisk) -> FlatFile:
    """Find a disk's flat file. Raises `HyperctlError` where it cannot be read or has another size."""
    target, name = extent_of(reader, source, disk)
    state = reader.state(target, name)
    if state.size_bytes != disk.capacity_bytes:
        raise _wrong_size(name, state.size_bytes, disk)
    return FlatFile(target, name, state)


def _wrong_size(name: str, size_bytes: int, disk: MachineDisk) -> HyperctlError:
    return HyperctlError(
        ErrorCode.IMAGE_INVALID,
        f"{name} holds {size_bytes} bytes, vSphere says that {disk.label} has {disk.capacity_bytes}",
        "Copy it with --transport nfc.",
    )


class _DatastoreMachine(VSphereMachine):
    def __init__(self, session: Session, source: SourceMachine, terms: Terms, connections: int) -> None:
        super().__init__(session, source, terms)
        self._connections = connections

    @contextmanager
    def open(self) -> Iterator["_DatastoreSource"]:
        ended = threading.Event()
        attempt = self.terms.attempt
        with DatastoreFiles(self.session) as files:

            def find() -> dict[int, FlatFile]:
                with files.reader(ended) as reader:
                    return {
                        disk.key: persistently(partial(locate, reader, self.source, disk), attempt, ended)
                        for disk in self.machine.disks
                    }

            try:
                found = patiently(attempt, find)
                yield _DatastoreSource(self.source, self.terms, files, found, self._connections)
            finally:
                ended.set()


class _DatastoreSource:
    def __init__(
        self,
        source: SourceMachine,
        terms: Terms,
        files: DatastoreFiles,
        found: Mapping[int, FlatFile],
        connections: int,
    ) -> None:
        self._source = source
        self._terms = terms
        self._files = files
        self._found = found
        self._connections = connections
        self._looked = time.monotonic()

    def version(self, disk: MachineDisk) -> str:
        return str(self._found[disk.key].state)

    def copy(self, disk: MachineDisk, landing: Landing, stop: threading.Event) -> Received:
        with self.reader(disk, stop) as reader:
            fetched = copy_ranges(reader, landing, self._terms.throttle, self._terms.attempt, stop)
        return Received(fetched, "")

    @contextmanager
    def reader(self, disk: MachineDisk, stop: threading.Event) -> Iterator["FlatDisk"]:
        yield FlatDisk(self._files, self._found[disk.key], self._connections, stop)

    def confirm(self, disk: MachineDisk, received: Received) -> str | None:
        """Nothing is stated to compare with; the file must still be in the state it was copied in."""
        file = self._found[disk.key]
        ended = threading.Event()

        def look() -> None:
            with self._files.reader(ended) as reader, reader.range(file.target, file.name, 0, 1, file.state):
                pass
            try:
                self._check_off()
            except (OSError, http.client.HTTPException) as error:
                # A connection that idled may have been closed by whoever stands in between.
                raise HyperctlError(
                    ErrorCode.TRANSFER_INTERRUPTED,
                    f"{self._files.session.endpoint} does not say whether {self._source.machine.name} "
                    f"is still off: {fault_text(error)}",
                ) from error

        attempt = self._terms.attempt
        try:
            patiently(attempt, lambda: persistently(look, attempt, ended))
        except HyperctlError as error:
            if error.code is ErrorCode.TRANSFER_INTERRUPTED:
                self.diagnose()
            raise
        finally:
            ended.set()
        return ""

    def told(self, percent: int) -> None:
        """Nobody asks."""

    def check(self) -> None:
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self.diagnose()

    def diagnose(self) -> None:
        try:
            self._check_off()
        except (OSError, http.client.HTTPException, vmodl.MethodFault) as error:
            self._terms.attempt.log.warning("could not look at the machine: %s", fault_text(error))

    def _check_off(self) -> None:
        """Raise where the machine runs or has run: its disks are no longer what has been copied."""
        self._looked = time.monotonic()
        power = read_power(self._files.session, self._source.reference)
        if power.state is not PowerState.OFF or power.last_start != self._source.last_start:
            raise HyperctlError(
                ErrorCode.VM_POWERED_ON,
                f"{self._source.machine.name} has been powered on while its disks were read",
                "Shut it down in the guest, then try again; they are read anew.",
            )


class FlatDisk:
    """A flat file as a disk that can be read anywhere."""

    def __init__(
        self, files: DatastoreFiles, file: FlatFile, connections: int, stop: threading.Event
    ) -> None:
        self.connections = connections
        self._files = files
        self._file = file
        self._stop = stop

    def extents(self) -> Iterable[Extent]:
        """HTTP tells nothing of holes."""
        return (Extent(0, self._file.state.size_bytes),)

    @contextmanager
    def connect(self) -> Iterator["_FlatConnection"]:
        with self._files.reader(self._stop) as reader:
            yield _FlatConnection(reader, self._file)


class _FlatConnection:
    def __init__(self, reader: FileReader, file: FlatFile) -> None:
        self._reader = reader
        self._file = file

    @contextmanager
    def open(self, offset_bytes: int, length_bytes: int) -> Iterator[RangeAnswer]:
        file = self._file
        with self._reader.range(file.target, file.name, offset_bytes, length_bytes, file.state) as answer:
            yield answer
