"""A guest as Arch lays one out, by its files: mkinitcpio, presets, kernels by package, a unified image."""

from pathlib import Path

import pytest

from hyperctl.activities.convert.child import FIXERS, run_fixer
from hyperctl.activities.convert.inspect import Inspected, inspect_guest
from hyperctl.activities.convert.linux.cpio import Entry, write_segment
from hyperctl.activities.convert.order import Order
from hyperctl.workflows.guest import Outcome, Step
from hyperctl.workflows.request import Fixers
from tests.integration.guests.bench import Bench, blank, e2fs
from tests.unit.machines import disk, machine
from tests.unit.test_unified import image as unified_image

VERSION = "6.9.7-arch1-1"
MODULES = f"usr/lib/modules/{VERSION}"
FILE = 0o100644
DRIVERS = ("virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_net")
INITRAMFS = write_segment(
    [
        Entry("init", FILE, b"#!/usr/bin/ash\n"),
        Entry("config", FILE, b'MODULES="vmw_pvscsi"\nHOOKS="base udev"\n'),
    ]
)
TREE = {
    "etc/arch-release": b"",
    "etc/os-release": b'ID=arch\nPRETTY_NAME="Arch Linux"\n',
    "etc/fstab": b"UUID=1-2 / ext4 rw 0 1\n",
    "etc/mkinitcpio.conf": b"MODULES=(vmw_pvscsi)\nHOOKS=(base udev autodetect modconf block filesystems)\n",
    "etc/mkinitcpio.d/linux.preset": b"PRESETS=('default')\ndefault_config=\"/etc/mkinitcpio-small.conf\"\n",
    "etc/mkinitcpio-small.conf": b"MODULES=()\n",
    "etc/modprobe.d/hardening.conf": b"blacklist virtio_blk\n",
    "etc/default/grub": b'GRUB_CMDLINE_LINUX=""\n',
    "usr/bin/mkinitcpio": b"#!/bin/sh\nexit 1\n",
    "boot/vmlinuz-linux": b"a kernel",
    "boot/initramfs-linux.img": INITRAMFS,
    "boot/initramfs-linux-fallback.img": INITRAMFS,
    "boot/intel-ucode.img": write_segment([Entry("kernel/x86/microcode/GenuineIntel.bin", FILE, b"x")]),
    "boot/grub/grub.cfg": (
        b"set default=0\nmenuentry 'Arch' {\n\tlinux /boot/vmlinuz-linux root=UUID=1-2 rw "
        b"modprobe.blacklist=virtio_blk\n\tinitrd /boot/intel-ucode.img /boot/initramfs-linux.img\n}\n"
    ),
    "boot/EFI/Linux/arch-linux.efi": unified_image(
        {
            ".cmdline": b"root=UUID=1-2 rw",
            ".uname": VERSION.encode(),
            ".initrd": INITRAMFS,
            ".linux": b"a kernel",
        }
    ),
    f"{MODULES}/pkgbase": b"linux\n",
    f"{MODULES}/modules.dep": "".join(f"kernel/{name}.ko.zst:\n" for name in DRIVERS).encode(),
    f"{MODULES}/modules.builtin": b"",
    **{f"{MODULES}/kernel/{name}.ko.zst": name.encode() for name in DRIVERS},
}


@pytest.mark.timeout(900)
def test_every_initramfs_of_its_kernel_gets_the_drivers_and_its_settings_agree(
    bench: Bench, tmp_path: Path
) -> None:
    """mkinitcpio fails here: nothing but the unified image needs it, and its kernel has another way."""
    root, image = tmp_path / "tree", blank(tmp_path / "arch.raw")
    for name, content in TREE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if "/bin/" in name else 0o644)
    for name in ("bin", "lib"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "var" / "tmp").mkdir(parents=True)
    e2fs("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(root), str(image))
    bench.put(image)
    about = machine(name="arch-01", disks=tuple(disk(number) for number in (1, 2, 3)))
    order = Order(machine=about, fix=Fixers(), serial_console=True)
    arch = inspect_guest(bench.guest, order, ())
    assert isinstance(arch, Inspected)
    assert (arch.system.kernels, arch.system.initramfs_tool) == ((VERSION,), "mkinitcpio")
    steps = {fixer.step: run_fixer(fixer, arch, order.fix) for fixer in FIXERS}
    assert set(steps[Step.VIRTIO].changed) == {
        "/boot/initramfs-linux.img",
        "/boot/initramfs-linux-fallback.img",
        "/etc/mkinitcpio.conf",
        "/etc/mkinitcpio-small.conf",
        "/etc/modprobe.d/hardening.conf",
    }
    assert "virtio_blk" in steps[Step.VIRTIO].detail
    assert set(steps[Step.BOOTLOADER].changed) == {"/boot/grub/grub.cfg", "/etc/default/grub"}
    assert "without a blacklist of its drivers" in steps[Step.BOOTLOADER].detail
    assert steps[Step.REBUILD].outcome is Outcome.NOT_NEEDED
    (warning,) = steps[Step.REBUILD].warnings
    assert "mkinitcpio has failed for /boot/EFI/Linux/arch-linux.efi" in warning
