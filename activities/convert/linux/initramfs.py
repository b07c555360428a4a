"""The disks' drivers in the initramfs of every kernel, by one more cpio segment behind what is there."""

import gzip
import re
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux import unified as unified_images
from hyperctl.activities.convert.linux.addons import Addon, find_addons
from hyperctl.activities.convert.linux.agreement import agree, with_lines
from hyperctl.activities.convert.linux.arguments import stable_arguments
from hyperctl.activities.convert.linux.blacklists import (
    allow_modules,
    arguments_without_blacklists,
    is_modprobe_file,
    without_blacklists,
)
from hyperctl.activities.convert.linux.console import with_console
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
from hyperctl.activities.convert.linux.drivers import Drivers, drivers_for, other_hardware
from hyperctl.activities.convert.linux.fstab import stable_crypttab, stable_fstab
from hyperctl.activities.convert.linux.kernels import Kernel, Rebuild, module_name
from hyperctl.activities.convert.linux.storage import rewrites
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.hardware import Hardware
from hyperctl.workflows.request import InitramfsWay

LARGEST_INITRAMFS_BYTES = 1 << 30
LZ4_END_KNOWN_SINCE = (5, 11)
"""Kernels before take zeroes behind an lz4 archive for a damaged block (lib/decompress_unlz4.c)."""
MIB = 1 << 20
SPARE_BYTES = MIB
BLOCK_BYTES = 512
INDEXES = "modules.*"
_ON_THE_NETWORK = re.compile(
    r"(?<=bin/)(?:dropbear|sshd|clevis-luks-askpass|clevis-decrypt-tang|iscsistart)$"
)
_NETWORK_ARGUMENT = re.compile(r"(?<![\w.])(?:ip=\S|rd\.neednet=1)")
_PACKED_ROOT = re.compile(r"(?:squash/root|squash-root|squashfs-root|erofs-root)\.img")
_MKINITCPIO_MODULES = re.compile(r"^MODULES=(['\"])([^'\"]*)\1$", re.MULTILINE)


class NotAppendable(Exception):
    """What is appended to it would not serve."""

    is_damaged = False


class Damaged(NotAppendable):
    """It cannot be read."""

    is_damaged = True


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
    """Every kernel with the disks' drivers gets them into its initramfs, and the guest's own tool is told so.

    Where appending cannot serve, or a rebuild is asked for, that is noted for the last step. Nothing is
    written before it is known that all has room. Raises `StepFailed` when no kernel has the drivers, and when
    an archive cannot be read or has no room to grow.
    """
    hardware, way = inspected.order.hardware, inspected.order.initramfs
    drivers = drivers_for(hardware)
    able = [kernel for kernel in inspected.kernels if kernel.drives(drivers.needed)]
    _judge_kernels(inspected, able, drivers, hardware, work)
    allow_modules(inspected.files, drivers.all, work)
    changes = []
    addons: dict[str, Addon] = {}
    for kernel in able:
        for path in kernel.initramfs:
            if way is InitramfsWay.REBUILD:
                inspected.rebuilds.append(Rebuild(path, kernel, "as asked"))
                continue
            try:
                change = _prepared(path, kernel, inspected)
            except NotAppendable as error:
                _note_rebuild(inspected, Rebuild(path, kernel, str(error), is_damaged=error.is_damaged))
                continue
            if change is not None:
                changes.append(change)
        for path in kernel.unified:
            read = inspected.files.reader(path)
            image = unified_images.read_unified(read)
            release = unified_images.text(image.profiles[0], unified_images.RELEASE, read)
            added = tuple(find_addons(inspected.files, path, release))
            addons |= {addon.path: addon for addon in added}
            if not (reasons := _unfit_profiles(image, read, kernel, inspected, added)):
                continue
            boots, what = 0 not in reasons, f"a unified kernel image {'; '.join(reasons.values())}"
            if boots and way is InitramfsWay.APPEND:
                work.warnings.append(f"{path} is {what}, and stays as it is")
                continue
            _note_rebuild(inspected, Rebuild(path, kernel, what, is_unified=True, boots=boots))
    edits = {path: pieces for path, addon in addons.items() if (pieces := _fitting_addon(addon, inspected))}
    assert_room(inspected, {change.path: change.growth_bytes for change in changes})
    for change in changes:
        _write(inspected, change)
        work.done.append(f"{change.path}: {', '.join(change.added) or 'settings'}")
        work.changed.append(change.path)
    for path, pieces in edits.items():
        for offset, content in pieces:
            inspected.files.guest.pwrite(path, content, offset)
        work.done.append(f"{path}: arguments")
        work.changed.append(path)
    for one in inspected.rebuilds:
        work.done.append(f"{one.path} is to be rebuilt: {one.reason}")
    agree(inspected, drivers, work)


