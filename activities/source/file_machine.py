"""One path on this host, and the machine that lies there: an OVA, an OVF with its files, or a single disk."""

import hashlib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.source.bare_disk import bare_machine
from hyperctl.activities.source.images import ImageFile, ImageFormat, probe_image
from hyperctl.activities.source.manifest import MOST_BYTES as MOST_MANIFEST_BYTES
from hyperctl.activities.source.manifest import Digest, Manifest, read_manifest
from hyperctl.activities.source.markup import MOST_BYTES as MOST_DESCRIPTOR_BYTES
from hyperctl.activities.source.opened import FileIdentity, Opened, check_unchanged, open_regular
from hyperctl.activities.source.ova import manifest_remarks, read_ova
from hyperctl.activities.source.ovf import Ovf, OvfDisk, read_ovf
from hyperctl.activities.source.problems import Problems, shown
from hyperctl.activities.source.tar import TarMember, TarTruncated, is_tar
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import Machine, MachineDisk
from hyperctl.workflows.request import FirmwareChoice

_HASH_BYTES = 4 << 20


class FileKind(StrEnum):
    OVA = "ova"
    OVF = "ovf"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class FileDigest:
    """What the manifest says of a run of bytes in a file."""

    path: Path
    offset_bytes: int
    size_bytes: int
    digest: Digest

    def check(self, took: Callable[[int], None]) -> None:
        """Read the bytes and compare; for those who do not hash them while they copy.

        `took` is told how many bytes each piece had, and may raise. Raises `HyperctlError`
        (`source_invalid`, `storage_failed`).
        """
        found = hashlib.new(self.digest.algorithm.value)
        at, end = self.offset_bytes, self.offset_bytes + self.size_bytes
        with open_regular(self.path) as opened:
            while at < end and (data := opened.read_at(at, min(_HASH_BYTES, end - at))):
                found.update(data)
                at += len(data)
                took(len(data))
        self.compare(found.hexdigest())

    def compare(self, hexadecimal: str) -> None:
        """Raise `HyperctlError` (`source_invalid`) where the bytes have another digest than this."""
        if hexadecimal != self.digest.hexadecimal:
            raise HyperctlError(
                ErrorCode.SOURCE_INVALID,
                f"{self.path}, {self.size_bytes} bytes from {self.offset_bytes} on, has the digest "
                f"{self.digest.algorithm}:{hexadecimal}, where the manifest says {self.digest}",
                "The file was damaged or changed after the manifest was made: fetch it again.",
            )


@dataclass(frozen=True, slots=True)
class FileDisk:
    """One disk of the machine, and where its bytes are."""

    disk: MachineDisk
    image: ImageFile | None
    """None for a disk that is to be empty."""
    digests: tuple[FileDigest, ...] = ()
    """Of the image's files as they lie there; none where no manifest names them."""


@dataclass(frozen=True, slots=True)
class FileMachine:
    """A machine that comes as files, ready to be read."""

    kind: FileKind
    path: Path
    """The archive, the descriptor or the image."""
    machine: Machine
    disks: tuple[FileDisk, ...]
    """In the order of the machine's own."""
    files: tuple[FileIdentity, ...]
    """What was read, as it was then: `state` names it, and `check_unchanged` compares it."""
    remarks: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """Names the content that the files had: the same state, and copied disks can be kept."""
        facts = "\n".join(
            f"{file.path} {file.inode} {file.size_bytes} {file.modified_ns}" for file in self.files
        )
        return hashlib.sha256(facts.encode(errors="surrogateescape")).hexdigest()

    def check_unchanged(self) -> None:
        """Raise `HyperctlError` where one of the files is another one by now."""
        check_unchanged(self.files)


def read_file_machine(
    path: Path,
    running: Attempt,
    *,
    firmware: FirmwareChoice = FirmwareChoice.AUTO,
    stated_format: ImageFormat | None = None,
) -> FileMachine:
    """Find out what lies at a path, and judge all of it.

    `firmware` and `stated_format` are of a bare disk image; a package says both itself. Reads headers and
    tables only, not the disks' content. Raises `PreflightError` with every problem, `HyperctlError`.
    """
    check_path(path)
    if _is_folder(path):
        return _read_package(_only_descriptor(path))
    with open_regular(path) as opened:
        first = opened.read_at(0, 512)
    if stated_format is None and is_tar(first):
        return _read_archive(path)
    if stated_format is None and path.suffix.lower() == ".ovf":
        return _read_package(path)
    image = probe_image(path, stated_format=stated_format)
    machine, remarks = bare_machine(path, image, firmware, running)
    disk = FileDisk(machine.disks[0], image)
    return FileMachine(FileKind.IMAGE, path, machine, (disk,), image.files, (*image.remarks, *remarks))


