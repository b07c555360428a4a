"""A loader where a firmware looks that has no entry for one: the new machine's NVRAM is empty."""

from collections.abc import Mapping
from dataclasses import replace

from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.addons import extra_folder
from hyperctl.activities.convert.linux.drivers import drivers_for
from hyperctl.activities.convert.linux.room import assert_room
from hyperctl.activities.convert.mounts import SYSTEM_PARTITION_PLACES
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work

FALLBACK = "EFI/BOOT/BOOTX64.EFI"
LOADERS = (
    ("shimx64.efi", "grubx64.efi"),
    ("shim.efi", "grub.efi"),
    ("", "grubx64.efi"),
    ("", "systemd-bootx64.efi"),
    ("", "grub.efi"),
)
"""A shim for Secure Boot, or none, and what it loads from its own folder; the second pair is SUSE's, the last
GRUB legacy as Red Hat has it."""
LEGACY_CONFIGURATION = "grub.conf"
"""GRUB legacy looks in its own folder for one with its own name."""
COMPANIONS = ("mmx64.efi", "MokManager.efi", "grub.cfg")
"""What else it looks for in its own folder: a manager of keys, and SUSE's GRUB the way to its menu."""


def ensure_fallback(inspected: Inspected, work: Work) -> None:
    """Put the guest's own loader there.

    Where there is none, firmware itself boots a unified kernel image: the newest with the drivers. Raises
    `StepFailed` where there is neither, or no room for it.
    """
    files = inspected.files
    place = next((place for place in SYSTEM_PARTITION_PLACES if files.is_folder(f"{place}/EFI")), None)
    if place is None:
        raise StepFailed("the firmware is UEFI, and no EFI system partition with a loader was found")
    esp_files = {path.lower(): path for path in files.matching(f"{place}/EFI/*/*", f"{place}/EFI/*/*.*")}
    if f"{place}/{FALLBACK}".lower() in esp_files:
        return
    if _copy_loader(inspected, place, esp_files, work):
        return
    needed = drivers_for(inspected.order.hardware).needed
    images = [path for kernel in inspected.kernels if kernel.boots_with(needed) for path in kernel.unified]
    if not images:
        raise StepFailed(f"no boot loader was found in {place}/EFI")
    _copy_unified(inspected, place, images[0], work)


def _copy_loader(inspected: Inspected, place: str, esp_files: Mapping[str, str], work: Work) -> bool:
    """With what it loads from its own folder; `esp_files` has paths by the same in small letters."""
    files = inspected.files
    for shim, loader in LOADERS:
        wanted = shim or loader
        found = next((path for low, path in esp_files.items() if low.endswith(f"/{wanted}")), None)
        if found is None:
            continue
        folder = f"{place}/EFI/BOOT"
        files.guest.mkdir_p(folder)
        files.guest.cp(found, f"{place}/{FALLBACK}")
        work.changed.append(f"{place}/{FALLBACK}")
        if shim:
            source = found.rpartition("/")[0]
            for name in (loader, *COMPANIONS):
                if f"{source}/{name}".lower() in esp_files:
                    files.guest.cp(f"{source}/{name}", f"{folder}/{name}")
                    work.changed.append(f"{folder}/{name}")
        configuration = f"{found.rpartition('/')[0]}/{LEGACY_CONFIGURATION}"
        if wanted == "grub.efi" and files.exists(configuration):
            copy = f"{place}/{FALLBACK.removesuffix('EFI')}conf"
            files.guest.cp(configuration, copy)
            work.changed.append(copy)
            work.warnings.append(
                f"the menu on KVM is {copy}: a kernel that is installed later goes in there, too"
            )
        work.done.append(f"{found} also as {FALLBACK}")
        return True
    return False


def _copy_unified(inspected: Inspected, place: str, image: str, work: Work) -> None:
    """With its addons."""
    files = inspected.files
    copy = f"{place}/{FALLBACK}"
    targets = {image: copy}
    for addon in files.matching(f"{extra_folder(image)}/*"):
        targets[addon] = f"{extra_folder(copy)}/{addon.rpartition('/')[2]}"
    assert_room(inspected, {target: files.size(source) for source, target in targets.items()})
    for source, target in targets.items():
        files.guest.mkdir_p(target.rpartition("/")[0])
        files.guest.cp(source, target)
        work.changed.append(target)
    work.done.append(f"{image} also as {FALLBACK}")
    work.warnings.append(
        f"firmware boots {FALLBACK} on KVM, a copy of {image}: copy each new kernel's image there, or "
        "have systemd-boot installed (bootctl install)"
    )
    made_anew = [replace(one, path=copy) for one in inspected.rebuilds if one.path == image]
    inspected.rebuilds.extend(made_anew)
