"""The guest's kernels and what their modules depend on."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.linux import unified as unified_images
from hyperctl.activities.convert.linux.entries import find_entries
from hyperctl.activities.convert.linux.menus import MenuImage, menu_images

_SUFFIX = re.compile(r"\.ko(?:\.(?:xz|gz|zst))?$")
_IMAGES = ("/boot/vmlinuz-*", "/boot/vmlinux-*")
MICROCODE = ("-ucode.img", "-uc.img", "microcode.img", "ucode.cpio", "microcode.cpio")
"""Endings of what a boot entry loads beside its initramfs."""
_INITRAMFS = ("/boot/initrd.img-{}", "/boot/initramfs-{}.img", "/boot/initrd-{}", "/boot/initrd-{}.img")
"""Debian's, dracut's, SUSE's and Red Hat's mkinitrd's."""


@dataclass(frozen=True)
class Kernel:
    """One that has an image in /boot and a folder of modules."""

    version: str
    image: str
    initramfs: tuple[str, ...]
    """Every copy of it: a boot loader may read another than the one in /boot. Empty where it has none."""
    modules_folder: str
    dependencies: str
    """The content of modules.dep (modules.dep(5))."""
    builtin: str
    """The content of modules.builtin."""
    unified: tuple[str, ...] = ()
    """Unified kernel images of it."""
    names: tuple[str, ...] = ()
    """What menus call its image beside its version: `vmlinuz`, `vmlinuz-rescue`."""

    @cached_property
    def builtin_names(self) -> frozenset[str]:
        return frozenset(module_name(line) for line in self.builtin.splitlines() if line)

    @cached_property
    def modules(self) -> dict[str, tuple[str, ...]]:
        """By a module's name: its file and those it depends on, relative to the folder of modules."""
        found = {}
        for line in self.dependencies.splitlines():
            path, colon, others = line.partition(":")
            if colon:
                found[module_name(path)] = (path, *others.split())
        return found

    def drives(self, names: Iterable[str]) -> bool:
        """Whether it has all these modules, in files or built in."""
        return all(name in self.modules or name in self.builtin_names for name in names)

    def boots_with(self, names: Iterable[str]) -> bool:
        """Whether it can have all these modules before its root filesystem is there."""
        needed = tuple(names)
        inside = bool(self.initramfs or self.unified) or self.builtin_names.issuperset(needed)
        return inside and self.drives(needed)

    @property
    def release(self) -> tuple[int, int]:
        """`(6, 1)` of 6.1.0-37-amd64."""
        numbers = re.match(r"(\d+)\.(\d+)", self.version)
        return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)

    def files_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """The files of these modules and of all that they need; what is built in or unknown has none."""
        files: dict[str, None] = {}
        for name in names:
            files.update(dict.fromkeys(self.modules.get(name, ())))
        return tuple(files)


@dataclass(frozen=True, slots=True)
class Rebuild:
    """One initramfs, or unified kernel image, that the guest's own tool is to make anew."""

    path: str
    kernel: Kernel
    reason: str
    is_unified: bool = False
    boots: bool = False
    """Whether an image boots as it is, by its first profile."""


def module_name(path: str) -> str:
    """`virtio_blk` of `kernel/drivers/block/virtio-blk.ko.xz`."""
    return _SUFFIX.sub("", path.rpartition("/")[2]).replace("-", "_")


def find_kernels(files: GuestFiles) -> tuple[Kernel, ...]:
    """All kernels that can be booted, the newest first."""
    entries = find_entries(files)
    images = {image.partition("-")[2]: image for image in reversed(files.matching(*_IMAGES))}
    for entry in entries:
        for version in entry.versions:
            images.setdefault(version, entry.kernel)
    in_menus = _named_in_menus(files, images)
    found = []
    packaged, unified = _packaged(files), _unified(files)
    for version, name in packaged.items():
        images[version] = f"/boot/vmlinuz-{name}"
    for version, paths in unified.items():
        images.setdefault(version, paths[0])
    for version, image in images.items():
        folder = f"/lib/modules/{version}"
        if not version or not files.is_folder(folder):
            continue
        candidates = [form.format(version) for form in _INITRAMFS]
        copies = [path for path in candidates if files.exists(path)][:1]
        if version in packaged:
            copies += [path for path in _of_package(packaged[version]) if files.exists(path)]
        copies += [
            path
            for entry in entries
            if version in entry.versions or packaged.get(version) in entry.versions
            for path in entry.initramfs
            if not path.endswith(MICROCODE)
        ]
        named = in_menus.get(version, ())
        copies += [path for one in named for path in one.initramfs if not path.endswith(MICROCODE)]
        found.append(
            Kernel(
                version=version,
                image=image,
                initramfs=tuple(dict.fromkeys(copies)),
                modules_folder=folder,
                dependencies=files.text(f"{folder}/modules.dep") or "",
                builtin=files.text(f"{folder}/modules.builtin") or "",
                unified=tuple(unified.get(version, ())),
                names=tuple(dict.fromkeys(one.name for one in named if not one.name.endswith(f"-{version}"))),
            )
        )
    return tuple(sorted(found, key=lambda kernel: version_key(kernel.version), reverse=True))


def _named_in_menus(files: GuestFiles, images: dict[str, str]) -> dict[str, list[MenuImage]]:
    """What menus boot, by the kernel's version; `images` get a kernel's image where it has no other.

    The version is in an image's name, or the kernel itself says it, whatever somebody has called it.
    """
    found: dict[str, list[MenuImage]] = {}
    for one in menu_images(files):
        version = one.kernel.rpartition("/")[2].partition("-")[2]
        if not (version and files.is_folder(f"/lib/modules/{version}")):
            version = unified_images.version_of_kernel(files.reader(one.kernel))
        if version:
            images.setdefault(version, one.kernel)
            found.setdefault(version, []).append(one)
    return found


def _packaged(files: GuestFiles) -> dict[str, str]:
    """Arch's and Alpine's kernels: by version the package, which the files in /boot are named by."""
    found = {}
    for path in files.matching("/lib/modules/*/pkgbase"):
        found[path.split("/")[-2]] = (files.text(path) or "").strip()
    for path in files.matching("/usr/share/kernel/*/kernel.release"):
        found[(files.text(path) or "").strip()] = path.split("/")[-2]
    return {version: name for version, name in found.items() if files.exists(f"/boot/vmlinuz-{name}")}


def _of_package(name: str) -> tuple[str, ...]:
    of_arch = (f"/boot/initramfs-{name}.img", f"/boot/initramfs-{name}-fallback.img")
    return (*of_arch, f"/boot/initramfs-{name}")


def _unified(files: GuestFiles) -> dict[str, list[str]]:
    """Unified kernel images by their kernel's version: as they say themselves, else as their names do."""
    folders = [path.rpartition("/")[2] for path in files.matching("/lib/modules/*")]
    found: dict[str, list[str]] = {}
    for path in files.matching(*unified_images.IMAGES, *unified_images.FALLBACKS):
        if not files.is_file(path):
            continue
        read = files.reader(path)
        try:
            version = unified_images.read_unified(read).version(read)
        except unified_images.NotUnifiedError:
            continue
        name = path.rpartition("/")[2]
        version = version or max((one for one in folders if one in name), key=len, default="")
        found.setdefault(version, []).append(path)
    return found


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Orders versions as people read them: 6.1.0-37 after 6.1.0-9."""
    return tuple(
        (1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"\d+|[a-z]+", version)
    )
