"""Layouts that no guest of the matrix has, as trees of files."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from hyperctl.activities.convert.boot_disks import boot_rank, is_on_disk, unshown_disks
from hyperctl.activities.convert.devices import BlockDevice, DiskPlace, StableNames
from hyperctl.activities.convert.encrypted import Encryption
from hyperctl.activities.convert.inspect import Inspected, kernels_and_tool
from hyperctl.activities.convert.linux.bootloader import update_bootloader
from hyperctl.activities.convert.linux.cpio import Entry, read_archive, write_segment
from hyperctl.activities.convert.linux.entries import find_entries
from hyperctl.activities.convert.linux.fstab import update_fstab
from hyperctl.activities.convert.linux.grub_environment import saved_entry
from hyperctl.activities.convert.linux.initramfs import inject_virtio_drivers
from hyperctl.activities.convert.linux.kernels import find_kernels
from hyperctl.activities.convert.linux.network import CLOUD_INIT_SETTING, keep_from_cloud_init
from hyperctl.activities.convert.linux.unit_names import escaped
from hyperctl.activities.convert.refusal import Refused, StepFailed
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.hardware import Hardware
from hyperctl.workflows.machine import Firmware
from hyperctl.workflows.request import InitramfsWay
from tests.unit.machines import disk, machine
from tests.unit.tree import tree

TWO = {
    "/dev/sda": BlockDevice(),
    "/dev/sda1": BlockDevice("boot-uuid", "part-1"),
    "/dev/sda2": BlockDevice("root-uuid", "part-2"),
    "/dev/sdb1": BlockDevice("data-uuid", "part-3"),
}
PLACES = [DiskPlace(0, "pvscsi"), DiskPlace(1, "pvscsi")]
VIRTIO = "".join(f"kernel/{name}.ko:\n" for name in ("virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net"))
ABLE, UNABLE = "5.14.0-427.el9.x86_64", "6.12.99-vmware.el9.x86_64"
KERNEL = {
    f"/lib/modules/{ABLE}/modules.dep": VIRTIO,
    f"/boot/vmlinuz-{ABLE}": "",
    f"/boot/initramfs-{ABLE}.img": "",
}
KERNELS = {
    **KERNEL,
    f"/lib/modules/{UNABLE}/modules.dep": "",
    f"/boot/vmlinuz-{UNABLE}": "",
    f"/boot/initramfs-{UNABLE}.img": "",
}


def inspected(
    root: Path,
    files: Mapping[str, str | bytes],
    root_device: str = "/dev/sda2",
    firmware: Firmware = Firmware.BIOS,
    way: InitramfsWay = InitramfsWay.AUTO,
    *,
    secure_boot: bool = False,
    tool: str = "dracut",
) -> Inspected:
    found = tree(root, files)
    return cast(
        Inspected,
        SimpleNamespace(
            files=found,
            names=StableNames(TWO, PLACES, root=root_device),
            kernels=find_kernels(found),
            machine=machine(firmware=firmware, secure_boot=secure_boot),
            order=SimpleNamespace(hardware=Hardware(), serial_console=False, initramfs=way),
            system=SimpleNamespace(initramfs_tool=tool, distribution="rhel"),
            mounts={"/": "/dev/sda2"},
            rebuilds=[],
            changed=[],
            guest_code=[],
        ),
    )


def entry(version: str) -> str:
    return (
        f"title Linux\nversion {version}\nlinux /vmlinuz-{version}\n"
        f"initrd /initramfs-{version}.img $tuned_initrd\noptions root=/dev/sda2 ro $tuned_params\n"
    )


def red_hat(default: str = "") -> dict[str, str]:
    saved = f"saved_entry={default}\n" if default else ""
    return {
        **KERNELS,
        "/boot/grub2/grub.cfg": 'set default="${saved_entry}"\ninsmod blscfg\nblscfg\n',
        "/boot/grub2/grubenv": f"# GRUB Environment Block\n{saved}boot_success=0\n".ljust(1024, "#"),
        **{f"/boot/loader/entries/abc-{version}.conf": entry(version) for version in (ABLE, UNABLE)},
    }


@pytest.mark.parametrize("default", ["", "0", f"abc-{UNABLE}"])
def test_the_default_of_grubs_boot_entries_is_in_its_environment(tmp_path: Path, default: str) -> None:
    guest, work = inspected(tmp_path, red_hat(default)), Work()
    update_bootloader(guest, work)
    block = guest.files.text("/boot/grub2/grubenv") or ""
    assert (saved_entry(block), len(block)) == (f"abc-{ABLE}", 1024)
    assert not guest.files.exists("/boot/loader/loader.conf"), "GRUB does not read it"
    assert "root=UUID=root-uuid ro" in (guest.files.text(f"/boot/loader/entries/abc-{ABLE}.conf") or "")


def test_the_default_of_red_hats_grub_on_the_system_partition_is_beside_it(tmp_path: Path) -> None:
    files = {path.replace("/boot/grub2/", "/boot/efi/EFI/redhat/"): text for path, text in red_hat().items()}
    files |= {"/boot/efi/EFI/BOOT/BOOTX64.EFI": ""}
    guest = inspected(tmp_path, files, firmware=Firmware.EFI)
    update_bootloader(guest, Work())
    assert saved_entry(guest.files.text("/boot/efi/EFI/redhat/grubenv") or "") == f"abc-{ABLE}"
    assert not guest.files.exists("/boot/loader/loader.conf"), "GRUB does not read it"


@pytest.mark.parametrize("default", ["1", f"abc-{ABLE}"])
def test_a_good_default_of_grubs_boot_entries_stays(tmp_path: Path, default: str) -> None:
    guest = inspected(tmp_path, red_hat(default))
    update_bootloader(guest, Work())
    assert saved_entry(guest.files.text("/boot/grub2/grubenv") or "") == default


def test_systemd_boot_has_its_default_on_the_system_partition_and_entries_beside_it(tmp_path: Path) -> None:
    """With an extended boot partition (XBOOTLDR) entries are on it, and loader.conf(5) is not."""
    files = {
        **KERNELS,
        "/efi/EFI/BOOT/BOOTX64.EFI": "",
        "/efi/loader/loader.conf": "timeout 3\n",
        f"/boot/loader/entries/abc-{UNABLE}.conf": entry(UNABLE),
        f"/boot/loader/entries/abc-{ABLE}+2-1.conf": entry(ABLE),
    }
    guest = inspected(tmp_path, files, firmware=Firmware.EFI)
    update_bootloader(guest, Work())
    assert guest.files.text("/efi/loader/loader.conf") == f"default abc-{ABLE}.conf\ntimeout 3\n"
    assert not guest.files.exists("/boot/loader/loader.conf")


def test_every_image_of_an_entry_is_known(tmp_path: Path) -> None:
    line = "initrd /ucode.img /initramfs.img /more.img $tuned_initrd\ninitrd /last.img\n"
    files = {f"/boot/{name}": "" for name in ("vmlinuz-1", "initramfs.img", "more.img", "last.img")}
    files["/boot/loader/entries/a.conf"] = f"linux /vmlinuz-1\n{line}"
    (found,) = find_entries(tree(tmp_path, files))
    assert found.initramfs == ("/boot/initramfs.img", "/boot/more.img", "/boot/last.img")


GRUB = "menuentry 'Linux' {{\n\tlinux /vmlinuz-{version} root={root} ro resume=/dev/sdb1\n}}\n"


def test_the_root_is_the_root_though_the_guest_counted_its_disks_in_another_order(tmp_path: Path) -> None:
    files = {
        **KERNEL,
        "/boot/grub/grub.cfg": GRUB.format(version=ABLE, root="/dev/sdb1"),
        "/etc/fstab": "/dev/sdb1 / ext4 defaults 0 1\n/dev/sda1 /boot ext4 defaults 0 2\n",
    }
    guest, work = inspected(tmp_path, files), Work()
    update_bootloader(guest, work)
    update_fstab(guest, work)
    assert "root=UUID=root-uuid ro" in (guest.files.text("/boot/grub/grub.cfg") or "")
    assert (guest.files.text("/etc/fstab") or "").startswith("UUID=root-uuid / ext4")
    assert any("/dev/sdb1, which is another disk" in warning for warning in work.warnings)


def test_a_root_by_its_own_device_is_no_warning(tmp_path: Path) -> None:
    work = Work()
    text = GRUB.format(version=ABLE, root="/dev/sda2")
    update_bootloader(inspected(tmp_path, {**KERNEL, "/boot/grub/grub.cfg": text}), work)
    assert work.warnings == []


def test_an_entry_of_ones_own_is_by_uuid_and_a_stale_one_no_failure(tmp_path: Path) -> None:
    files = {
        **KERNEL,
        "/boot/grub/grub.cfg": GRUB.format(version=ABLE, root="UUID=root-uuid"),
        "/boot/grub/custom.cfg": GRUB.format(version=ABLE, root="/dev/sda2"),
        "/boot/grub2/custom.cfg": GRUB.format(version=ABLE, root="/dev/sdx9"),
    }
    guest = inspected(tmp_path, files, root_device="/dev/vg0/root")
    work = Work()
    update_bootloader(guest, work)
    assert "root=UUID=root-uuid ro" in (guest.files.text("/boot/grub/custom.cfg") or "")
    assert any("/dev/sdx9" in warning for warning in work.warnings)


def linux(version: str) -> bytes:
    """The beginning of a kernel's image, which says its version (Linux/x86 Boot Protocol)."""
    place = 0x400
    head = bytearray(0x200 + place)
    head[0x202:0x206], head[0x20E:0x210] = b"HdrS", place.to_bytes(2, "little")
    return bytes(head) + f"{version} (root@host) #1 SMP".encode() + b"\0"


