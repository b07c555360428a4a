"""The guest's own settings for its initramfs, with the drivers in them and all else byte for byte."""

import pytest

from hyperctl.activities.convert.linux.agreement import (
    adapters_of,
    nothing_omitted,
    with_features,
    with_initrd_modules,
    with_modules,
)
from hyperctl.activities.convert.linux.drivers import drivers_for
from hyperctl.workflows.hardware import DiskBus, Hardware, NicModel

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


def test_alpine() -> None:
    before = 'features="ata base ext4"\n'
    after = 'features="ata base ext4 virtio"\n'
    assert with_features(before, drivers_for(Hardware()).storage) == after
    assert with_features(after, drivers_for(Hardware()).storage) == after
    sata = drivers_for(Hardware(disk_bus=DiskBus.SATA)).storage
    assert with_features('features="base"\n', sata) == 'features="base ata scsi"\n'
    assert with_features("", sata) == "", "all of them"


def test_aliases_that_red_hats_mkinitrd_reads() -> None:
    assert adapters_of(RHEL5, drivers_for(Hardware())) == (
        "alias eth0 virtio_net\nalias eth1 virtio_net\n"
        "alias scsi_hostadapter virtio_blk\nalias scsi_hostadapter1 virtio_blk\n"
        "alias scsi_hostadapter2 usb-storage\n"
    )
    sata = drivers_for(Hardware(disk_bus=DiskBus.SATA, nic_model=NicModel.E1000))
    assert "alias scsi_hostadapter1 ahci\n" in adapters_of(RHEL5, sata)
    assert "alias eth1 e1000\n" in adapters_of(RHEL5, sata)