def check_path(path: Path) -> None:
    """Raise `HyperctlError` (`invalid_request`) for a path that cannot be told to the kernel and to qemu."""
    if not path.is_absolute() or re.search(r"[\x00-\x1f\ud800-\udfff]", str(path)):
        # qemu is told the path in JSON, which has no bytes that are no UTF-8.
        raise HyperctlError(
            ErrorCode.INVALID_REQUEST,
            f"{shown(str(path))} is no absolute path in UTF-8",
            "Name the file from the root on, and rename what has other characters in its name.",
        )


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _only_descriptor(folder: Path) -> Path:
    try:
        found = sorted(name for name in os.listdir(folder) if name.lower().endswith(".ovf"))
    except OSError as error:
        raise HyperctlError(
            ErrorCode.PERMISSION_DENIED, f"the folder {folder} cannot be listed: {error.strerror}"
        ) from error
    if len(found) == 1:
        return folder / found[0]
    names = f" ({', '.join(shown(name) for name in found[:10])})" if found else ""
    raise HyperctlError(
        ErrorCode.SOURCE_INVALID,
        f"the folder {folder} holds {len(found)} OVF descriptors{names} and not one",
        "Name the descriptor, or the disk image.",
    )


def _read_archive(path: Path) -> FileMachine:
    """The headers of an OVA, and of the images in it."""
    problems = Problems(str(path))
    with open_regular(path) as opened:
        source = _Sequential(opened)
        ova = read_ova(source.read, source.skip, str(path))
        identity = opened.identity
    disks = tuple(
        _file_disk(machine_disk, disk, path, ova.members, ova.manifest, problems)
        for machine_disk, disk in zip(ova.ovf.machine.disks, ova.ovf.disks, strict=True)
    )
    problems.raise_any()
    return _machine(FileKind.OVA, path, ova.ovf, disks, (identity,), ova.remarks)


