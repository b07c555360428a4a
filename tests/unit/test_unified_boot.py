"""Unified kernel images that boot a guest: made by kernel-install, read by systemd-boot or by firmware."""

from pathlib import Path
from typing import Any

import pytest

from hyperctl.activities.convert.linux.bootloader import update_bootloader
from hyperctl.activities.convert.linux.cpio import Entry, write_segment
from hyperctl.activities.convert.linux.initramfs import inject_virtio_drivers
from hyperctl.activities.convert.linux.kernels import Rebuild
from hyperctl.activities.convert.linux.rebuild import has_entry, rebuild_initramfs
from hyperctl.activities.convert.linux.unified import read_programme
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.machine import Firmware
from hyperctl.workflows.request import InitramfsWay
from tests.unit.test_layouts import ABLE, KERNEL, KERNELS, UNABLE, inspected
from tests.unit.test_unified import image, reading
from tests.unit.tree import tree

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
    long = tree(tmp_path / "long", {"/boot/grub2/grub.cfg": "initrd " * 200_000})
    assert not has_entry(long, kernel), "quadratic, it takes hours"
    guest.rebuilds.append(Rebuild(kernel.unified[0], kernel, "without virtio_blk", is_unified=True))
    expected = f"{ABLE}.efi is without virtio_blk, and cannot be rebuilt.*no ukify, dracut or mkinitcpio"
    if is_loaded:
        rebuild_initramfs(guest, work)
        assert "no ukify" in work.warnings[0]
        return
    with pytest.raises(StepFailed, match=expected):
        rebuild_initramfs(guest, work)


DRIVERS = tuple(f"virtio_{name}" for name in ("pci", "blk", "scsi"))
WITH_DRIVERS = write_segment(
    [Entry(f"lib/modules/{ABLE}/kernel/{name}.ko", 0o100644, name.encode()) for name in DRIVERS]
)
IMAGE = f"/boot/efi/EFI/Linux/{TOKEN}-{ABLE}+2-1.efi"
OWN = f"/boot/efi/EFI/Linux/{TOKEN}-{ABLE}.efi.extra.d"
ROOT = "root=UUID=root-uuid ro"


def image_only(*sections: tuple[str, bytes], initramfs: bytes = WITH_DRIVERS) -> dict[str, str | bytes]:
    """A guest that has nothing but a unified image, whose kernel has the drivers."""
    modules = {path: content for path, content in KERNEL.items() if path.startswith("/lib/modules/")}
    files = {f"/lib/modules/{ABLE}/kernel/{name}.ko": name.encode() for name in DRIVERS}
    parts = [(".linux", b"a kernel"), (".uname", ABLE.encode()), (".initrd", initramfs), *sections]
    return {**modules, **files, IMAGE: image(parts)}


def addon(arguments: str, signature_bytes: int = 0, **more: bytes) -> bytes:
    parts = {".sbat": b"sbat", ".cmdline": arguments.encode(), ".text": b"code"}
    return image({**parts, **{f".{name}": content for name, content in more.items()}}, signature_bytes)


def arguments_of(root: Path, path: str) -> str:
    """As systemd-stub takes them, up to the size that the headers say."""
    read = reading((root / path.lstrip("/")).read_bytes())
    (section,) = [one for one in read_programme(read).sections if one.name == ".cmdline"]
    return read(section.offset, section.size_bytes).decode()


@pytest.mark.parametrize(
    ("sections", "reasons", "boots"),
    [
        ([(".cmdline", ROOT.encode())], "", False),
        ([(".cmdline", ROOT.encode()), (".profile", b"ID=main"), (".profile", b"ID=old"),
          (".cmdline", b"root=/dev/sda2 ro single")],
         "with the arguments 'root=/dev/sda2 ro single' in its profile 1", True),
        ([(".cmdline", b"root=/dev/sda2 never used"), (".profile", b"ID=main"), (".cmdline", ROOT.encode())],
         "", False),
        ([(".cmdline", ROOT.encode()), (".profile", b"ID=main"), (".cmdline", b"root=/dev/sda2")],
         "with the arguments 'root=/dev/sda2' in its profile 0", False),
        ([(".cmdline", ROOT.encode()), (".profile", b"ID=main"), (".profile", b"ID=old"),
          (".initrd", write_segment([Entry("init", 0o100755, b"")]))],
         "without virtio_blk, virtio_pci, virtio_scsi in its profile 1", True),
    ],
    ids=["fits", "second profile", "all profiles have their own", "first profile", "own initramfs"],
)  # fmt: skip
def test_every_profile_of_an_image_is_judged(
    tmp_path: Path, sections: list[tuple[str, bytes]], reasons: str, boots: bool
) -> None:
    guest = inspected(tmp_path, image_only(*sections), firmware=Firmware.EFI)
    inject_virtio_drivers(guest, Work())
    assert [(one.path, one.reason, one.boots) for one in guest.rebuilds] == (
        [(IMAGE, f"a unified kernel image {reasons}", boots)] if reasons else []
    )