MENUS = {
    "grub": {
        "/boot/grub/custom.cfg": (
            "menuentry 'Rescue' {\n\tset root=(hd0,1)\n\tlinux ($root)/good root=/dev/sda2\n"
            "\tinitrd /amd-ucode.img /rescue/good.gz /missing.img\n}\n"
            "menuentry 'Test' {\n\tlinux16 /memtest.bin\n}\n"
        )
    },
    "btrfs": {"/boot/grub/grub.cfg": "menuentry a {\nlinux /@/boot/good\ninitrd /@/boot/rescue/good.gz\n}\n"},
    "legacy": {"/boot/grub/menu.lst": "title a\nkernel (hd0,0)/good ro\ninitrd (hd0,0)/rescue/good.gz\n"},
    "extlinux": {
        "/boot/extlinux/linux.cfg": "label a\n linux ../good\n append ro initrd=/rescue/good.gz quiet\n"
    },
    "systemd-boot": {"/boot/loader/entries/a.conf": "title a\ninitrd /rescue/good.gz\nlinux /good\n"},
}


@pytest.mark.parametrize("menu", MENUS)
def test_a_kernel_under_any_name_is_known_with_what_a_menu_loads_with_it(tmp_path: Path, menu: str) -> None:
    files: dict[str, str | bytes] = {
        **MENUS[menu],
        f"/lib/modules/{ABLE}/modules.dep": VIRTIO,
        "/boot/good": linux(ABLE),
        "/boot/memtest.bin": "no kernel",
        "/boot/amd-ucode.img": "",
        "/boot/rescue/good.gz": "",
    }
    (kernel,) = find_kernels(tree(tmp_path, files))
    assert (kernel.version, kernel.initramfs) == (ABLE, ("/boot/rescue/good.gz",))


