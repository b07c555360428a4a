"""The disks' drivers in the initramfs of every kernel, by one more cpio segment behind what is there."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux import unified as unified_images
from hyperctl.activities.convert.linux.additions import additions, extended, packed_root
from hyperctl.activities.convert.linux.addons import Addon, find_addons
from hyperctl.activities.convert.linux.agreement import agree
from hyperctl.activities.convert.linux.arguments import stable_arguments
from hyperctl.activities.convert.linux.blacklists import (
    allow_modules,
    arguments_without_blacklists,
)
from hyperctl.activities.convert.linux.console import with_console
from hyperctl.activities.convert.linux.cpio import (
    Archive,
    CpioError,
    Entry,
    is_damaged,
    padding,
    read_archive,
)
from hyperctl.activities.convert.linux.default_kernel import may_be_default
from hyperctl.activities.convert.linux.drivers import Drivers, drivers_for, loaded_modules, other_hardware
from hyperctl.activities.convert.linux.early_network import network_without
from hyperctl.activities.convert.linux.kernels import Kernel, Rebuild, module_name
from hyperctl.activities.convert.linux.room import assert_room
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.hardware import Hardware
from hyperctl.workflows.request import InitramfsWay

LARGEST_INITRAMFS_BYTES = 1 << 30
INDEXES = "modules.*"


class NotAppendable(Exception):
    """What is appended to it would not serve."""


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
    able = [kernel for kernel in inspected.kernels if kernel.boots_with(drivers.needed)]
    _judge_kernels(inspected, able, drivers, hardware, work)
    allow_modules(inspected.files, loaded_modules(hardware, able), work)
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
                _note_rebuild(inspected, Rebuild(path, kernel, str(error)), work)
                continue
            if change is not None:
                changes.append(change)
        for path in kernel.unified:
            addons |= {addon.path: addon for addon in _judge_unified(path, kernel, inspected, work)}
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
    without = [one.version for one in inspected.kernels if not one.drives(drivers.needed)]
    outside = [one.version for one in inspected.kernels if one.version not in without and one not in able]
    what = "virtio" if hardware.disk_bus.needs_virtio else " and ".join(drivers.needed)
    without_image = f"without an initramfs for its modules of {what}: {', '.join(outside)}"
    if not able:
        way_out = other_hardware(inspected.kernels, hardware)
        if without:
            way_out = way_out or "install a newer kernel in the source"
            raise StepFailed(f"no kernel has {what} drivers: {', '.join(without)}; {way_out}")
        way_out = way_out or "have one made in the source (update-initramfs -c -k all)"
        raise StepFailed(f"no kernel can be booted on KVM {without_image}; {way_out}")
    if without:
        work.warnings.append(f"without {what} drivers, cannot be booted on KVM: {', '.join(without)}")
    if outside:
        work.warnings.append(f"cannot be booted on KVM {without_image}")
    if not able[0].drives((drivers.nic,)):
        work.warnings.append(f"{able[0].version} has no driver {drivers.nic}: it will have no network")


def _judge_unified(path: str, kernel: Kernel, inspected: Inspected, work: Work) -> tuple[Addon, ...]:
    """The addons of a unified kernel image; where it does not boot as it is, that is noted or said."""
    read = inspected.files.reader(path)
    image = unified_images.read_unified(read)
    release = unified_images.text(image.profiles[0], unified_images.RELEASE, read)
    addons = tuple(find_addons(inspected.files, path, release))
    if reasons := _unfit_profiles(image, read, kernel, inspected, addons):
        boots, what = 0 not in reasons, f"a unified kernel image {'; '.join(reasons.values())}"
        if boots and inspected.order.initramfs is InitramfsWay.APPEND:
            work.warnings.append(f"{path} is {what}, and stays as it is")
        else:
            _note_rebuild(inspected, Rebuild(path, kernel, what, is_unified=True, boots=boots), work)
    return addons


def _note_rebuild(inspected: Inspected, one: Rebuild, work: Work) -> None:
    """Raises `StepFailed` where only appending is allowed."""
    if inspected.order.initramfs is InitramfsWay.APPEND:
        if may_stay_damaged(inspected, one):
            work.warnings.append(f"{one.path} stays as it is: {one.reason}")
            return
        raise StepFailed(
            f"nothing can be appended to {one.path} ({one.reason}); --initramfs auto or rebuild has the "
            "guest's own tool make it anew"
        )
    inspected.rebuilds.append(one)


def may_stay_damaged(inspected: Inspected, one: Rebuild) -> bool:
    """Whether an initramfs is damaged, so that it booted nothing on VMware either, and its kernel is neither
    the newest with the drivers nor what a loader boots when nobody chooses."""
    if one.is_unified or not inspected.files.is_file(one.path):
        return False
    if not is_damaged(inspected.files.content(one.path, LARGEST_INITRAMFS_BYTES)):
        return False
    needed = drivers_for(inspected.order.hardware).needed
    newest = next((kernel for kernel in inspected.kernels if kernel.boots_with(needed)), None)
    return one.kernel is not newest and not may_be_default(inspected, one.kernel)


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
    return arguments_without_blacklists(text, loaded_modules(inspected.order.hardware, inspected.kernels))


def _prepared(path: str, kernel: Kernel, inspected: Inspected) -> _Change | None:
    """The change that one initramfs needs, or None where it needs none. Raises `NotAppendable`."""
    before = inspected.files.content(path, LARGEST_INITRAMFS_BYTES)
    try:
        archive = read_archive(before)
    except CpioError as error:
        raise NotAppendable(f"it cannot be read: {error}") from error
    entries = _entries(archive, kernel, inspected)
    if not entries:
        return None
    added = _modules_in(entries)
    if added and (image := packed_root(archive)):
        raise NotAppendable(f"its files are in {image} in it, which covers what is put beside it")
    if reason := network_without(archive, drivers_for(inspected.order.hardware).nic, kernel, inspected):
        raise NotAppendable(reason)
    if added and inspected.system.initramfs_tool == "mkinitrd":
        raise NotAppendable("mkinitrd has written down in it which drivers it loads")
    after = extended(before, archive, entries, kernel)
    _check(after, entries, path)
    keep = len(before) if after.startswith(before) else 0
    return _Change(path, kernel, keep, after[keep:], len(after) - len(before), added)


def _entries(archive: Archive, kernel: Kernel, inspected: Inspected) -> list[Entry]:
    drivers = drivers_for(inspected.order.hardware)
    return additions(
        archive,
        kernel,
        [name for name in drivers.storage if name not in kernel.builtin_names],
        inspected,
        list_indexes=lambda: inspected.files.matching(f"{kernel.modules_folder}/{INDEXES}"),
        fetch=inspected.files.content,
    )


def _modules_in(entries: list[Entry]) -> tuple[str, ...]:
    return tuple(sorted({module_name(entry.name) for entry in entries if ".ko" in entry.name}))


def extended_initramfs(before: bytes, kernel: Kernel, inspected: Inspected) -> bytes:
    """An initramfs with all that it lacks. Raises `CpioError`."""
    archive = read_archive(before)
    entries = _entries(archive, kernel, inspected)
    return extended(before, archive, entries, kernel) if entries else before


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


def _write(inspected: Inspected, change: _Change) -> None:
    guest = inspected.files.guest
    with tempfile.NamedTemporaryFile(prefix="hyperctl-initramfs-") as local:
        local.write(change.tail)
        local.flush()

        def write() -> None:
            if change.keep_bytes:
                guest.upload_offset(local.name, change.path, change.keep_bytes)
            else:
                guest.upload(local.name, change.path)

        inspected.files.write_held(change.path, write)
