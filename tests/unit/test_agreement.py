"""The guest's own settings for its initramfs, with the drivers in them and all else byte for byte."""

from pathlib import Path

import pytest

from hyperctl.activities.convert.linux.agreement import (
    adapters_of,
    agree,
    features_for,
    nothing_omitted,
    with_features,
    with_initrd_modules,
    with_modules,
)
from hyperctl.activities.convert.linux.drivers import drivers_for
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.hardware import DiskBus, Hardware, NicModel
from tests.unit.test_layouts import inspected

NAMES = ("virtio_pci", "virtio_blk")
ARCH = """\
# vim:set ft=sh
# MODULES
#     MODULES=(usbhid xhci_hcd)
MODULES=(vmw_pvscsi)
BINARIES=()
HOOKS=(base udev autodetect modconf block filesystems fsck)
"""
SLES11 = """\
## Type:\tstring
# This variable contains the list of modules to be added to the initial ramdisk
INITRD_MODULES="mptspi ata_piix ext3"
DOMU_INITRD_MODULES="xennet xenblk"
"""
RHEL5 = """\
alias eth0 e1000
alias eth1 vmxnet
alias scsi_hostadapter mptbase
alias scsi_hostadapter1 mptspi
alias scsi_hostadapter2 usb-storage
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("MODULES=()", "MODULES=(virtio_pci virtio_blk)"),
        ("MODULES=(ext4 virtio-pci)", "MODULES=(ext4 virtio-pci virtio_blk)"),
        ("MODULES+=(ext4)", "MODULES+=(ext4 virtio_pci virtio_blk)"),
        ('MODULES="ext4"', 'MODULES="ext4 virtio_pci virtio_blk"'),
        ("MODULES=(\n  ext4 # root\n)", "MODULES=(\n  ext4 # root\nvirtio_pci virtio_blk)"),
        ("MODULES=(ext4 # virtio_blk\n)", "MODULES=(ext4 # virtio_blk\nvirtio_pci virtio_blk)"),
        ("MODULES=(virtio_blk? virtio_pci)",) * 2,
    ],
)
def test_mkinitcpio(before: str, after: str) -> None:
    text = ARCH.replace("MODULES=(vmw_pvscsi)", before)
    changed = with_modules(text, NAMES, is_main=True)
    assert changed == ARCH.replace("MODULES=(vmw_pvscsi)", after)
    assert with_modules(changed, NAMES, is_main=True) == changed


def test_mkinitcpios_files_without_a_list() -> None:
    assert with_modules("HOOKS=(base)", NAMES, is_main=True).splitlines()[1] == (
        "MODULES=(virtio_pci virtio_blk)"
    )
    assert with_modules("HOOKS=(base)\n", NAMES, is_main=False) == "HOOKS=(base)\n", "a drop-in"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('omit_drivers+=" nouveau virtio_blk "\n', 'omit_drivers+=" nouveau "\n'),
        ("omit_drivers='virtio.*'\n", "omit_drivers='  '\n"),
        ('omit_drivers+=" virtio-pci i915 "\n', 'omit_drivers+=" i915 "\n'),
        ('#omit_drivers+=" virtio_blk "\nhostonly="yes"\n',) * 2,
        ('omit_drivers+=" [broken virtio "\n',) * 2,
        ('omit_dracutmodules+=" virtio_blk "\n',) * 2,
    ],
)
def test_dracut_leaves_none_of_them_out(before: str, after: str) -> None:
    assert nothing_omitted(before, NAMES) == after


def test_suse() -> None:
    changed = with_initrd_modules(SLES11, NAMES)
    assert 'INITRD_MODULES="mptspi ata_piix ext3 virtio_pci virtio_blk"\n' in changed
    assert 'DOMU_INITRD_MODULES="xennet xenblk"\n' in changed
    assert with_initrd_modules(changed, NAMES) == changed
    assert with_initrd_modules("# none", NAMES) == '# none\nINITRD_MODULES="virtio_pci virtio_blk"\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('features="ata base ext4"\n', 'features="ata base ext4 virtio"\n'),
        ("features='base ext4' # mine\n", "features='base ext4 virtio' # mine\n"),
        ("features=base\n", 'features="base virtio"\n'),
        ("features='base virtio'\n", "features='base virtio'\n"),
        ("#features='base'\n", None),
        ("features='base\n", None),
        ("", None),
    ],
)
def test_alpine(before: str, after: str | None) -> None:
    assert with_features(before, features_for(drivers_for(Hardware()).storage)) == after


def test_alpines_features_are_those_of_the_disks_bus() -> None:
    found = {bus: features_for(drivers_for(Hardware(disk_bus=bus)).storage) for bus in DiskBus}
    assert found == {
        DiskBus.VIRTIO: ("virtio",),
        DiskBus.SCSI: ("virtio", "scsi"),
        DiskBus.SATA: ("ata", "scsi"),
    }


@pytest.mark.parametrize("files", [{}, {"/etc/mkinitfs/mkinitfs.conf": "features='base\n"}])
def test_alpines_settings_that_cannot_be_set_are_a_warning(tmp_path: Path, files: dict[str, str]) -> None:
    guest, work = inspected(tmp_path, {"/etc/alpine-release": "", **files}, tool="mkinitfs"), Work()
    agree(guest, drivers_for(Hardware()), work)
    assert (work.changed, work.done) == ([], [])
    assert "mkinitfs.conf has no list of features" in work.warnings[0]
    assert "virtio" in work.warnings[0]


def test_aliases_that_red_hats_mkinitrd_reads() -> None:
    assert adapters_of(RHEL5, drivers_for(Hardware())) == (
        "alias eth0 virtio_net\nalias eth1 virtio_net\n"
        "alias scsi_hostadapter virtio_blk\nalias scsi_hostadapter1 virtio_blk\n"
        "alias scsi_hostadapter2 usb-storage\n"
    )
    sata = drivers_for(Hardware(disk_bus=DiskBus.SATA, nic_model=NicModel.E1000))
    assert "alias scsi_hostadapter1 ahci\n" in adapters_of(RHEL5, sata)
    assert "alias eth1 e1000\n" in adapters_of(RHEL5, sata)
