"""Initramfs and unified kernel images made anew by the guest's own tools, in libguestfs' appliance.

The last step, since the tools read what all others have written. Each writes beside the old one, which is
replaced only by one that was read as the kernel reads it; as it was it also lies in the landed image below.
"""

import re
import tempfile
from collections.abc import Mapping

from hyperctl.activities.convert.encrypted import named_as_in_guest
from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux import unified as unified_images
from hyperctl.activities.convert.linux.bootloader import ENTRIES
from hyperctl.activities.convert.linux.builders import Building, command, profile_command, unified_command
from hyperctl.activities.convert.linux.cpio import Archive, CpioError, read_archive
from hyperctl.activities.convert.linux.drivers import drivers_for, other_hardware
from hyperctl.activities.convert.linux.early_network import modules_in
from hyperctl.activities.convert.linux.initramfs import (
    LARGEST_INITRAMFS_BYTES,
    extended_initramfs,
    fitting_arguments,
    may_stay_damaged,
)
from hyperctl.activities.convert.linux.kernels import Kernel, Rebuild
from hyperctl.activities.convert.linux.room import MIB, assert_room
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work

FOLDERS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/lib/systemd")
LONGEST_COMPLAINT = 600
Sections = Mapping[str, unified_images.Section]
SUSE_DISTRIBUTIONS = ("sles", "opensuse", "suse-based")
CRYPTTABS = ("cryptroot/crypttab", "conf/conf.d/cryptroot", "etc/crypttab")
"""Which encrypted volumes an initramfs opens: Debian's, its older form, and systemd's."""
STORAGE_MODULES = frozenset(
    {"dm_mod", "dm_crypt", "raid0", "raid1", "raid10", "raid456", "dm_multipath", "btrfs", "xfs"}
)
"""What a root filesystem may lie on: an initramfs that had one of them must not lose it."""

_LOADS = re.compile(r"\binitrd(?:16|efi)?([ \t=][^\n]*)", re.IGNORECASE)


def rebuild_initramfs(inspected: Inspected, work: Work) -> None:
    """Everything that an earlier step has noted. Raises `StepFailed`; what was there is then as it was.

    A unified image that cannot be made anew is a warning where it boots by its first profile, and where a
    boot loader's menu has its kernel's own initramfs, too; and so is a damaged initramfs of an older kernel
    that is not the default.
    """
    for one in inspected.rebuilds:
        try:
            _rebuild(inspected, one, work)
        except StepFailed as failed:
            has_other = one.is_unified and has_entry(inspected.files, one.kernel)
            if not (one.boots or has_other or may_stay_damaged(inspected, one)):
                raise
            work.warnings.append(str(failed))


def has_entry(files: GuestFiles, kernel: Kernel) -> bool:
    """Whether a boot loader's menu loads the kernel's initramfs. kernel-install may have made a unified image
    of it, and then nothing boots the one in /boot."""
    names = "|".join(re.escape(path.rpartition("/")[2]) for path in kernel.initramfs)
    named = re.compile(rf"(?<=[\s/=,])(?:{names})(?![\w.-])", re.IGNORECASE)
    loads = (load for path in files.matching(*ENTRIES) for load in _LOADS.findall(files.text(path) or ""))
    return bool(names) and any(named.search(load) for load in loads)


def _rebuild(inspected: Inspected, one: Rebuild, work: Work) -> None:
    with inspected.files.work_folder() as folder:
        new = f"{folder}/{'image.efi' if one.is_unified else 'initramfs'}"
        tool = _build_unified(inspected, one, folder, new) if one.is_unified else _build(inspected, one, new)
        before, after = inspected.files.size(one.path), inspected.files.size(new)
        assert_room(inspected, {one.path: max(0, after - before)})
        inspected.files.write_held(one.path, lambda: inspected.files.guest.cp(new, one.path))
    work.changed.append(one.path)
    work.done.append(f"{one.path} by {tool}: {after / MIB:.1f} MiB, before {before / MIB:.1f} MiB")


