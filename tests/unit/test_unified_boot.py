"""Unified kernel images that boot a guest: made by kernel-install, read by systemd-boot or by firmware."""

from pathlib import Path

import pytest

from hyperctl.activities.convert.linux.bootloader import update_bootloader
from hyperctl.activities.convert.linux.kernels import Rebuild
from hyperctl.activities.convert.linux.rebuild import has_entry, rebuild_initramfs
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.machine import Firmware
from tests.unit.test_layouts import ABLE, KERNELS, UNABLE, inspected
from tests.unit.test_unified import image

LOADER = "/boot/efi/EFI/BOOT/BOOTX64.EFI"
TOKEN = "5f0c1d2b7a3e4f689b0d1c2e3f405102"


def unified(version: str, tries: str = "") -> dict[str, str | bytes]:
    """As kernel-install(8) puts it there with `layout=uki`."""
    parts = {".linux": b"a kernel", ".initrd": b"", ".cmdline": b"root=/dev/sda2 ro"}
    content = image({**parts, ".uname": version.encode()})
    return {f"/boot/efi/EFI/Linux/{TOKEN}-{version}{tries}.efi": content}


@pytest.mark.parametrize("loader_conf", ["", f"default {TOKEN}-{UNABLE}.efi\n"])
def test_the_default_is_an_image_whose_kernel_has_the_drivers(tmp_path: Path, loader_conf: str) -> None:
    files = {**KERNELS, **unified(ABLE, "+2-1"), **unified(UNABLE), LOADER: "systemd-boot"}
    files["/boot/efi/loader/loader.conf"] = f"timeout 3\n{loader_conf}"
    guest = inspected(tmp_path, files, firmware=Firmware.EFI)
    update_bootloader(guest, Work())
    written = guest.files.text("/boot/efi/loader/loader.conf")
    assert written == f"default {TOKEN}-{ABLE}.efi\ntimeout 3\n"


def test_firmware_boots_the_newest_image_where_there_is_no_loader(tmp_path: Path) -> None:
    files = {**KERNELS, **unified(ABLE)}
    guest, work = inspected(tmp_path, files, firmware=Firmware.EFI), Work()
    (kernel,) = [one for one in guest.kernels if one.version == ABLE]
    guest.rebuilds.append(Rebuild(kernel.unified[0], kernel, "without virtio_blk", is_unified=True))
    update_bootloader(guest, work)
    (content,) = unified(ABLE).values()
    assert (tmp_path / LOADER.lstrip("/")).read_bytes() == content
    assert [one.path for one in guest.rebuilds] == [kernel.unified[0], LOADER]
    (warning,) = work.warnings
    assert f"a copy of {kernel.unified[0]}" in warning


def test_an_image_that_firmware_boots_is_one_of_its_kernels(tmp_path: Path) -> None:
    (content,) = unified(ABLE).values()
    guest = inspected(tmp_path, {**KERNELS, LOADER: content}, firmware=Firmware.EFI)
    assert [kernel.unified for kernel in guest.kernels if kernel.version == ABLE] == [(LOADER,)]


def test_the_next_image_that_is_made_finds_its_root(tmp_path: Path) -> None:
    files = {
        **KERNELS,
        **unified(ABLE),
        LOADER: "",
        "/etc/kernel/uki.conf": "[UKI]\nCmdline=root=/dev/sda2 ro\n",
    }
    files["/boot/efi/loader/loader.conf"] = f"default {TOKEN}-{ABLE}.efi\n"
    guest = inspected(tmp_path, files, firmware=Firmware.EFI)
    update_bootloader(guest, Work())
    assert guest.files.text("/etc/kernel/uki.conf") == "[UKI]\nCmdline=root=UUID=root-uuid ro\n"


MENU = "menuentry 'Linux' {{\n\tlinux /vmlinuz-{0} ro\n\tinitrd /ucode.img /initramfs-{0}.img\n}}\n"


@pytest.mark.parametrize(
    ("menu", "is_loaded"),
    [
        ({}, False),
        ({"/boot/grub2/grub.cfg": MENU.format(ABLE)}, True),
        ({"/boot/extlinux/extlinux.conf": f"APPEND initrd=initramfs-{ABLE}.img root=UUID=root-uuid\n"}, True),
        ({"/boot/grub2/grub.cfg": MENU.format(UNABLE)}, False),
        ({"/boot/grub2/grub.cfg": MENU.format(f"old-{ABLE}")}, False),
    ],
    ids=["no menu", "GRUB's", "extlinux'", "another kernel's", "another's with a like name"],
)
def test_an_image_that_cannot_be_made_anew_is_a_failure_where_nothing_else_boots(
    tmp_path: Path, menu: dict[str, str], is_loaded: bool
) -> None:
    """Debian makes an initramfs in /boot too, which kernel-install puts into the image."""
    guest, work = inspected(tmp_path, {**KERNELS, **unified(ABLE), **menu}), Work()
    (kernel,) = [one for one in guest.kernels if one.version == ABLE]
    assert kernel.initramfs
    assert has_entry(guest.files, kernel) is is_loaded
    guest.rebuilds.append(Rebuild(kernel.unified[0], kernel, "without virtio_blk", is_unified=True))
    expected = f"{ABLE}.efi is without virtio_blk, and cannot be rebuilt.*no ukify, dracut or mkinitcpio"
    if is_loaded:
        rebuild_initramfs(guest, work)
        assert "no ukify" in work.warnings[0]
        return
    with pytest.raises(StepFailed, match=expected):
        rebuild_initramfs(guest, work)