def test_what_a_link_leads_to_is_one_initramfs(tmp_path: Path) -> None:
    files = {**KERNEL, "/boot/extlinux/extlinux.conf": "label a\nlinux /vmlinuz\ninitrd /initrd.img\n"}
    found = tree(tmp_path, files)
    (tmp_path / "vmlinuz").symlink_to(f"boot/vmlinuz-{ABLE}")
    (tmp_path / "initrd.img").symlink_to(f"boot/initramfs-{ABLE}.img")
    (kernel,) = find_kernels(found)
    assert kernel.initramfs == (f"/boot/initramfs-{ABLE}.img",)


def test_an_initramfs_is_one_however_a_menu_calls_it(tmp_path: Path) -> None:
    """As Arch's menu of syslinux does, and microcode as GRUB lists it."""
    menu = (
        f"label a\nlinux ../vmlinuz-{ABLE}\ninitrd ../initramfs-{ABLE}.img\n"
        "label b\n"
        f"linux ../vmlinuz-{ABLE}\ninitrd ../intel-uc.img,../early_ucode.cpio,../initramfs-{ABLE}.img\n"
    )
    files = {
        **KERNEL,
        "/boot/syslinux/syslinux.cfg": menu,
        "/boot/intel-uc.img": "",
        "/boot/early_ucode.cpio": "",
    }
    (kernel,) = find_kernels(tree(tmp_path, files))
    assert kernel.initramfs == (f"/boot/initramfs-{ABLE}.img",)


