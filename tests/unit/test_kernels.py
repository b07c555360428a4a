"""What a kernel's modules need, and what goes into its initramfs."""

import stat
from types import SimpleNamespace
from typing import cast

import pytest

from hyperctl.activities.convert.devices import BlockDevice, StableNames
from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.additions import (
    additions,
    extended,
    loading,
    packed_root,
)
from hyperctl.activities.convert.linux.agreement import with_lines
from hyperctl.activities.convert.linux.cpio import Archive, Entry, read_archive, write_segment
from hyperctl.activities.convert.linux.drivers import drivers_for, other_hardware
from hyperctl.activities.convert.linux.kernels import Kernel, module_name, version_key
from hyperctl.workflows.hardware import DiskBus, Hardware, NicModel
from tests.unit.test_cpio import lz4_legacy

VERSION = "6.1.0-9-amd64"
FOLDER = f"/lib/modules/{VERSION}"
DEPENDENCIES = """\
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/block/virtio-blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko
kernel/fs/jbd2/jbd2.ko:
"""
FILE = stat.S_IFREG | 0o644


def kernel(dependencies: str = DEPENDENCIES, builtin: str = "", version: str = VERSION) -> Kernel:
    return Kernel(
        version, f"/boot/vmlinuz-{version}", (f"/boot/initrd.img-{version}",), FOLDER, dependencies, builtin
    )


def added(archive: Archive, of: Kernel | None = None, tool: str = "initramfs-tools") -> dict[str, Entry]:
    """What would go into an archive of a guest with that tool."""
    names = StableNames({"/dev/sda3": BlockDevice("swap-uuid")})
    inspected = SimpleNamespace(
        system=SimpleNamespace(initramfs_tool=tool), names=names, order=SimpleNamespace(hardware=Hardware())
    )
    entries = additions(
        archive,
        of or kernel(),
        ["virtio_pci", "virtio_blk"],
        cast(Inspected, inspected),
        list_indexes=lambda: [f"{FOLDER}/modules.dep", f"{FOLDER}/modules.dep.bin"],
        fetch=lambda path: f"content of {path}".encode(),
    )
    return {entry.name: entry for entry in entries}


def usrmerged(*files: Entry) -> Archive:
    """An archive as Debian 12 makes it."""
    folders = ("usr", "usr/lib", "usr/lib/modules", f"usr/lib/modules/{VERSION}", "conf")
    found = {name: Entry(name, stat.S_IFDIR | 0o755) for name in folders}
    found["lib"] = Entry("lib", stat.S_IFLNK | 0o777, b"usr/lib")
    return Archive(found | {file.name: file for file in files})


def test_modules_with_what_they_need() -> None:
    found = kernel().files_of(["virtio_blk"])
    assert found[0] == "kernel/drivers/block/virtio-blk.ko"
    assert {module_name(path) for path in found} == {"virtio_blk", "virtio_ring", "virtio"}
    assert kernel().files_of(["no_such_module"]) == ()


@pytest.mark.parametrize(
    ("dependencies", "builtin", "able"),
    [
        (DEPENDENCIES, "", True),
        ("", "kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/block/virtio_blk.ko\n", True),
        (DEPENDENCIES.replace("virtio-blk", "other"), "", False),
        ("", "", False),
    ],
)
def test_a_kernel_with_virtio_is_told_from_one_without(dependencies: str, builtin: str, able: bool) -> None:
    assert kernel(dependencies, builtin).drives(drivers_for(Hardware()).needed) is able


SATA = """\
kernel/drivers/ata/ahci.ko: kernel/drivers/ata/libahci.ko kernel/drivers/ata/libata.ko
kernel/drivers/scsi/sd_mod.ko: kernel/drivers/scsi/scsi_mod.ko
kernel/drivers/net/ethernet/intel/e1000/e1000.ko:
"""


def test_kernels_without_virtio_are_offered_what_they_drive() -> None:
    old = kernel(SATA, version="2.6.18-8.el5")
    assert other_hardware((old,), Hardware()) == (
        "2.6.18-8.el5 has ahci and sd_mod: use --disk-bus sata --nic-model e1000"
    )
    assert other_hardware((kernel("", version="2.4"),), Hardware()) == ""
    asked = Hardware(disk_bus=DiskBus.SATA)
    assert "--disk-bus virtio" in other_hardware((kernel(),), asked), "the other way round"


@pytest.mark.parametrize(
    ("hardware", "storage", "nic"),
    [
        (Hardware(), {"virtio_pci", "virtio_blk"}, "virtio_net"),
        (Hardware(disk_bus=DiskBus.SATA, nic_model=NicModel.E1000E), {"ahci", "sd_mod"}, "e1000e"),
        (Hardware(disk_bus=DiskBus.SCSI), {"virtio_pci", "virtio_scsi", "sd_mod"}, "virtio_net"),
    ],
)
def test_each_hardware_has_its_drivers(hardware: Hardware, storage: set[str], nic: str) -> None:
    drivers = drivers_for(hardware)
    assert set(drivers.needed) == storage
    assert storage <= set(drivers.storage)
    assert drivers.all[-1] == nic


def test_versions_are_ordered_as_people_read_them() -> None:
    versions = ["6.1.0-9-amd64", "6.1.0-37-amd64", "5.10.0-28-amd64"]
    assert sorted(versions, key=version_key) == ["5.10.0-28-amd64", "6.1.0-9-amd64", "6.1.0-37-amd64"]


