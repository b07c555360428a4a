"""What an initramfs lacks, by its content, and the archive with that behind it. Touches no disk."""

import gzip
import re
import stat
from collections.abc import Callable
from functools import partial

from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.agreement import with_lines
from hyperctl.activities.convert.linux.arguments import stable_arguments
from hyperctl.activities.convert.linux.blacklists import (
    arguments_without_blacklists,
    is_modprobe_file,
    without_blacklists,
)
from hyperctl.activities.convert.linux.cpio import (
    Archive,
    Entry,
    Piece,
    folders_above,
    padding,
    write_segment,
)
from hyperctl.activities.convert.linux.drivers import loaded_modules
from hyperctl.activities.convert.linux.early_network import naming_files
from hyperctl.activities.convert.linux.fstab import stable_crypttab, stable_fstab
from hyperctl.activities.convert.linux.kernels import Kernel, module_name
from hyperctl.activities.convert.linux.storage import rewrites
from hyperctl.activities.convert.linux.waits import hook_for, is_hook, units_for

LZ4_END_KNOWN_SINCE = (5, 11)
"""Kernels before take zeroes behind an lz4 archive for a damaged block (lib/decompress_unlz4.c)."""
BLOCK_BYTES = 512
_PACKED_ROOT = re.compile(r"(?:squash/root|squash-root|squashfs-root|erofs-root)\.img")
_MKINITCPIO_MODULES = re.compile(r"^MODULES=(['\"])([^'\"]*)\1$", re.MULTILINE)


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
    own = tuple(name for name in modules if name in kernel.modules)
    allowed = loaded_modules(inspected.order.hardware, (kernel,))
    for path, entry in archive.entries.items():
        rewrite = _rewrite(path, inspected, own, allowed)
        if rewrite is None or not stat.S_ISREG(entry.mode) or path in found:
            continue
        text = bytes(entry.data).decode("utf-8", "surrogateescape")
        changed = rewrite(text)
        if changed != text:
            put(path, changed.encode("utf-8", "surrogateescape"), stat.S_IMODE(entry.mode))
    more = [*units_for(archive, _waited_for(inspected)), *naming_files(archive, inspected)]
    found |= {entry.name: entry for entry in more}
    folders = {folder for path in found for folder in folders_above(path) if folder not in archive.entries}
    return [*(Entry(folder, stat.S_IFDIR | 0o755) for folder in sorted(folders)), *found.values()]


def packed_root(archive: Archive) -> str:
    """The image that dracut has packed all files into (its modules squash-*), or an empty string."""
    return next((path for path in archive.entries if _PACKED_ROOT.fullmatch(path)), "")


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


def _waited_for(inspected: Inspected) -> Callable[[str], str | None]:
    return partial(inspected.names.waited_for, prefix=inspected.order.hardware.disk_bus.prefix)


def _rewrite(
    path: str, inspected: Inspected, modules: tuple[str, ...], allowed: tuple[str, ...]
) -> Callable[[str], str] | None:
    """How a file of the archive is made to name devices by what stays true, and to let drivers load."""
    names, hardware = inspected.names, inspected.order.hardware
    if path.startswith(("conf/", "etc/cmdline.d/")):
        return lambda text: arguments_without_blacklists(stable_arguments(text, names), allowed)
    if path in ("etc/fstab", "etc/fstab.sys"):  # dracut's add_fstab and its module fstab-sys
        return lambda text: stable_fstab(text, names)[0]
    if path in ("cryptroot/crypttab", "etc/crypttab"):
        return lambda text: stable_crypttab(text, names)[0]
    if is_hook(path):
        return lambda text: hook_for(text, _waited_for(inspected))
    if is_modprobe_file(path):
        return lambda text: without_blacklists(text, allowed)
    if path == "config" and inspected.system.initramfs_tool == "mkinitcpio":
        return lambda text: loading(text, modules)
    return rewrites(hardware.disk_bus).get(f"/{path}")


def loading(text: str, modules: tuple[str, ...]) -> str:
    """mkinitcpio's own /config of an image, whose init loads MODULES before it looks for devices."""

    def extended_list(found: re.Match[str]) -> str:
        words = found[2].split()
        return (
            f"MODULES={found[1]}{' '.join([*words, *(one for one in modules if one not in words)])}{found[1]}"
        )

    if _MKINITCPIO_MODULES.search(text):
        return _MKINITCPIO_MODULES.sub(extended_list, text)
    return f'{text}MODULES="{" ".join(modules)}"\n'