def test_a_kernel_that_nothing_loads_its_drivers_for_is_refused(tmp_path: Path) -> None:
    files = {path: text for path, text in KERNEL.items() if "initramfs" not in path}
    with pytest.raises(StepFailed, match=f"without an initramfs for its modules of virtio: {ABLE}; have one"):
        inject_virtio_drivers(inspected(tmp_path / "none", files), Work())
    built_in = {f"/lib/modules/{ABLE}/modules.builtin": "kernel/ahci.ko\nkernel/sd_mod.ko\n"}
    with pytest.raises(StepFailed, match="use --disk-bus sata"):
        inject_virtio_drivers(inspected(tmp_path / "other", {**files, **built_in}), Work())


def test_what_the_drivers_depend_on_may_be_loaded_too(tmp_path: Path) -> None:
    needed = (
        "kernel/virtio.ko:\nkernel/virtio_blk.ko: kernel/virtio.ko\nkernel/virtio_pci.ko: kernel/virtio.ko\n"
    )
    away = "install virtio /bin/false\n"
    files: dict[str, str | bytes] = {
        **KERNEL,
        **{f"/lib/modules/{ABLE}/kernel/{name}.ko": "" for name in ("virtio", "virtio_blk", "virtio_pci")},
        f"/lib/modules/{ABLE}/modules.dep": needed,
        f"/boot/initramfs-{ABLE}.img": write_segment(
            [Entry("etc/modprobe.d/site.conf", 0o100644, away.encode())]
        ),
        "/boot/grub/grub.cfg": GRUB.format(version=ABLE, root="UUID=1 module_blacklist=virtio,floppy"),
        "/etc/modprobe.d/site.conf": f"{away}blacklist virtio_console\nblacklist floppy\n",
    }
    guest = inspected(tmp_path, files)
    guest.files.guest.set_e2attrs(f"/boot/initramfs-{ABLE}.img", "i")
    inject_virtio_drivers(guest, Work())
    update_bootloader(guest, Work())
    assert "module_blacklist=floppy" in (guest.files.text("/boot/grub/grub.cfg") or "")
    ours = (guest.files.text("/etc/modprobe.d/site.conf") or "").splitlines()
    assert [line for line in ours if not line.startswith("#")] == ["blacklist floppy"]
    held = read_archive(guest.files.content(f"/boot/initramfs-{ABLE}.img")).entries
    assert bytes(held["etc/modprobe.d/site.conf"].data).startswith(b"# ")
    assert guest.files.guest.get_e2attrs(f"/boot/initramfs-{ABLE}.img") == "i"


def test_suses_grub_finds_its_disk_at_its_next_update(tmp_path: Path) -> None:
    files = {
        **KERNEL,
        "/boot/grub2/grub.cfg": GRUB.format(version=ABLE, root="UUID=root-uuid"),
        "/etc/default/grub_installdevice": "/dev/sda\nactivate\ngeneric_mbr\n",
    }
    guest = inspected(tmp_path, files)
    update_bootloader(guest, Work())
    assert guest.files.text("/etc/default/grub_installdevice") == "/dev/vda\nactivate\ngeneric_mbr\n"


@pytest.mark.parametrize(
    ("loaders", "copied"),
    [
        (("opensuse/shim.efi", "opensuse/grub.efi", "opensuse/MokManager.efi", "opensuse/grub.cfg"),
         {"BOOTX64.EFI": "opensuse/shim.efi", "grub.efi": "opensuse/grub.efi",
          "MokManager.efi": "opensuse/MokManager.efi", "grub.cfg": "opensuse/grub.cfg"}),
        (("redhat/shimx64.efi", "redhat/grubx64.efi", "redhat/mmx64.efi"),
         {"BOOTX64.EFI": "redhat/shimx64.efi", "grubx64.efi": "redhat/grubx64.efi",
          "mmx64.efi": "redhat/mmx64.efi"}),
        (("systemd/systemd-bootx64.efi",), {"BOOTX64.EFI": "systemd/systemd-bootx64.efi"}),
    ],
)  # fmt: skip
def test_a_firmware_without_an_entry_finds_the_loader_with_all_that_it_loads(
    tmp_path: Path, loaders: tuple[str, ...], copied: dict[str, str]
) -> None:
    files = {
        **KERNEL,
        "/boot/grub2/grub.cfg": GRUB.format(version=ABLE, root="UUID=root-uuid"),
        **{f"/boot/efi/EFI/{name}": name for name in loaders},
    }
    guest = inspected(tmp_path, files, firmware=Firmware.EFI)
    update_bootloader(guest, Work())
    folder = tmp_path / "boot/efi/EFI/BOOT"
    assert {path.name: path.read_text() for path in folder.iterdir()} == copied