class _Sequential:
    """Reads a file from its beginning to its end, and leaps over what nobody wants."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._at = 0

    def read(self, size: int) -> bytes:
        data = self._opened.read_at(self._at, size)
        self._at += len(data)
        return data

    def skip(self, size: int) -> None:
        if self._at + size > self._opened.size_bytes:
            missing = self._at + size - self._opened.size_bytes
            raise TarTruncated(f"it ends {missing} bytes before the end of a member")
        self._at += size


def _read_package(path: Path) -> FileMachine:
    """A descriptor, the manifest beside it, and the images beside it."""
    problems = Problems(str(path))
    remarks: list[str] = []
    identities: list[FileIdentity] = []
    with open_regular(path) as opened:
        descriptor = _whole(opened, MOST_DESCRIPTOR_BYTES)
        identities.append(opened.identity)
    ovf = read_ovf(descriptor, str(path))
    manifest = _manifest_beside(path, identities, problems)
    if path.with_suffix(".cert").exists():
        remarks.append(f"the signature {path.with_suffix('.cert').name} is not checked")
    stated = manifest.digests.get(path.name) if manifest else None
    if stated and hashlib.new(stated.algorithm.value, descriptor).hexdigest() != stated.hexadecimal:
        problems.invalid(
            f"it does not have the {stated.algorithm} of its manifest",
            "It was changed after the manifest was made; if that was you, remove the .mf.",
        )
    stated_names = manifest.digests if manifest else {}
    named = [next((name for name in file.names if name in stated_names), file.name) for file in ovf.files]
    remarks += manifest_remarks(manifest, (path.name, *named))
    disks = tuple(
        _file_disk(machine_disk, disk, path.parent, None, manifest, problems)
        for machine_disk, disk in zip(ovf.machine.disks, ovf.disks, strict=True)
    )
    problems.raise_any()
    for disk in disks:
        identities += disk.image.files if disk.image else ()
    return _machine(FileKind.OVF, path, ovf, disks, tuple(identities), tuple(remarks))


def _manifest_beside(path: Path, identities: list[FileIdentity], problems: Problems) -> Manifest | None:
    beside = path.with_suffix(".mf")
    try:
        with open_regular(beside) as opened:
            data = _whole(opened, MOST_MANIFEST_BYTES)
            identities.append(opened.identity)
        return read_manifest(data, str(beside))
    except HyperctlError as error:
        if error.code is not ErrorCode.SOURCE_NOT_FOUND:
            problems.take(error.failures)
        return None


def _whole(opened: Opened, most_bytes: int) -> bytes:
    if opened.size_bytes > most_bytes:
        raise HyperctlError(
            ErrorCode.SOURCE_INVALID,
            f"{opened.identity.path} has {opened.size_bytes} bytes; {most_bytes} are taken",
        )
    return opened.read_at(0, most_bytes)


def _file_disk(
    machine_disk: MachineDisk,
    disk: OvfDisk,
    place: Path,
    members: dict[str, TarMember] | None,
    manifest: Manifest | None,
    problems: Problems,
) -> FileDisk:
    """The image of one disk: a file in the folder `place`, or a member of the archive `place`."""
    if disk.file is None:
        return FileDisk(machine_disk, None)
    name = disk.file.name
    about = Problems(f"{problems.file}: {name}" if members is not None else str(place / name))
    image = None
    try:
        if members is not None:
            member = members[name]
            image = probe_image(
                place, offset_bytes=member.offset_bytes, size_bytes=member.size_bytes, called=about.file
            )
        else:
            beside = [place / candidate for candidate in disk.file.names]
            image = probe_image(next((path for path in beside if os.path.lexists(path)), place / name))
    except HyperctlError as error:
        problems.take(error.failures)
    if image is not None:
        _check_sizes(disk, image, about)
    problems.take(about.failures)
    if image is None:
        return FileDisk(machine_disk, None)
    landed = machine_disk.model_copy(
        update={
            "capacity_bytes": image.virtual_size_bytes,
            # The descriptor gives the file's size, as a rule, and that of a compressed one says little.
            "allocated_bytes": image.allocated_bytes or machine_disk.allocated_bytes,
        }
    )
    digests: tuple[FileDigest, ...] = ()
    if manifest and members is not None:
        member = members[name]
        stated = manifest.digests.get(member.name)
        digests = (FileDigest(place, member.offset_bytes, member.size_bytes, stated),) if stated else ()
    elif manifest:
        digests = tuple(
            FileDigest(file.path, 0, file.size_bytes, manifest.digests[file.path.name])
            for file in image.files
            if file.path.name in manifest.digests
        )
    return FileDisk(landed, image, digests)


def _check_sizes(disk: OvfDisk, image: ImageFile, about: Problems) -> None:
    """A raw image that was cut off is known only by its descriptor; one with more than that is whole."""
    if image.virtual_size_bytes < disk.capacity_bytes:
        about.invalid(
            f"its disk has {image.virtual_size_bytes} bytes, where the descriptor says {disk.capacity_bytes}",
            "The file was cut off or is another one: fetch it again.",
        )
    stated = disk.file.size_bytes if disk.file else None
    if stated is not None and stated != image.files[0].size_bytes and image.offset_bytes == 0:
        about.invalid(
            f"it has {image.files[0].size_bytes} bytes, where the descriptor says {stated}",
            "The file was cut off or changed: fetch it again.",
        )


def _machine(
    kind: FileKind,
    path: Path,
    ovf: Ovf,
    disks: tuple[FileDisk, ...],
    files: tuple[FileIdentity, ...],
    remarks: tuple[str, ...],
) -> FileMachine:
    larger = [
        f"the disk {shown(disk.disk.file_name)} has {disk.disk.capacity_bytes} bytes, more than the "
        f"{stated.capacity_bytes} of the descriptor; all of it is moved"
        for disk, stated in zip(disks, ovf.disks, strict=True)
        if disk.disk.capacity_bytes > stated.capacity_bytes
    ]
    found = [remark for disk in disks if disk.image for remark in disk.image.remarks]
    machine = ovf.machine.model_copy(
        update={
            "disks": tuple(disk.disk for disk in disks),
            "allocated_bytes": sum(disk.disk.allocated_bytes for disk in disks),
        }
    )
    return FileMachine(kind, path, machine, disks, files, (*ovf.remarks, *remarks, *larger, *found))