def _build(inspected: Inspected, one: Rebuild, new: str) -> str:
    """Returns the tool's name."""
    old = _archive(inspected, one.path)
    building = Building(
        version=one.kernel.version,
        image=one.kernel.image,
        output=new,
        modules=tuple(
            name for name in drivers_for(inspected.order.hardware).storage if name in one.kernel.modules
        ),
        is_suse=inspected.system.distribution in SUSE_DISTRIBUTIONS,
        readable=old is None,
    )
    argv = command(inspected.system.initramfs_tool, building)
    _run(inspected, argv, one)
    archive = _archive(inspected, new)
    if archive is None:
        raise StepFailed(f"what {argv[0]} has made for {one.path} cannot be read as the kernel reads it")
    _assert_complete(inspected, one, archive, old)
    content = inspected.files.content(new, LARGEST_INITRAMFS_BYTES)
    if (fitting := extended_initramfs(content, one.kernel, inspected)) != content:
        _put(inspected, new, fitting)
    return argv[0]


def _build_unified(inspected: Inspected, one: Rebuild, folder: str, new: str) -> str:
    """Its parts are taken over; ukify puts them together, or dracut or mkinitcpio make an initramfs, too."""
    files = inspected.files
    read = files.reader(one.path)
    image = unified_images.read_unified(read)
    if inspected.machine.secure_boot and image.is_signed:
        raise StepFailed(
            f"{_cannot(inspected, one)}: it is signed for Secure Boot, and a new one would not be"
        )
    builder = next((name for name in ("ukify", "dracut", "mkinitcpio") if _programme(inspected, name)), "")
    if not builder:
        raise StepFailed(
            f"{_cannot(inspected, one)}: the guest has no ukify, dracut or mkinitcpio to make it"
        )
    if len(image.own) > 1 and builder != "ukify":
        raise StepFailed(f"{_cannot(inspected, one)}: {builder} makes none with several profiles, ukify does")
    first = image.profiles[0]
    arguments = fitting_arguments(unified_images.text(first, unified_images.COMMAND_LINE, read), inspected)
    _put(inspected, f"{folder}/linux", unified_images.part(first, unified_images.KERNEL, read))
    _put(inspected, f"{folder}/cmdline", arguments.encode())
    if builder == "ukify":
        _put(inspected, f"{folder}/initrd", _extended(inspected, one, first, read))
        _put(inspected, f"{folder}/profile0", unified_images.part(first, unified_images.PROFILE, read))
        for number in range(1, len(image.own)):
            _build_profile(inspected, one, folder, number, image, read)
    argv = unified_command(builder, one.kernel.version, arguments, folder, new, len(image.own))
    _run(inspected, argv, one)
    _assert_fits(inspected, one, image, read, new, builder)
    return builder


def _build_profile(
    inspected: Inspected,
    one: Rebuild,
    folder: str,
    number: int,
    image: unified_images.Unified,
    read: unified_images.Read,
) -> None:
    first, sections = image.profiles[0], image.profiles[number]
    arguments = unified_images.text(sections, unified_images.COMMAND_LINE, read)
    parts = {
        "profile": unified_images.part(sections, unified_images.PROFILE, read),
        "cmdline": fitting_arguments(arguments, inspected).encode(),
    }
    if sections.get(unified_images.INITRAMFS) != first.get(unified_images.INITRAMFS):
        parts["initrd"] = _extended(inspected, one, sections, read)
    for name, content in parts.items():
        _put(inspected, f"{folder}/{name}{number}", content)
    _run(inspected, profile_command(folder, number, parts), one)


def _extended(inspected: Inspected, one: Rebuild, sections: Sections, read: unified_images.Read) -> bytes:
    before = unified_images.part(sections, unified_images.INITRAMFS, read)
    try:
        return extended_initramfs(before, one.kernel, inspected)
    except CpioError as error:
        raise StepFailed(f"{_cannot(inspected, one)}: the initramfs in it cannot be read: {error}") from error