def test_grub_legacy_has_its_menu_beside_it(tmp_path: Path) -> None:
    """As Red Hat's release 6 has it on UEFI."""
    menu = (
        f"default=0\ntitle one\n\tkernel /vmlinuz-{ABLE} ro root=/dev/sda2\n\tinitrd /initramfs-{ABLE}.img\n"
    )
    files = {**KERNEL, "/boot/efi/EFI/redhat/grub.efi": "GRUB", "/boot/efi/EFI/redhat/grub.conf": menu}
    guest, work = inspected(tmp_path, files, firmware=Firmware.EFI), Work()
    update_bootloader(guest, work)
    stable = menu.replace("/dev/sda2", "UUID=root-uuid")
    assert guest.files.text("/boot/efi/EFI/redhat/grub.conf") == stable
    assert guest.files.text("/boot/efi/EFI/BOOT/BOOTX64.EFI") == "GRUB"
    assert guest.files.text("/boot/efi/EFI/BOOT/BOOTX64.conf") == stable
    (warning,) = work.warnings
    assert "/boot/efi/EFI/BOOT/BOOTX64.conf" in warning


def test_a_system_partition_without_a_loader_is_a_failure(tmp_path: Path) -> None:
    files = {**KERNEL, "/boot/grub2/grub.cfg": GRUB.format(version=ABLE, root="UUID=root-uuid")}
    files["/boot/efi/EFI/tools/readme.txt"] = ""
    with pytest.raises(StepFailed, match="no boot loader"):
        update_bootloader(inspected(tmp_path, files, firmware=Firmware.EFI), Work())


@pytest.mark.parametrize(
    ("there", "is_written"),
    [
        ({"/usr/bin/cloud-init": ""}, True),
        ({"/usr/bin/cloud-init": "", "/etc/cloud/cloud-init.disabled": ""}, False),
        ({"/etc/cloud/cloud.cfg": ""}, False),
    ],
)
def test_cloud_init_leaves_the_network_as_it_is(
    tmp_path: Path, there: dict[str, str], is_written: bool
) -> None:
    files, work = tree(tmp_path, there), Work()
    keep_from_cloud_init(files, work)
    assert work.warnings == [], "there is no instance that it could be"
    assert (files.text(CLOUD_INIT_SETTING) == "network:\n  config: disabled\n") is is_written
    again = Work()
    keep_from_cloud_init(files, again)
    assert again.changed == []


def test_cloud_init_takes_the_machine_for_the_instance_that_it_was(tmp_path: Path) -> None:
    files = tree(tmp_path, {"/usr/bin/cloud-init": "", "/var/lib/cloud/instance/obj.pkl": "pickled"})
    work = Work()
    keep_from_cloud_init(files, work)
    (warning,) = work.warnings
    assert CLOUD_INIT_SETTING in warning
    text = files.text(CLOUD_INIT_SETTING)
    assert text == "network:\n  config: disabled\nmanual_cache_clean: true\n"


def test_an_initrd_of_red_hats_mkinitrd_is_its_kernels(tmp_path: Path) -> None:
    """Red Hat Enterprise Linux 5."""
    version = "2.6.18-398.el5"
    files = {f"/lib/modules/{version}/modules.dep": VIRTIO, f"/boot/vmlinuz-{version}": ""}
    files |= {f"/boot/initrd-{version}.img": "", f"/boot/initrd-{version}kdump.img": ""}
    (kernel,) = find_kernels(tree(tmp_path, files))
    assert kernel.initramfs == (f"/boot/initrd-{version}.img",)