def test_only_appending_leaves_a_profile_that_nobody_needs_and_refuses_the_first(tmp_path: Path) -> None:
    old = [(".profile", b"ID=main"), (".profile", b"ID=old"), (".cmdline", b"root=/dev/sda2 ro")]
    only: dict[str, Any] = {"firmware": Firmware.EFI, "way": InitramfsWay.APPEND}
    guest = inspected(tmp_path / "old", image_only((".cmdline", ROOT.encode()), *old), **only)
    work = Work()
    inject_virtio_drivers(guest, work)
    assert guest.rebuilds == []
    assert "in its profile 1, and stays as it is" in work.warnings[0]
    files = image_only((".cmdline", b"root=/dev/sda2 ro"))
    guest = inspected(tmp_path / "first", files, **only)
    with pytest.raises(StepFailed, match=r"nothing can be appended to .*root=/dev/sda2.*auto or rebuild"):
        inject_virtio_drivers(guest, work)


def test_an_image_of_several_profiles_is_no_work_for_dracut(tmp_path: Path) -> None:
    profiles = [(".profile", b"ID=main"), (".cmdline", b"root=/dev/sda2"), (".profile", b"ID=old")]
    files = {**image_only(*profiles), "/usr/bin/dracut": ""}
    guest = inspected(tmp_path, files, firmware=Firmware.EFI)
    inject_virtio_drivers(guest, Work())
    with pytest.raises(StepFailed, match=r"cannot be rebuilt.*dracut makes none with several profiles"):
        rebuild_initramfs(guest, Work())


def test_addons_get_arguments_that_are_true_on_kvm_where_they_lie(tmp_path: Path) -> None:
    """Of all images and of its own, whose folder has no tries in its name; others' stay."""
    places = {
        f"{OWN}/root.addon.efi": addon("root=/dev/sda2 ro quiet", 2000),
        f"{OWN}/fine.addon.efi": addon("quiet"),
        f"{OWN}/other.ADDON.EFI": addon("resume=/dev/sdb1", uname=ABLE.encode()),
        "/boot/efi/loader/addons/all.addon.efi": addon("quiet modprobe.blacklist=virtio_blk"),
        "/boot/efi/loader/addons/old.addon.efi": addon("root=/dev/sda2", uname=UNABLE.encode()),
        "/boot/efi/loader/addons/image.addon.efi": addon("root=/dev/sda2", linux=b"no addon"),
        f"{OWN}/root.cred": b"root=/dev/sda2",
    }
    guest = inspected(tmp_path, {**image_only(), **places}, firmware=Firmware.EFI)
    work = Work()
    inject_virtio_drivers(guest, work)
    found = {path: arguments_of(tmp_path, path) for path in work.changed if path.lower().endswith(".efi")}
    assert found == {
        f"{OWN}/root.addon.efi": f"{ROOT} quiet",
        f"{OWN}/other.ADDON.EFI": "resume=UUID=data-uuid",
        "/boot/efi/loader/addons/all.addon.efi": "quiet",
    }
    for path, before in places.items():
        after = (tmp_path / path.lstrip("/")).read_bytes()
        assert len(after) == len(before)
        assert (after == before) is (path not in found)
    data = (tmp_path / OWN.lstrip("/") / "root.addon.efi").read_bytes()
    assert not read_programme(lambda offset, count: data[offset : offset + count]).is_signed
    again = Work()
    inject_virtio_drivers(guest, again)
    assert again.changed == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (addon("root=/dev/sda2", 2000), "has .* is signed for Secure Boot.*--cmdline 'root=UUID=root"),
        (addon(f"root=/dev/sda2 {'x' * 495}"), "has no room for the arguments"),
        (addon("", initrd=write_segment([Entry("etc/cmdline.d/a.conf", 0o100644, b"root=/dev/sda2")])),
         "has an initramfs whose etc/cmdline.d/a.conf does not fit KVM"),
    ],
    ids=["signed", "full", "initramfs"],
)  # fmt: skip
def test_an_addon_that_cannot_be_changed_is_refused_before_anything_is(
    tmp_path: Path, content: bytes, message: str
) -> None:
    files = {**image_only(), f"{OWN}/root.addon.efi": content}
    guest = inspected(tmp_path, files, firmware=Firmware.EFI, secure_boot=True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(StepFailed, match=f"root.addon.efi {message}"):
        inject_virtio_drivers(guest, Work())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_addons_initramfs_counts_as_the_images(tmp_path: Path) -> None:
    plain = write_segment([Entry("init", 0o100755, b"")])
    files = image_only((".cmdline", ROOT.encode()), initramfs=plain)
    files[f"{OWN}/drivers.addon.efi"] = addon("", initrd=WITH_DRIVERS)
    guest = inspected(tmp_path, files, firmware=Firmware.EFI)
    inject_virtio_drivers(guest, Work())
    assert guest.rebuilds == []


def test_a_copy_for_firmware_has_the_addons_too(tmp_path: Path) -> None:
    files = {**image_only(), f"{OWN}/fine.addon.efi": addon("quiet")}
    guest, work = inspected(tmp_path, files, firmware=Firmware.EFI), Work()
    update_bootloader(guest, work)
    assert f"{LOADER}.extra.d/fine.addon.efi" in work.changed
    assert (tmp_path / f"{LOADER}.extra.d/fine.addon.efi".lstrip("/")).read_bytes() == addon("quiet")
