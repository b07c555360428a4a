"""Virtio in the initramfs of every kernel, by one more cpio segment behind what is there."""

import gzip
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hyperctl.activities.convert.devices import StableNames
from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.arguments import stable_arguments
from hyperctl.activities.convert.linux.cpio import (
    Archive,
    CpioError,
    Entry,
    Piece,
    folders_above,
    padding,
    read_archive,
    write_segment,
)
from hyperctl.activities.convert.linux.fstab import stable_crypttab
from hyperctl.activities.convert.linux.kernels import NEEDED, VIRTIO_STORAGE, Kernel, module_name
from hyperctl.activities.convert.linux.storage import REWRITES
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work

LARGEST_INITRAMFS_BYTES = 1 << 30
LZ4_END_KNOWN_SINCE = (5, 11)
"""Kernels before take zeroes behind an lz4 archive for a damaged block (lib/decompress_unlz4.c)."""
MIB = 1 << 20
SPARE_BYTES = MIB
BLOCK_BYTES = 512
INDEXES = "modules.*"
CONFIGURATION = {
    "initramfs-tools": "/etc/initramfs-tools/modules",
    "dracut": "/etc/dracut.conf.d/50-hyperctl-virtio.conf",
}


@dataclass(frozen=True, slots=True)
class _Change:
    """What is to be written into one initramfs."""

    path: str
    kernel: Kernel
    keep_bytes: int
    """So much of it stays as it is."""
    tail: bytes
    """And this comes behind it."""
    growth_bytes: int
    added: tuple[str, ...]
    """Names of the modules."""


def inject_virtio_drivers(inspected: Inspected, work: Work) -> None:
    """Every kernel with virtio gets it into its initramfs, and the guest's own tool is told to keep it there.

    Nothing is written before it is known that all has room. Raises `StepFailed` when no kernel has virtio,
    and when an archive cannot be read or has no room to grow.
    """
    able = [kernel for kernel in inspected.kernels if kernel.has_virtio]
    without = [kernel.version for kernel in inspected.kernels if not kernel.has_virtio]
    if not able:
        raise StepFailed(f"no kernel has virtio drivers: {', '.join(without)}")
    if without:
        work.warnings.append(f"without virtio drivers, cannot be booted on KVM: {', '.join(without)}")
    changes = []
    for kernel in able:
        if not kernel.initramfs and any(name not in kernel.builtin_names for name in NEEDED):
            work.warnings.append(
                f"{kernel.version} has no initramfs and no built-in virtio: it does not boot"
            )
        for path in kernel.initramfs:
            if (change := _prepared(path, kernel, inspected)) is not None:
                changes.append(change)
    _assert_room(inspected, changes)
    for change in changes:
        _write(inspected, change)
        work.done.append(f"{change.path}: {', '.join(change.added) or 'names of devices'}")
        work.changed.append(change.path)
    _agree(inspected, work)


def _prepared(path: str, kernel: Kernel, inspected: Inspected) -> _Change | None:
    """The change that one initramfs needs, or None where it needs none."""
    modules = [name for name in VIRTIO_STORAGE if name not in kernel.builtin_names]
    guest = inspected.files.guest
    if inspected.files.size(path) > LARGEST_INITRAMFS_BYTES:
        raise StepFailed(f"{path} is larger than {LARGEST_INITRAMFS_BYTES} bytes")
    with tempfile.TemporaryDirectory(prefix="hyperctl-initramfs-") as folder:
        local = Path(folder) / "initramfs"
        guest.download(path, str(local))
        before = local.read_bytes()
        try:
            archive = read_archive(before)
        except CpioError as error:
            raise StepFailed(f"{path} cannot be read: {error}") from error

        def fetch(wanted: str) -> bytes:
            piece = Path(folder) / "file"
            guest.download(wanted, str(piece))
            return piece.read_bytes()

        entries = additions(
            archive,
            kernel,
            modules,
            inspected,
            list_indexes=lambda: inspected.files.matching(f"{kernel.modules_folder}/{INDEXES}"),
            fetch=fetch,
        )
    if not entries:
        return None
    after = extended(before, archive, entries, kernel)
    _check(after, entries, path)
    keep = len(before) if after.startswith(before) else 0
    added = tuple(sorted({module_name(entry.name) for entry in entries if ".ko" in entry.name}))
    return _Change(path, kernel, keep, after[keep:], len(after) - len(before), added)


def additions(
    archive: Archive,
    kernel: Kernel,
    modules: list[str],
    inspected: Inspected,
    *,
    list_indexes: Callable[[], list[str]],
    fetch: Callable[[str], bytes],
) -> list[Entry]:
    """What the archive lacks: module files with indexes that know them, and stable names of devices."""
    found: dict[str, Entry] = {}

    def put(path: str, data: bytes, mode: int = 0o644) -> None:
        resolved = archive.resolve(path)
        found[resolved] = Entry(resolved, stat.S_IFREG | mode, data)

    base = f"lib/modules/{kernel.version}"
    folder = f"{archive.resolve(base)}/"
    present = {path.removeprefix(folder) for path in archive.entries if path.startswith(folder)}
    held = {module_name(path): path for path in present if ".ko" in path}
    missing = [path for path in kernel.files_of(modules) if module_name(path) not in held]
    if missing:
        # The guest's whole index replaces the archive's, so what is there must have the name it has in it.
        other_names = [
            kernel.modules[name][0]
            for name, path in held.items()
            if name in kernel.modules and kernel.modules[name][0] != path
        ]
        for path in [*missing, *other_names]:
            put(f"{base}/{path}", fetch(f"{kernel.modules_folder}/{path}"))
        for path in list_indexes():
            put(f"{base}/{path.rpartition('/')[2]}", fetch(path))
    if inspected.system.initramfs_tool == "initramfs-tools":
        entry = archive.get("conf/modules")
        text = bytes(entry.data).decode(errors="surrogateescape") if entry else ""
        extended_list = with_lines(text, tuple(name for name in modules if name in kernel.modules))
        if extended_list != text:
            put("conf/modules", extended_list.encode(errors="surrogateescape"))
    for path, entry in archive.entries.items():
        rewrite = _rewrite(path, inspected.names)
        if rewrite is None or not stat.S_ISREG(entry.mode) or path in found:
            continue
        text = bytes(entry.data).decode("utf-8", "surrogateescape")
        changed = rewrite(text)
        if changed != text:
            put(path, changed.encode("utf-8", "surrogateescape"), stat.S_IMODE(entry.mode))
    folders = {folder for path in found for folder in folders_above(path) if folder not in archive.entries}
    return [*(Entry(folder, stat.S_IFDIR | 0o755) for folder in sorted(folders)), *found.values()]