def test_a_menu_without_a_default_boots_its_first_entry(tmp_path: Path) -> None:
    menu = [GRUB.format(version=version, root="UUID=root-uuid") for version in (ABLE, UNABLE)]
    good = inspected(tmp_path / "good", {**KERNELS, "/boot/grub/grub.cfg": "".join(menu)})
    update_bootloader(good, Work())
    assert (good.files.text("/boot/grub/grub.cfg") or "").startswith("menuentry")
    text = "".join(reversed(menu)).replace("Linux", "New", 1)
    bad = inspected(tmp_path / "bad", {**KERNELS, "/boot/grub/grub.cfg": text})
    update_bootloader(bad, Work())
    assert (bad.files.text("/boot/grub/grub.cfg") or "").startswith('set default="Linux"\nmenuentry')


@pytest.mark.parametrize("name", ["vmlinuz", "vmlinuz-newest"])
def test_a_default_under_another_name_is_known_by_its_kernel(tmp_path: Path, name: str) -> None:
    menu = GRUB.format(version=ABLE, root="UUID=root-uuid")
    first = menu.replace("Linux", "Newest").replace(f"vmlinuz-{ABLE}", name)
    guest = inspected(
        tmp_path, {**KERNELS, f"/boot/{name}": linux(UNABLE), "/boot/grub/grub.cfg": first + menu}
    )
    update_bootloader(guest, Work())
    assert (guest.files.text("/boot/grub/grub.cfg") or "").startswith('set default="Linux"\n')


def test_a_disk_that_begins_a_loader_is_told_from_one_with_a_table_only() -> None:
    grub = b"\xeb\x63\x90".ljust(384, b"\0") + b"GRUB \0Geom\0Hard Disk\0Read\0 Error"
    other, table = b"\xfa\xb8".ljust(446, b"\x90"), b"\x80".ljust(64, b"\0")
    ranks = {
        grub.ljust(510, b"\0") + b"\x55\xaa": 3,
        other + table + b"\x55\xaa": 2,
        other + bytes(16) + b"\0\x80".ljust(48, b"\0") + b"\x55\xaa": 1,
        bytes(446) + table + b"\x55\xaa": 0,
        bytes(440) + b"GRUB".ljust(70, b"\0") + b"\x55\xaa": 0,
        bytes(512): 0,
    }
    assert {sector: boot_rank(sector) for sector in ranks} == ranks
    assert [is_on_disk(name, "/dev/sda") for name in ("/dev/sda", "/dev/sda12", "/dev/sdaa1", "")] == [
        *(True, True, False, False),
    ]


@pytest.mark.parametrize(
    ("firmware", "needed", "words"),
    [
        (Firmware.BIOS, 8, ""),
        (Firmware.BIOS, 9, "SeaBIOS before 1.16 may not show it all"),
        (Firmware.BIOS, 18, "16 at most, without Hard disk 17, Hard disk 18: move /boot"),
        (Firmware.EFI, 18, ""),
    ],
)
def test_a_boot_that_needs_more_disks_than_a_bios_shows_is_said(
    firmware: Firmware, needed: int, words: str
) -> None:
    many = machine(firmware=firmware, disks=tuple(disk(number) for number in range(1, 21)))
    said = unshown_disks(many, range(needed))
    assert words in said
    assert bool(said) is bool(words)


def test_a_file_may_be_made_at_the_top(tmp_path: Path) -> None:
    work = Work()
    tree(tmp_path, {}).create("/.autorelabel", "", work)
    assert (tmp_path / ".autorelabel").is_file()
    assert work.changed == ["/.autorelabel"]


def test_a_system_that_nothing_could_boot_or_make_an_initramfs_of_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no Linux kernel with its modules was found"):
        kernels_and_tool(tree(tmp_path / "bare", {f"/boot/vmlinuz-{ABLE}": ""}), "Debian")
    with pytest.raises(Refused, match="Frobnix 1 builds its initramfs with an unknown tool") as raised:
        kernels_and_tool(tree(tmp_path / "frobnix", KERNEL), "Frobnix 1")
    assert "dracut" in raised.value.hint
    found, tool = kernels_and_tool(tree(tmp_path / "known", {**KERNEL, "/usr/bin/dracut": ""}), "Red Hat")
    assert ([kernel.version for kernel in found], tool) == ([ABLE], "dracut")


