"""The transport for a machine that is a file on this host: OVA, OVF with its files, or a disk image.

What the source is was judged by `activities.source`. A streamOptimized VMDK with its end is decoded in one
pass and hashed on the way; a raw image is read as it lies there; every other format is read through a
qemu-nbd of our own that is told the format and every file. The source is only ever opened for reading.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.assembly import assemble
from hyperctl.activities.export.copy_attempt import CopyAttempt
from hyperctl.activities.export.landing import Landing
from hyperctl.activities.export.ranges import Connection, DiskReader, Extent, copy_ranges
from hyperctl.activities.export.raw_file import RawFileReader
from hyperctl.activities.export.transport import Received, Terms
from hyperctl.activities.export.vmdk import StreamVmdk, VmdkError
from hyperctl.activities.nbd.command import qemu_nbd
from hyperctl.activities.nbd.reader import NbdReader
from hyperctl.activities.nbd.server import NbdServer, NbdServerError
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.source.file_machine import FileDigest, FileDisk, FileMachine, read_file_machine
from hyperctl.activities.source.images import ImageFile, ImageFormat
from hyperctl.activities.source.opened import Opened, open_same, read_failed
from hyperctl.activities.source.structure import check_structure
from hyperctl.workflows.contract import ExportInput
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import Machine, MachineDisk
from hyperctl.workflows.request import FileSource

LOOK_SECONDS = 5.0
"""So often is looked whether the source is still the same."""
SERVER_END_SECONDS = 1.0
"""qemu-nbd may not end while a client that has left had answers to come; of a reader nothing is lost."""
CHUNK_BYTES = 1 << 20

Took = Callable[[int], None]


@contextmanager
def file_transport(
    argument: ExportInput, settings: HostSettings, terms: Terms
) -> Iterator["FileTransportSource"]:
    """The machine in its files. Raises `HyperctlError`, also where they are not those that were planned."""
    if argument.file is None:
        raise HyperctlError(ErrorCode.INVALID_REQUEST, "the transport file needs a file")
    found = read_source(argument.file, terms.attempt)
    _check_planned(argument.machine, found)
    yield FileTransportSource(found, terms, argument.connections)


def read_source(file: FileSource, running: Attempt) -> FileMachine:
    """What lies at the path that was asked for. Raises `HyperctlError` with everything that is wrong."""
    return read_file_machine(
        Path(file.path),
        running,
        firmware=file.firmware,
        stated_format=ImageFormat(file.source_format) if file.source_format else None,
    )


def _check_planned(planned: Machine, found: FileMachine) -> None:
    facts = [(disk.key, disk.file_name, disk.capacity_bytes) for disk in found.machine.disks]
    if facts != [(disk.key, disk.file_name, disk.capacity_bytes) for disk in planned.disks]:
        raise HyperctlError(
            ErrorCode.SOURCE_INVALID,
            f"{found.path} holds other disks than when the migration was planned",
            "Leave the source alone until the migration has ended. Start it again for what lies there now.",
        )


class FileTransportSource:
    """A `Source`."""

    def __init__(self, found: FileMachine, terms: Terms, connections: int) -> None:
        self._found = found
        self._terms = terms
        self._connections = connections

    @property
    def machine(self) -> Machine:
        return self._found.machine

    def identity(self, disk: MachineDisk) -> str:
        return "\n".join(("file", str(self._found.path), str(disk.key), disk.file_name, self._found.state))

    @contextmanager
    def open(self) -> Iterator["_OpenFiles"]:
        yield _OpenFiles(self._found, self._terms, self._connections)
        self._found.check_unchanged()


class _OpenFiles:
    """An `OpenSource`."""

    def __init__(self, found: FileMachine, terms: Terms, connections: int) -> None:
        self._found = found
        self._disks = {disk.disk.key: disk for disk in found.disks}
        self._terms = terms
        self._connections = connections
        self._looked = time.monotonic()

    def version(self, disk: MachineDisk) -> str:
        return ""

    def copy(self, disk: MachineDisk, landing: Landing, stop: threading.Event) -> Received:
        found = self._disks[disk.key]
        landing.done_bytes = 0
        if found.image is None:
            landing.land_zeroes(range(landing.header.blocks))
            landing.sync()
            return Received(0, "")
        if found.image.is_stream:
            return Received(self._decode(found, found.image, landing, stop), "")
        running = CopyAttempt(self._terms.attempt, stop)
        self._check(found, found.image, running, stop)
        with self._reader(found.image, running, stop) as reader:
            try:
                return Received(copy_ranges(reader, landing, self._terms.throttle, running, stop), "")
            except HyperctlError as error:
                if error.code is not ErrorCode.TRANSFER_INTERRUPTED:
                    raise
                # Nothing lies between us and the file: what does not come by the last try is not there.
                raise HyperctlError(
                    ErrorCode.SOURCE_INVALID,
                    f"{found.image.path} cannot be read to its end: {error}",
                    "The file was cut off or damaged: fetch it again.",
                ) from error

    @contextmanager
    def reader(self, disk: MachineDisk, stop: threading.Event) -> Iterator[DiskReader]:
        """A stream, too, is read here and there, by qemu. Digests are not compared."""
        image = self._disks[disk.key].image
        if image is None:
            yield ZeroDisk(disk.capacity_bytes)
            return
        running = CopyAttempt(self._terms.attempt, stop)
        with self._reader(image, running, stop) as reader:
            yield reader

    def confirm(self, disk: MachineDisk, received: Received) -> str | None:
        """The manifest's digests, which were compared while the disk was copied."""
        found = self._disks[disk.key]
        if found.image is not None:
            found.image.check_unchanged()
        if len(found.digests) == 1:
            return str(found.digests[0].digest)
        return ", ".join(f"{digest.digest} of {digest.path.name}" for digest in found.digests)

    def told(self, percent: int) -> None:
        """Nobody asks."""

    def check(self) -> None:
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            self._found.check_unchanged()

    def diagnose(self) -> None:
        self._found.check_unchanged()

    def _check(self, found: FileDisk, image: ImageFile, running: Attempt, stop: threading.Event) -> None:
        """What is read here and there is judged as a whole before a byte of it lands."""
        check_structure(image, running)
        for digest in found.digests:
            running.log.info("%s is compared with the manifest", digest.path.name)
            digest.check(lambda size: self._terms.throttle.take(size, stop))

    def _decode(self, found: FileDisk, image: ImageFile, landing: Landing, stop: threading.Event) -> int:
        """Land a stream and return its length. The digest is of all of it, padding included."""
        digest = found.digests[0] if found.digests else None
        start = digest.offset_bytes if digest else image.offset_bytes
        size = digest.size_bytes if digest else image.size_bytes

        def took(size_bytes: int) -> None:
            landing.received(size_bytes)
            self._terms.throttle.take(size_bytes, stop)

        with open_same(image.files[0]) as opened:
            stream = _FileStream(image, opened, range(start, start + size), digest, took)
            try:
                assemble(landing, StreamVmdk(stream.read).grains())
            except VmdkError as error:
                raise HyperctlError(
                    ErrorCode.SOURCE_INVALID,
                    f"{image.path}: the VMDK {found.disk.name} is damaged: {error}",
                    "The file was cut off or damaged: fetch it again.",
                ) from error
        stream.compare()
        return size

    @contextmanager
    def _reader(self, image: ImageFile, running: Attempt, stop: threading.Event) -> Iterator[DiskReader]:
        if image.format is ImageFormat.RAW:
            with open_same(image.files[0]) as opened:
                yield RawFileReader(image, opened, self._connections, stop)
            return
        try:
            server = NbdServer(
                lambda place: qemu_nbd(place, image.qemu_name), running, end_seconds=SERVER_END_SECONDS
            )
        except NbdServerError as error:
            raise HyperctlError(
                ErrorCode.SOURCE_INVALID, f"{image.path} cannot be opened by qemu: {error}"
            ) from error
        with server:
            # qemu has it open by its name: it must be the file that was judged.
            image.check_unchanged()
            reader = NbdReader(server, image.path.name, self._connections, stop, running)
            if reader.capacity_bytes != image.virtual_size_bytes:
                raise HyperctlError(
                    ErrorCode.IMAGE_INVALID,
                    f"{image.path} is a disk of {reader.capacity_bytes} bytes to qemu, "
                    f"and was one of {image.virtual_size_bytes} when it was looked at",
                )
            yield reader