def extended(before: bytes, archive: Archive, entries: list[Entry], kernel: Kernel) -> bytes:
    """The archive with a segment of these entries behind it."""
    last = archive.pieces[-1].compression if archive.pieces else ""
    if last == "lz4" and kernel.release < LZ4_END_KNOWN_SINCE:
        before = b"".join(_with_gzip(piece) for piece in archive.pieces)
    return before + padding(len(before)) + write_segment(entries)


def _with_gzip(piece: Piece) -> bytes:
    """A piece that every kernel reads to its end and on. Plain ones stay plain: they hold the microcode."""
    if piece.compression:
        return gzip.compress(piece.content, compresslevel=6, mtime=0)
    return bytes(piece.content) + bytes(-len(piece.content) % BLOCK_BYTES)


def _rewrite(path: str, names: StableNames) -> Callable[[str], str] | None:
    """How a file of the archive is made to name devices by what stays true."""
    if path.startswith(("conf/", "etc/cmdline.d/")):
        return lambda text: stable_arguments(text, names)
    if path in ("cryptroot/crypttab", "etc/crypttab"):
        return lambda text: stable_crypttab(text, names)[0]
    return dict(REWRITES).get(f"/{path}")


def _check(after: bytes, entries: list[Entry], path: str) -> None:
    """Read it again as the kernel will."""
    try:
        archive = read_archive(after)
    except CpioError as error:
        raise StepFailed(f"the new {path} would not be readable: {error}") from error
    for entry in entries:
        held = archive.entries.get(entry.name)
        if held is None or held.mode != entry.mode or bytes(held.data) != bytes(entry.data):
            raise StepFailed(f"the new {path} would not hold {entry.name}")


def _assert_room(inspected: Inspected, changes: list[_Change]) -> None:
    """Every filesystem takes all that is to be put on it. Raises `StepFailed` with what each lacks."""
    needed: dict[str, int] = {}
    for change in changes:
        place = _filesystem_of(change.path, inspected.mounts)
        needed[place] = needed.get(place, SPARE_BYTES) + change.growth_bytes
    lacking = []
    for place, wanted in needed.items():
        space = inspected.files.guest.statvfs(place)
        free = space["bavail"] * space["bsize"]
        if wanted > free:
            lacking.append(
                f"{place} has {free / MIB:.1f} MiB free and needs {wanted / MIB:.1f} MiB: "
                f"{(wanted - free) / MIB:.1f} MiB are missing"
            )
    if lacking:
        raise StepFailed(f"{'; '.join(lacking)}. Remove old kernels in the source")


def _filesystem_of(path: str, mounts: Mapping[str, str]) -> str:
    above = [place for place in mounts if f"{path}/".startswith(f"{place.rstrip('/')}/")]
    return max(above, key=len, default="/")


def _write(inspected: Inspected, change: _Change) -> None:
    guest = inspected.files.guest
    with tempfile.NamedTemporaryFile(prefix="hyperctl-initramfs-") as local:
        local.write(change.tail)
        local.flush()
        if change.keep_bytes:
            guest.upload_offset(local.name, change.path, change.keep_bytes)
        else:
            guest.upload(local.name, change.path)


def _agree(inspected: Inspected, work: Work) -> None:
    """Let the guest's next rebuild of its initramfs include virtio, and know its devices by stable names."""
    files = inspected.files
    path = CONFIGURATION[inspected.system.initramfs_tool]
    if inspected.system.initramfs_tool == "dracut":
        files.edit(path, f'add_drivers+=" {" ".join(VIRTIO_STORAGE)} virtio_net "\n', work)
        return
    text = files.text(path) or ""
    changed = with_lines(text, (*VIRTIO_STORAGE, "virtio_net"))
    if changed != text:
        files.edit(path, changed, work)
    for path in files.matching("/etc/initramfs-tools/conf.d/*", "/etc/initramfs-tools/initramfs.conf"):
        text = files.text(path) or ""
        changed = stable_arguments(text, inspected.names)
        if changed != text:
            files.edit(path, changed, work)


def with_lines(text: str, names: tuple[str, ...]) -> str:
    """A list of modules with these in it."""
    listed = {line.split()[0].replace("-", "_") for line in text.splitlines() if line.strip()}
    missing = [name for name in names if name not in listed]
    if not missing:
        return text
    end = "" if text.endswith("\n") or not text else "\n"
    return f"{text}{end}{''.join(f'{name}{chr(10)}' for name in missing)}"