def test_alpine_names_its_kernel_by_a_package(tmp_path: Path) -> None:
    version = "6.6.58-0-lts"
    files = {
        f"/lib/modules/{version}/modules.dep": VIRTIO,
        "/usr/share/kernel/lts/kernel.release": f"{version}\n",
        "/usr/share/kernel/virt/kernel.release": "6.6.58-0-virt\n",
        **dict.fromkeys(("/boot/vmlinuz-lts", "/boot/initramfs-lts", "/sbin/mkinitfs"), ""),
        "/boot/extlinux.conf": (
            "DEFAULT lts\nLABEL lts\n  LINUX vmlinuz-lts\n  INITRD initramfs-lts\n"
            "  APPEND root=/dev/sda2 modules=sd-mod,usb-storage,ext4 quiet\n"
        ),
    }
    guest = inspected(tmp_path, files)
    (kernel,), tool = kernels_and_tool(guest.files, "Alpine Linux v3.20")
    assert (kernel.version, tool) == (version, "mkinitfs")
    assert (kernel.image, kernel.initramfs) == ("/boot/vmlinuz-lts", ("/boot/initramfs-lts",))
    update_bootloader(guest, Work())
    assert "root=UUID=root-uuid modules=" in (guest.files.text("/boot/extlinux.conf") or "")


def menu_of(*versions: str) -> str:
    """As grub-mkconfig writes it, with its first entry for the default."""
    entries = (
        GRUB.format(version=version, root="UUID=root-uuid").replace("Linux", version) for version in versions
    )
    return "".join(['set default="0"\n', *entries])


def default_in(guest: Inspected, path: str) -> str:
    return (guest.files.text(path) or "").partition("\n")[0]


def test_a_bios_guest_boots_the_menu_of_boot_though_the_system_partition_has_one(tmp_path: Path) -> None:
    esp, own = "/boot/efi/EFI/centos/grub.cfg", "/boot/grub2/grub.cfg"
    guest = inspected(tmp_path, {**KERNELS, esp: menu_of(UNABLE, ABLE), own: menu_of(UNABLE, ABLE)})
    work = Work()
    update_bootloader(guest, work)
    assert [default_in(guest, path) for path in (esp, own)] == ['set default="0"', f'set default="{ABLE}"']
    assert work.done[2:] == [f"{own} has {ABLE} as its default kernel, which has the drivers"]


def test_every_vendors_menu_on_the_system_partition_has_a_kernel_with_the_drivers(tmp_path: Path) -> None:
    """migrate2rocky leaves the earlier vendor's folder."""
    menus = [f"/boot/efi/EFI/{vendor}/grub.cfg" for vendor in ("centos", "rocky")]
    files = {**KERNELS, **dict.fromkeys(menus, menu_of(UNABLE, ABLE)), "/boot/efi/EFI/BOOT/BOOTX64.EFI": ""}
    files["/boot/efi/EFI/alma/grub.cfg"] = menu_of("3.10.0-1.el7.x86_64")
    guest = inspected(tmp_path, files, firmware=Firmware.EFI)
    update_bootloader(guest, Work())
    assert [default_in(guest, path) for path in menus] == [f'set default="{ABLE}"'] * 2
    assert default_in(guest, "/boot/efi/EFI/alma/grub.cfg") == 'set default="0"', (
        "none of its kernels is there"
    )


def test_a_menu_without_a_kernel_with_the_drivers_is_a_warning_beside_one_that_has_it(tmp_path: Path) -> None:
    old, own = "/boot/efi/EFI/centos/grub.cfg", "/boot/efi/EFI/rocky/grub.cfg"
    files = {
        **KERNELS,
        old: menu_of(UNABLE),
        own: menu_of(UNABLE, ABLE),
        "/boot/efi/EFI/BOOT/BOOTX64.EFI": "",
    }
    guest, work = inspected(tmp_path / "two", files, firmware=Firmware.EFI), Work()
    update_bootloader(guest, work)
    assert default_in(guest, own) == f'set default="{ABLE}"'
    (warning,) = work.warnings
    assert warning.startswith(old)
    alone = inspected(tmp_path / "one", {**files, own: menu_of(UNABLE)}, firmware=Firmware.EFI)
    with pytest.raises(StepFailed, match=r"centos/grub\.cfg: the kernel that is booted"):
        update_bootloader(alone, Work())


def legacy_menu(default: str, *versions: str) -> str:
    entries = (
        f"title {version}\nroot (hd0,0)\nkernel /boot/vmlinuz-{version} root=UUID=root-uuid\n"
        for version in versions
    )
    return f"default {default}\n{''.join(entries)}"


