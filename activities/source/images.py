"""What a disk image is, found out by its content before qemu touches it, and how qemu is to open it.

A file's name says nothing, and qemu never guesses: it gets the format and every option explicitly, since an
image that it takes for another one may name any file of this host. What can name another file is refused, but
for the extents of a VMDK, which are checked one by one.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from hyperctl.activities.export.vmdk import MAGIC as SPARSE_MAGIC
from hyperctl.activities.source import qcow2_header, vhd, vmdk_descriptor, vmdk_sparse
from hyperctl.activities.source.opened import FileIdentity, Opened, check_unchanged, open_regular
from hyperctl.activities.source.problems import Problems, shown
from hyperctl.activities.source.qcow2_header import read_qcow2_header
from hyperctl.activities.source.vmdk_descriptor import Extent, VmdkDescriptor, read_vmdk_descriptor
from hyperctl.activities.source.vmdk_sparse import read_sparse_extent
from hyperctl.workflows.errors import HyperctlError

SECTOR_BYTES = 512
_NO_IMAGES = {
    b"\x1f\x8b": "compressed with gzip",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\0": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-zip archive",
    b"<?xml": "an XML document",
    b"COWD": "the delta of a snapshot (an ESXi sparse disk)",
    b"QED\0": "a QED image",
    b"version https://git-lfs": "a pointer to a file and not the file",
}


class ImageFormat(StrEnum):
    """The values are the names of qemu's drivers."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHD = "vpc"
    VHDX = "vhdx"
    VDI = "vdi"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image that qemu may open, read-only."""

    path: Path
    """Absolute."""
    format: ImageFormat
    virtual_size_bytes: int
    """What qemu shows: whole sectors."""
    allocated_bytes: int
    """An estimate of what it holds; compressed data count as they lie there, but for a VMDK's grains."""
    files: tuple[FileIdentity, ...]
    """Every file that is read, the extents of a VMDK too."""
    offset_bytes: int = 0
    """Where the image begins in its file; more than 0 in an archive."""
    size_bytes: int = 0
    """How many bytes of the file it takes."""
    is_stream: bool = False
    """A streamOptimized VMDK, which `export.vmdk.StreamVmdk` decodes in one pass."""
    remarks: tuple[str, ...] = field(default=())

    @property
    def blockdev(self) -> dict[str, Any]:
        """The read-only block node, for `json:`, `--image-opts` or `blockdev-add`."""
        node: dict[str, Any] = {"driver": "file", "filename": str(self.path), "read-only": True}
        whole = self.offset_bytes == 0 and self.size_bytes == self.files[0].size_bytes
        if self.format is ImageFormat.RAW or not whole:
            node = {"driver": "raw", "read-only": True, "file": node}
        if not whole:
            # qemu takes whole sectors only; a tar pads its members to them with zeroes.
            rounded = -(-self.size_bytes // SECTOR_BYTES) * SECTOR_BYTES
            node |= {"offset": self.offset_bytes, "size": rounded}
        if self.format is ImageFormat.RAW:
            return node
        node = {"driver": self.format.value, "read-only": True, "file": node}
        if self.format is ImageFormat.VHD:
            # The size in the footer, not the one from cylinders, heads and sectors, which is smaller.
            node["force_size_calc"] = "current_size"
        return node

    @property
    def qemu_name(self) -> str:
        """What stands for a file name on the command line of any qemu tool; give no `-f` beside it."""
        return "json:" + json.dumps(self.blockdev)

    def check_argv(self) -> tuple[str, ...] | None:
        """Has qemu look for tables and clusters that lie beyond the end; None where that was done here."""
        if self.format in (ImageFormat.RAW, ImageFormat.VMDK, ImageFormat.VHD):
            return None
        return ("qemu-img", "check", "--output=json", self.qemu_name)

    def check_unchanged(self) -> None:
        """Raise `HyperctlError` where a file of it was exchanged or written to since it was looked at.

        To be called once qemu has opened the image, and again when all of it was read.
        """
        check_unchanged(self.files)


@dataclass(frozen=True, slots=True)
class _Window:
    """The part of a file that an image lies in."""

    opened: Opened
    offset: int
    size: int

    def read_at(self, offset: int, size: int) -> bytes:
        return self.opened.read_at(self.offset + offset, max(0, min(size, self.size - offset)))


def probe_image(
    path: Path,
    *,
    stated_format: ImageFormat | None = None,
    offset_bytes: int = 0,
    size_bytes: int | None = None,
    called: str = "",
) -> ImageFile:
    """What the image in a file, or in a part of a file, is.

    `called` is what messages name it, where that is not the path. `stated_format` is what a person says that
    it is: only then a file that begins like an image of another format, or looks like a part of one, is taken
    as raw. Raises `PreflightError` with everything that is wrong with it, and `HyperctlError` where it cannot
    be opened.
    """
    path = path.absolute()
    problems = Problems(called or str(path))
    with open_regular(path) as opened:
        size = opened.size_bytes - offset_bytes if size_bytes is None else size_bytes
        if offset_bytes < 0 or size <= 0 or offset_bytes + size > opened.size_bytes:
            problems.invalid(f"there is no image of {size} bytes at {offset_bytes} in it")
            problems.raise_any()
        window = _Window(opened, offset_bytes, size)
        found = _format_of(window)
        if stated_format not in (None, ImageFormat.RAW) and found is not stated_format:
            problems.invalid(f"it is no image of the format {stated_format}: its content looks like {found}")
            problems.raise_any()
        image = _READERS[stated_format or found](window, problems, stated_format is not None)
    problems.raise_any()
    assert image is not None
    return image


def _format_of(window: _Window) -> ImageFormat:
    start = window.read_at(0, SECTOR_BYTES)
    if start.startswith(qcow2_header.MAGIC):
        return ImageFormat.QCOW2
    if start.startswith((SPARSE_MAGIC, vmdk_descriptor.MAGIC)):
        return ImageFormat.VMDK
    if start.startswith(vhd.VHDX_MAGIC):
        return ImageFormat.VHDX
    if start[vhd.VDI_MAGIC_OFFSET :].startswith(vhd.VDI_MAGIC):
        return ImageFormat.VDI
    if start.startswith(vhd.VHD_MAGIC):
        return ImageFormat.VHD
    if window.size > vhd.FOOTER_BYTES and window.read_at(window.size - vhd.FOOTER_BYTES, 8) == vhd.VHD_MAGIC:
        return ImageFormat.VHD
    return ImageFormat.RAW


def _raw(window: _Window, problems: Problems, is_stated: bool) -> ImageFile | None:
    if not is_stated:
        start = window.read_at(0, SECTOR_BYTES)
        for magic, what in _NO_IMAGES.items():
            if start.startswith(magic):
                problems.unsupported(f"it is {what} and no disk image", "Unpack or convert it first.")
        if problems.file.lower().endswith(".vmdk"):
            problems.invalid(
                "it has neither a VMDK's header nor a descriptor; it may be the data of one (-flat, -f001)",
                "Name the descriptor, the small .vmdk beside it; or say --source-format raw "
                "if it is a whole disk.",
            )
    if window.size % SECTOR_BYTES:
        problems.invalid(
            f"it has {window.size} bytes, which are no whole sectors", "It was cut off, or is no disk image."
        )
    return _image(window, ImageFormat.RAW, window.size)


def _qcow2(window: _Window, problems: Problems, _: bool) -> ImageFile | None:
    header = read_qcow2_header(window.read_at, window.size, problems)
    if header is None:
        return None
    remarks: tuple[str, ...] = ()
    if header.snapshots:
        remarks = (f"its {header.snapshots} internal snapshots are not moved, its current state is",)
    return _image(window, ImageFormat.QCOW2, header.virtual_size_bytes, remarks=remarks)


def _vmdk(window: _Window, problems: Problems, _: bool) -> ImageFile | None:
    if window.read_at(0, 4) != SPARSE_MAGIC:
        descriptor = read_vmdk_descriptor(window.read_at(0, vmdk_descriptor.MOST_BYTES + 1), problems)
        return _with_extents(window, descriptor, problems) if descriptor else None
    extent = read_sparse_extent(window.read_at, window.size, problems)
    if extent is None:
        return None
    if not extent.descriptor.strip(b"\0"):
        problems.invalid(
            "it is one extent of a disk that is split into several files",
            "Name the disk's descriptor, the small .vmdk beside it.",
        )
        return None
    embedded = read_vmdk_descriptor(extent.descriptor, problems)
    if embedded is None:
        return None
    if not embedded.create_type.is_one_file:
        problems.unsafe(
            f"its embedded descriptor is of the layout {embedded.create_type}, which names other files"
        )
        return None
    kept = _Window(window.opened, window.offset, extent.size_bytes)
    return _image(
        kept,
        ImageFormat.VMDK,
        extent.capacity_bytes,
        is_stream=extent.is_stream,
        allocated_bytes=extent.allocated_bytes,
    )


def _with_extents(window: _Window, descriptor: VmdkDescriptor, problems: Problems) -> ImageFile | None:
    path = window.opened.identity.path
    if descriptor.create_type.is_one_file:
        problems.invalid(f"it is only the descriptor of a disk of the layout {descriptor.create_type}")
        return None
    if window.offset or window.size != window.opened.size_bytes:
        problems.unsupported(
            f"a disk of it is in several files (VMDK, {descriptor.create_type}), "
            "which cannot be read out of an archive",
            "Unpack the archive and give the .ovf, or export the disk as a streamOptimized VMDK.",
        )
        return None
    identities: list[FileIdentity] = [window.opened.identity]
    for extent in descriptor.extents:
        if extent.file == path.name:
            problems.invalid(f"it names itself as its extent, {shown(extent.file)}")
            continue
        try:
            with open_regular(path.parent / extent.file) as opened:
                _check_extent(extent, opened, problems)
                if opened.identity not in identities:
                    identities.append(opened.identity)
        except HyperctlError as error:
            problems.take(error.failures)
    return ImageFile(
        path=path,
        format=ImageFormat.VMDK,
        virtual_size_bytes=descriptor.capacity_bytes,
        allocated_bytes=min(
            descriptor.capacity_bytes, sum(identity.allocated_bytes for identity in identities[1:])
        ),
        files=tuple(identities),
        size_bytes=window.size,
    )


def _check_extent(extent: Extent, opened: Opened, problems: Problems) -> None:
    """The file must hold what the descriptor says of it."""
    found = Problems(str(opened.identity.path))
    if not extent.is_sparse:
        needed = extent.offset_bytes + extent.size_bytes
        if opened.size_bytes < needed:
            found.invalid(
                f"it has {opened.size_bytes} bytes, where its descriptor says {needed}",
                "The file was cut off: fetch it again.",
            )
    else:
        sparse = read_sparse_extent(opened.read_at, opened.size_bytes, found)
        if sparse is not None and sparse.capacity_bytes != extent.size_bytes:
            found.invalid(
                f"it is of {sparse.capacity_bytes} bytes of the disk, "
                f"where its descriptor says {extent.size_bytes}"
            )
        if sparse is not None and sparse.descriptor.strip(b"\0"):
            # An extent that is a disk of its own may have a parent of its own.
            read_vmdk_descriptor(sparse.descriptor, found)
    problems.take(found.failures)


def _other(
    format_: ImageFormat, read: Callable[[vmdk_sparse.ReadAt, int, Problems], int | None]
) -> Callable[[_Window, Problems, bool], ImageFile | None]:
    def reader(window: _Window, problems: Problems, _: bool) -> ImageFile | None:
        virtual_size = read(window.read_at, window.size, problems)
        return None if virtual_size is None else _image(window, format_, virtual_size)

    return reader


_READERS: dict[ImageFormat, Callable[[_Window, Problems, bool], ImageFile | None]] = {
    ImageFormat.RAW: _raw,
    ImageFormat.QCOW2: _qcow2,
    ImageFormat.VMDK: _vmdk,
    ImageFormat.VHD: _other(ImageFormat.VHD, vhd.read_vhd_footer),
    ImageFormat.VHDX: _other(ImageFormat.VHDX, vhd.read_vhdx_header),
    ImageFormat.VDI: _other(ImageFormat.VDI, vhd.read_vdi_header),
}


def _image(
    window: _Window,
    format_: ImageFormat,
    virtual_size: int,
    *,
    is_stream: bool = False,
    allocated_bytes: int | None = None,
    remarks: Sequence[str] = (),
) -> ImageFile:
    identity = window.opened.identity
    rounded = -(-virtual_size // SECTOR_BYTES) * SECTOR_BYTES
    return ImageFile(
        path=identity.path,
        format=format_,
        virtual_size_bytes=rounded,
        allocated_bytes=min(identity.allocated_bytes, window.size, rounded)
        if allocated_bytes is None
        else min(allocated_bytes, rounded),
        files=(identity,),
        offset_bytes=window.offset,
        size_bytes=window.size,
        is_stream=is_stream,
        remarks=tuple(remarks),
    )