def _assert_fits(
    inspected: Inspected,
    one: Rebuild,
    old: unified_images.Unified,
    read_old: unified_images.Read,
    path: str,
    builder: str,
) -> None:
    """A new image boots by every profile that the old one has. Raises `StepFailed`."""
    read = inspected.files.reader(path)
    what = f"what {builder} has made for {one.path}"
    try:
        made = unified_images.read_unified(read)
        if builder == "ukify" and len(made.own) != len(old.own):
            raise StepFailed(f"{what} has {len(made.own)} profiles, and not {len(old.own)}")
        for sections, before in zip(made.profiles, old.profiles, strict=False):
            archive = read_archive(unified_images.part(sections, unified_images.INITRAMFS, read))
            _assert_complete(inspected, one, archive, None)
            arguments = fitting_arguments(
                unified_images.text(before, unified_images.COMMAND_LINE, read_old), inspected
            )
            given = unified_images.text(sections, unified_images.COMMAND_LINE, read)
            if lost := set(arguments.split()) - set(given.split()):
                raise StepFailed(f"{what} lacks the arguments {' '.join(sorted(lost))}")
    except (unified_images.NotUnifiedError, CpioError) as error:
        raise StepFailed(f"{what} cannot be read: {error}") from error


def _cannot(inspected: Inspected, one: Rebuild) -> str:
    way_out = other_hardware((one.kernel,), inspected.order.hardware)
    hint = f" ({way_out}; or install systemd-ukify in the source)" if way_out else ""
    return f"{one.path} is {one.reason}, and cannot be rebuilt{hint}"


def _run(inspected: Inspected, argv: tuple[str, ...], one: Rebuild) -> None:
    path = _programme(inspected, argv[0])
    if not path:
        raise StepFailed(f"{one.path} cannot be rebuilt: the guest has no {argv[0]}")
    inspected.guest_code.append(argv[0])
    guest = inspected.files.guest
    try:
        with named_as_in_guest(guest, inspected.encrypted):
            guest.command([path, *argv[1:]])
    except RuntimeError as error:
        complaint = " ".join(str(error).split())[-LONGEST_COMPLAINT:]
        raise StepFailed(f"{argv[0]} has failed for {one.path}: {complaint}") from error


def _programme(inspected: Inspected, name: str) -> str:
    paths = (f"{folder}/{name}" for folder in FOLDERS)
    return next((path for path in paths if inspected.files.exists(path)), "")


def _archive(inspected: Inspected, path: str) -> Archive | None:
    """None where it cannot be read."""
    if not inspected.files.exists(path):
        return None
    try:
        return read_archive(inspected.files.content(path, LARGEST_INITRAMFS_BYTES))
    except CpioError:
        return None


def _assert_complete(inspected: Inspected, one: Rebuild, new: Archive, old: Archive | None) -> None:
    """It has an init, the drivers, and what the root filesystem needs. Raises `StepFailed`."""
    held = modules_in(new)
    wanted = set(drivers_for(inspected.order.hardware).needed)
    root = inspected.files.guest.vfs_type(inspected.mounts["/"])
    wanted |= {root} & one.kernel.modules.keys()
    wanted |= STORAGE_MODULES & (modules_in(old) if old else set())
    missing = sorted(wanted - held - one.kernel.builtin_names)
    missing += lost_crypttabs(old, new) if old else []
    if not any(new.get(name) for name in ("init", "linuxrc")):
        missing.append("an init")
    if missing:
        raise StepFailed(f"what the guest's own tool has made for {one.path} lacks {', '.join(missing)}")


def lost_crypttabs(old: Archive, new: Archive) -> list[str]:
    """Without its entries, an initramfs opens no encrypted root."""
    return [path for path in CRYPTTABS if _has_entries(old, path) and not _has_entries(new, path)]


def _has_entries(archive: Archive, path: str) -> bool:
    entry = archive.get(path)
    return entry is not None and any(
        line.strip() and not line.startswith(b"#") for line in bytes(entry.data).splitlines()
    )


def _put(inspected: Inspected, path: str, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(prefix="hyperctl-part-") as local:
        local.write(content)
        local.flush()
        inspected.files.guest.upload(local.name, path)