class ZeroDisk:
    """A `DiskReader` over a disk that was never written to."""

    connections = 1

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes

    def extents(self) -> Iterator[Extent]:
        yield Extent(0, self._capacity_bytes, is_zero=True)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        yield self

    @contextmanager
    def open(self, offset_bytes: int, length_bytes: int) -> Iterator[BytesIO]:
        yield BytesIO(bytes(length_bytes))


class _FileStream:
    """A part of a file, read once from its beginning to its end and hashed on the way."""

    def __init__(
        self, image: ImageFile, opened: Opened, where: range, digest: FileDigest | None, took: Took
    ) -> None:
        self._image = image
        self._descriptor = opened.descriptor
        self._at, self._end = where.start, where.stop
        self._digest = digest
        self._hash = hashlib.new(digest.digest.algorithm.value) if digest else None
        self._took = took
        self._chunk = b""
        self._from = 0

    def read(self, size: int) -> bytes:
        """So many bytes, fewer only at the end."""
        piece = self._chunk[self._from : self._from + size]
        self._from += len(piece)
        while len(piece) < size and self._next():
            more = self._chunk[: size - len(piece)]
            self._from = len(more)
            piece += more
        return piece

    def compare(self) -> None:
        """Raise `HyperctlError` where the manifest has another digest than what was read to its end."""
        if self._digest is not None and self._hash is not None:
            self._digest.compare(self._hash.hexdigest())

    def _next(self) -> bool:
        try:
            self._chunk = os.pread(self._descriptor, min(CHUNK_BYTES, self._end - self._at), self._at)
        except OSError as error:
            raise read_failed(self._image.path, self._at, error) from error
        self._from = 0
        self._at += len(self._chunk)
        if self._hash is not None:
            self._hash.update(self._chunk)
        self._took(len(self._chunk))
        return bool(self._chunk)