def _judge_kernels(
    inspected: Inspected, able: list[Kernel], drivers: Drivers, hardware: Hardware, work: Work
) -> None:
    without = [kernel.version for kernel in inspected.kernels if kernel not in able]
    what = "virtio" if hardware.disk_bus.needs_virtio else " and ".join(drivers.needed)
    if not able:
        way_out = other_hardware(inspected.kernels, hardware) or "install a newer kernel in the source"
        raise StepFailed(f"no kernel has {what} drivers: {', '.join(without)}; {way_out}")
    if without:
        work.warnings.append(f"without {what} drivers, cannot be booted on KVM: {', '.join(without)}")
    if not able[0].drives((drivers.nic,)):
        work.warnings.append(f"{able[0].version} has no driver {drivers.nic}: it will have no network")
    for kernel in able:
        images = kernel.initramfs or kernel.unified
        if not images and any(name not in kernel.builtin_names for name in drivers.needed):
            work.warnings.append(
                f"{kernel.version} has no initramfs and no built-in {what}: it does not boot"
            )


def _note_rebuild(inspected: Inspected, one: Rebuild) -> None:
    """Raises `StepFailed` where only appending is allowed."""
    if inspected.order.initramfs is InitramfsWay.APPEND:
        raise StepFailed(
            f"nothing can be appended to {one.path} ({one.reason}); --initramfs auto or rebuild has the "
            "guest's own tool make it anew"
        )
    inspected.rebuilds.append(one)


def _unfit_profiles(
    image: unified_images.Unified,
    read: unified_images.Read,
    kernel: Kernel,
    inspected: Inspected,
    addons: Sequence[Addon],
) -> dict[int, str]:
    """By which of its profiles a unified kernel image does not boot as it is, and why.

    Raises `StepFailed` where that is an addon's initramfs, which comes last and so counts.
    """
    judged: dict[unified_images.Section | None, str] = {}
    found = {}
    for number, sections in enumerate(image.profiles):
        section = sections.get(unified_images.INITRAMFS)
        if section not in judged:
            content = unified_images.part(sections, unified_images.INITRAMFS, read)
            judged[section] = _unfit_initramfs(content, kernel, inspected, addons)
        reason = judged[section]
        arguments = unified_images.text(sections, unified_images.COMMAND_LINE, read)
        if not reason and fitting_arguments(arguments, inspected) != arguments:
            reason = f"with the arguments {arguments!r}"
        if reason:
            found[number] = f"{reason} in its profile {number}" if image.own else reason
    return found


def _unfit_initramfs(content: bytes, kernel: Kernel, inspected: Inspected, addons: Sequence[Addon]) -> str:
    """The same of the initramfs in one, with those of its addons behind it."""
    try:
        behind = [(addon, read_archive(addon.initramfs)) for addon in addons if addon.initramfs]
        for addon, _ in behind:
            content += padding(len(content)) + addon.initramfs
        archive = read_archive(content)
    except CpioError as error:
        return f"whose initramfs cannot be read ({error})"
    entries = _entries(archive, kernel, inspected)
    for addon, held in behind:
        if covered := [entry.name for entry in entries if entry.name in held.entries and not entry.is_folder]:
            raise StepFailed(
                f"{addon.path} has an initramfs whose {covered[0]} does not fit KVM, and which no image can "
                "change: remove the addon in the source, or make it anew"
            )
    if modules := _modules_in(entries):
        return f"without {', '.join(modules)}"
    return "with settings for VMware's disks" if entries else ""


def _fitting_addon(addon: Addon, inspected: Inspected) -> list[tuple[int, bytes]]:
    """What is to be written where in an addon, for its arguments to be true on KVM. Raises `StepFailed`."""
    arguments = _true_arguments(addon.arguments, inspected)
    if arguments == addon.arguments:
        return []
    way_out = f"make it anew in the source (ukify build --cmdline {arguments!r}), or remove it"
    if inspected.machine.secure_boot and addon.programme.is_signed:
        raise StepFailed(
            f"{addon.path} has the arguments {addon.arguments!r}, and is signed for Secure Boot, so that it "
            f"cannot be changed: {way_out}"
        )
    pieces = addon.with_arguments(arguments)
    if pieces is None:
        raise StepFailed(f"{addon.path} has no room for the arguments that it needs on KVM: {way_out}")
    return pieces


def fitting_arguments(arguments: str, inspected: Inspected) -> str:
    """A kernel's arguments as they must be on KVM, where no boot loader's entry has them."""
    text = _true_arguments(arguments, inspected)
    return with_console(text) if inspected.order.serial_console else text


def _true_arguments(arguments: str, inspected: Inspected) -> str:
    text = stable_arguments(arguments, inspected.names)
    return arguments_without_blacklists(text, drivers_for(inspected.order.hardware).all)


def _prepared(path: str, kernel: Kernel, inspected: Inspected) -> _Change | None:
    """The change that one initramfs needs, or None where it needs none. Raises `NotAppendable`."""
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
        raise Damaged(f"it cannot be read: {error}") from error
    entries = _entries(archive, kernel, inspected)
    if not entries:
        return None
    added = _modules_in(entries)
    if added and (image := packed_root(archive)):
        raise NotAppendable(f"its files are in {image} in it, which covers what is put beside it")
    if reason := network_without(archive, drivers_for(inspected.order.hardware).nic, kernel):
        raise NotAppendable(reason)
    if added and inspected.system.initramfs_tool == "mkinitrd":
        raise NotAppendable("mkinitrd has written down in it which drivers it loads")
    after = extended(before, archive, entries, kernel)
    _check(after, entries, path)
    keep = len(before) if after.startswith(before) else 0
    return _Change(path, kernel, keep, after[keep:], len(after) - len(before), added)