def test_every_menu_of_grub_legacy_has_a_kernel_with_the_drivers(tmp_path: Path) -> None:
    """Debian has its stage 2 read menu.lst, Red Hat grub.conf; a guest may have both."""
    menus = {
        "/boot/grub/menu.lst": legacy_menu("0", UNABLE, ABLE),
        "/boot/grub/grub.conf": legacy_menu("saved", ABLE, UNABLE, "2.6.18"),
    }
    of_uefi = {"/boot/efi/EFI/redhat/grub.conf": legacy_menu("0", UNABLE, ABLE)}
    guest = inspected(tmp_path, {**KERNELS, **menus, **of_uefi, "/boot/grub/default": "1\n#\n#\n"})
    work = Work()
    update_bootloader(guest, work)
    found = [default_in(guest, path) for path in (*menus, *of_uefi)]
    assert found == ["default 1", "default 0", "default 0"], "the last is not for a BIOS"
    assert work.warnings == []


def test_a_unit_of_a_swap_area_is_called_as_its_device_is(tmp_path: Path) -> None:
    """Else systemd does not take it: What= and the name have to be one (systemd.swap(5))."""
    units = "/etc/systemd/system"
    guest = inspected(tmp_path, {f"{units}/dev-sda1.swap": "[Swap]\nWhat=/dev/sda1\n"})
    wants = tmp_path / units.lstrip("/") / "swap.target.wants"
    wants.mkdir()
    (wants / "dev-sda1.swap").symlink_to("../dev-sda1.swap")
    for _ in range(2):
        update_fstab(guest, Work())
        (link,) = wants.iterdir()
        device = guest.names.link("/dev/sda1")
        assert link.name == f"{escaped(str(device))}.swap"
        assert link.read_text() == f"[Swap]\nWhat={device}\n"
        assert not (wants.parent / "dev-sda1.swap").exists()


def test_a_menu_of_grub_legacy_without_a_kernel_with_the_drivers_is_a_warning(tmp_path: Path) -> None:
    files = {**KERNELS, "/boot/grub/menu.lst": legacy_menu("0", UNABLE)}
    both = {**files, "/boot/grub/grub.conf": legacy_menu("0", UNABLE, ABLE)}
    guest, work = inspected(tmp_path / "two", both), Work()
    update_bootloader(guest, work)
    assert default_in(guest, "/boot/grub/grub.conf") == "default 1"
    (warning,) = work.warnings
    assert warning.startswith("/boot/grub/menu.lst: the kernel that is booted")
    with pytest.raises(StepFailed, match="the kernel that is booted"):
        update_bootloader(inspected(tmp_path / "one", files), Work())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/dev/sr0 /repo iso9660 ro\n", "with nofail for CDs"),
        ("/dev/fd0 /media/floppy auto noauto\n", "without what stays behind"),
        ("/dev/sda1 /boot ext4 defaults\n", "by UUID"),
        ("/dev/sda1 /boot ext4 defaults\n/dev/sr0 /repo iso9660 ro\n", "by UUID, with nofail for CDs"),
    ],
)
def test_what_was_done_to_fstab_is_said(tmp_path: Path, line: str, words: str) -> None:
    work = Work()
    update_fstab(inspected(tmp_path, {"/etc/fstab": line}), work)
    assert work.done == [f"/etc/fstab {words}"]


@pytest.mark.parametrize("size", [0, 1024, 3000])
def test_photons_arguments_are_in_plain_text_of_any_length(tmp_path: Path, size: int) -> None:
    files = {
        **KERNEL,
        "/boot/grub2/grub.cfg": GRUB.format(version=ABLE, root="UUID=root-uuid"),
        "/boot/photon.cfg": f"photon_cmdline=root=/dev/sda2 {'x' * size}\nphoton_linux=vmlinuz-{ABLE}\n",
    }
    guest = inspected(tmp_path, files)
    update_bootloader(guest, Work())
    stable = files["/boot/photon.cfg"].replace("/dev/sda2", "UUID=root-uuid")
    assert guest.files.text("/boot/photon.cfg") == stable


def test_whether_there_was_a_key_for_what_stays_closed_is_said() -> None:
    assert "none of the worker's 2 keys opens it" in Encryption({}, ("/dev/sda",), 2).reason
    assert (
        "/dev/sda is encrypted with LUKS, and the worker has no key" in Encryption({}, ("/dev/sda",)).reason
    )