def test_a_segment_brings_modules_indexes_and_the_list_of_what_to_load() -> None:
    found = added(usrmerged(Entry("conf/modules", FILE, b"vmw_pvscsi\n")))
    base = f"usr/lib/modules/{VERSION}"
    assert {f"{base}/kernel/drivers/virtio/virtio_pci.ko", f"{base}/modules.dep.bin"} <= found.keys()
    assert bytes(found["conf/modules"].data) == b"vmw_pvscsi\nvirtio_pci\nvirtio_blk\n"
    assert "lib" not in found, "an entry for it would replace the link"
    assert found[f"{base}/kernel"].is_folder
    order = list(found)
    assert order.index(f"{base}/kernel/drivers") < order.index(f"{base}/kernel/drivers/virtio/virtio_pci.ko")


def test_modules_that_the_archive_holds_under_another_suffix_come_as_the_index_names_them() -> None:
    """The guest's index says ext4.ko, the archive has ext4.ko.xz: without the file root is not mounted."""
    held = Entry(f"usr/lib/modules/{VERSION}/kernel/fs/ext4/ext4.ko.xz", FILE, b"packed")
    assert f"usr/lib/modules/{VERSION}/kernel/fs/ext4/ext4.ko" in added(usrmerged(held))


def test_an_archive_whose_modprobe_keeps_virtio_away_is_told_otherwise() -> None:
    held = Entry("etc/modprobe.d/hardening.conf", FILE, b"blacklist virtio_blk\nblacklist floppy\n")
    found = added(usrmerged(held))
    text = bytes(found["etc/modprobe.d/hardening.conf"].data).decode()
    assert [line for line in text.splitlines() if not line.startswith("#")] == ["blacklist floppy"]


def test_an_archive_of_mkinitcpio_loads_them_by_its_own_list() -> None:
    held = Entry("config", FILE, b'MODULES="vmw_pvscsi"\nHOOKS="base udev"\n')
    found = added(usrmerged(held), tool="mkinitcpio")
    assert bytes(found["config"].data) == (b'MODULES="vmw_pvscsi virtio_pci virtio_blk"\nHOOKS="base udev"\n')
    assert "config" not in added(usrmerged(held)), "another tool's config is none of ours"
    assert loading("HOOKS='base'\n", ("ahci",)) == "HOOKS='base'\nMODULES=\"ahci\"\n"


def test_nothing_is_added_where_everything_is_there() -> None:
    first = added(usrmerged())
    again = usrmerged(*first.values())
    assert added(again) == {}


def test_names_of_devices_in_the_archive_are_stable_afterwards() -> None:
    held = (
        Entry("conf/conf.d/resume", FILE, b"RESUME=/dev/sda3\n"),
        Entry("init", FILE, b"root=/dev/sda3"),
        Entry("etc/fstab.sys", FILE, b"/dev/sda3 /opt ext4 defaults 0 0\n"),
    )
    found = added(usrmerged(*held))
    assert bytes(found["etc/fstab.sys"].data) == b"UUID=swap-uuid /opt ext4 defaults 0 0\n"
    assert bytes(found["conf/conf.d/resume"].data) == b"RESUME=UUID=swap-uuid\n"
    assert "init" not in found


def test_an_lz4_archive_of_an_old_kernel_is_packed_anew() -> None:
    microcode = write_segment([Entry("kernel/x86/microcode/a.bin", FILE, b"\x01" * 77)])
    main = write_segment([Entry("init", FILE, b"x")])
    before = microcode + bytes(512) + lz4_legacy(main)
    entries = [Entry("conf/modules", FILE, b"virtio_pci\n")]
    old = extended(before, read_archive(before), entries, kernel(version="4.19.0-21-amd64"))
    read = read_archive(old)
    assert [piece.compression for piece in read.pieces] == ["", "gzip", ""]
    assert bytes(read.pieces[1].content) == main, "device nodes and hard links are as they were"
    assert {"init", "conf/modules", "kernel/x86/microcode/a.bin"} <= read.entries.keys()
    assert extended(before, read_archive(before), entries, kernel()).startswith(before)


def test_a_list_of_modules_gets_only_what_it_lacks() -> None:
    assert with_lines("# a\nvirtio-pci\n", ("virtio_pci", "virtio_blk")) == "# a\nvirtio-pci\nvirtio_blk\n"
    assert with_lines("ext4", ("virtio_blk",)) == "ext4\nvirtio_blk\n"
    assert with_lines("virtio_blk # why\n", ("virtio_blk",)) == "virtio_blk # why\n"


def test_a_written_segment_is_read_with_what_was_there() -> None:
    before = write_segment(usrmerged(Entry("init", FILE, b"x")).entries.values())
    entries = list(added(read_archive(before)).values())
    after = read_archive(extended(before, read_archive(before), entries, kernel()))
    assert after.get(f"lib/modules/{VERSION}/modules.dep") is not None
    assert after.get("init") is not None


def test_an_initramfs_whose_files_are_in_an_image_takes_nothing_beside_it() -> None:
    assert packed_root(usrmerged()) == ""
    for name in ("squash/root.img", "squashfs-root.img", "erofs-root.img"):
        assert packed_root(usrmerged(Entry(name, FILE, b"hsqs"))) == name