def _entries(archive: Archive, kernel: Kernel, inspected: Inspected) -> list[Entry]:
    drivers = drivers_for(inspected.order.hardware)
    with tempfile.NamedTemporaryFile(prefix="hyperctl-module-") as piece:

        def fetch(wanted: str) -> bytes:
            inspected.files.guest.download(wanted, piece.name)
            return Path(piece.name).read_bytes()

        return additions(
            archive,
            kernel,
            [name for name in drivers.storage if name not in kernel.builtin_names],
            inspected,
            list_indexes=lambda: inspected.files.matching(f"{kernel.modules_folder}/{INDEXES}"),
            fetch=fetch,
        )


def _modules_in(entries: list[Entry]) -> tuple[str, ...]:
    return tuple(sorted({module_name(entry.name) for entry in entries if ".ko" in entry.name}))


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
        rewrite = _rewrite(path, inspected, tuple(name for name in modules if name in kernel.modules))
        if rewrite is None or not stat.S_ISREG(entry.mode) or path in found:
            continue
        text = bytes(entry.data).decode("utf-8", "surrogateescape")
        changed = rewrite(text)
        if changed != text:
            put(path, changed.encode("utf-8", "surrogateescape"), stat.S_IMODE(entry.mode))
    folders = {folder for path in found for folder in folders_above(path) if folder not in archive.entries}
    return [*(Entry(folder, stat.S_IFDIR | 0o755) for folder in sorted(folders)), *found.values()]


def packed_root(archive: Archive) -> str:
    """The image that dracut has packed all files into (its modules squash-*), or an empty string."""
    return next((path for path in archive.entries if _PACKED_ROOT.fullmatch(path)), "")


def network_without(archive: Archive, nic: str, kernel: Kernel) -> str:
    """Why an initramfs that goes to the network, for a key or to be told one, would not get there."""
    paths = archive.entries
    if nic in kernel.builtin_names or any(module_name(path) == nic for path in paths if ".ko" in path):
        return ""
    user = next((found[0] for path in paths if (found := _ON_THE_NETWORK.search(path))), "")
    asked = any(
        _NETWORK_ARGUMENT.search(bytes(entry.data).decode(errors="replace"))
        for path, entry in paths.items()
        if path.startswith("etc/cmdline.d/")
    )
    if not user and not asked:
        return ""
    return f"it goes to the network ({user or 'as it is told in etc/cmdline.d'}) and lacks {nic}"


def extended(before: bytes, archive: Archive, entries: list[Entry], kernel: Kernel) -> bytes:
    """The archive with a segment of these entries behind it."""
    last = archive.pieces[-1].compression if archive.pieces else ""
    if last == "lz4" and kernel.release < LZ4_END_KNOWN_SINCE:
        before = b"".join(_with_gzip(piece) for piece in archive.pieces)
    return before + padding(len(before)) + write_segment(entries)


def extended_initramfs(before: bytes, kernel: Kernel, inspected: Inspected) -> bytes:
    """An initramfs with all that it lacks. Raises `CpioError`."""
    archive = read_archive(before)
    entries = _entries(archive, kernel, inspected)
    return extended(before, archive, entries, kernel) if entries else before


def _with_gzip(piece: Piece) -> bytes:
    """A piece that every kernel reads to its end and on. Plain ones stay plain: they hold the microcode."""
    if piece.compression:
        return gzip.compress(piece.content, compresslevel=6, mtime=0)
    return bytes(piece.content) + bytes(-len(piece.content) % BLOCK_BYTES)


def _rewrite(path: str, inspected: Inspected, modules: tuple[str, ...]) -> Callable[[str], str] | None:
    """How a file of the archive is made to name devices by what stays true, and to let drivers load."""
    names, hardware = inspected.names, inspected.order.hardware
    if path.startswith(("conf/", "etc/cmdline.d/")):
        return lambda text: arguments_without_blacklists(stable_arguments(text, names), modules)
    if path in ("etc/fstab", "etc/fstab.sys"):  # dracut's add_fstab and its module fstab-sys
        return lambda text: stable_fstab(text, names)[0]
    if path in ("cryptroot/crypttab", "etc/crypttab"):
        return lambda text: stable_crypttab(text, names)[0]
    if is_modprobe_file(path):
        return lambda text: without_blacklists(text, drivers_for(hardware).all)
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


def assert_room(inspected: Inspected, growth_bytes: Mapping[str, int]) -> None:
    """Every filesystem takes all that is to be put on it. Raises `StepFailed` with what each lacks."""
    needed: dict[str, int] = {}
    for path, size in growth_bytes.items():
        place = _filesystem_of(path, inspected.mounts)
        needed[place] = needed.get(place, SPARE_BYTES) + size
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
