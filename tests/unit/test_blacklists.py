"""What keeps a driver from loading: files of modprobe.d and kernel arguments, with all else byte for byte."""

import time

import pytest

from hyperctl.activities.convert.linux.blacklists import (
    arguments_without_blacklists,
    is_modprobe_file,
    without_blacklists,
)

MODULES = ("virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net")
HARDENING = """\
# CIS 1.1.1: no rare filesystems
install cramfs /bin/true
blacklist floppy

blacklist virtio-blk
install virtio_net /bin/false
install virtio_pci /usr/bin/true # why not
  alias virtio_scsi off
options virtio_blk num_request_queues=4
install virtio_scsi /sbin/modprobe --ignore-install virtio_scsi
"""


def test_only_what_keeps_the_drivers_away_becomes_a_comment() -> None:
    after = without_blacklists(HARDENING, MODULES)
    assert [line for line in after.splitlines() if not line.startswith("#")] == [
        "install cramfs /bin/true",
        "blacklist floppy",
        "",
        "options virtio_blk num_request_queues=4",
        "install virtio_scsi /sbin/modprobe --ignore-install virtio_scsi",
    ]
    assert after.count("# not on KVM (hyperctl): ") == 4
    assert without_blacklists(after, MODULES) == after


@pytest.mark.parametrize("text", ["", "blacklist nouveau\n", "# blacklist virtio_blk\n", "options e1000 a=1"])
def test_other_files_stay(text: str) -> None:
    assert without_blacklists(text, MODULES) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ro quiet modprobe.blacklist=virtio_blk splash", "ro quiet splash"),
        ("ro rd.driver.blacklist=nouveau,virtio-blk,virtio_pci", "ro rd.driver.blacklist=nouveau"),
        ("module_blacklist=virtio_net,floppy x", "module_blacklist=floppy x"),
        ("a rdblacklist=virtio_scsi\n", "a\n"),
        ('GRUB_CMDLINE_LINUX="modprobe.blacklist=virtio_blk"\n', 'GRUB_CMDLINE_LINUX=""\n'),
        ("\tlinux /vmlinuz root=/dev/sda1 rd.driver.pre=vmw_pvscsi\n",) * 2,
        ("ro modprobe.blacklist=nouveau",) * 2,
    ],
)
def test_kernel_arguments(before: str, after: str) -> None:
    assert arguments_without_blacklists(before, MODULES) == after
    assert arguments_without_blacklists(after, MODULES) == after


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("etc/modprobe.d/a.conf", True),
        ("usr/lib/modprobe.d/b.conf", True),
        ("etc/modprobe.conf", True),
        ("etc/modules-load.d/a.conf", False),
    ],
)
def test_modprobes_files_in_an_archive(path: str, is_one: bool) -> None:
    assert is_modprobe_file(path) is is_one


def test_nothing_but_blanks_is_read_at_once() -> None:
    text = " " * (1 << 20)
    began = time.monotonic()
    assert arguments_without_blacklists(text, MODULES) == text
    assert time.monotonic() - began < 20, "quadratic, it takes hours"
