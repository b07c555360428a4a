"""The guest's kernels and what their modules depend on."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.linux.entries import find_entries

VIRTIO_STORAGE = ("virtio_pci", "virtio_blk", "virtio_scsi")
"""What an initramfs needs to find its root filesystem on KVM."""
NEEDED = ("virtio_pci", "virtio_blk")
"""Without these a kernel does not find its root filesystem there."""
_SUFFIX = re.compile(r"\.ko(?:\.(?:xz|gz|zst))?$")
_IMAGES = ("/boot/vmlinuz-*", "/boot/vmlinux-*")
_INITRAMFS = ("/boot/initrd.img-{}", "/boot/initramfs-{}.img", "/boot/initrd-{}")


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

    @property
    def has_virtio(self) -> bool:
        return all(name in self.modules or name in self.builtin_names for name in NEEDED)

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
    found = []
    for version, image in images.items():
        folder = f"/lib/modules/{version}"
        if not version or not files.is_folder(folder):
            continue
        candidates = [form.format(version) for form in _INITRAMFS]
        copies = [path for path in candidates if files.exists(path)][:1]
        copies += [path for entry in entries if version in entry.versions for path in entry.initramfs]
        found.append(
            Kernel(
                version=version,
                image=image,
                initramfs=tuple(dict.fromkeys(copies)),
                modules_folder=folder,
                dependencies=files.text(f"{folder}/modules.dep") or "",
                builtin=files.text(f"{folder}/modules.builtin") or "",
            )
        )
    return tuple(sorted(found, key=lambda kernel: version_key(kernel.version), reverse=True))


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Orders versions as people read them: 6.1.0-37 after 6.1.0-9."""
    return tuple(
        (1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"\d+|[a-z]+", version)
    )
