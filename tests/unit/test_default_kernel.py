"""GRUB's menu as grub-mkconfig writes it."""

import time

from hyperctl.activities.convert.linux.default_kernel import grub_menu
from hyperctl.activities.convert.linux.grub_environment import saved_entry, with_saved_entry
from hyperctl.activities.convert.linux.plain_menus import legacy_default, syslinux_defaults

CONFIGURATION = """\
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
else
   set default="0"
fi
function load_video {
  insmod all_video
}
menuentry 'Debian' --class debian $menuentry_id_option 'gnulinux-simple-1234' {
\tload_video
\tlinux\t/boot/vmlinuz-6.12-vmware root=UUID=1234 ro quiet
\tinitrd\t/boot/initrd.img-6.12-vmware
}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-1234' {
\tmenuentry 'Debian, 6.12' $menuentry_id_option 'gnulinux-6.12-advanced-1234' {
\t\tlinux\t/boot/vmlinuz-6.12-vmware root=UUID=1234 ro quiet
\t}
\tmenuentry 'Debian, 6.1' $menuentry_id_option 'gnulinux-6.1-advanced-1234' {
\t\tlinux\t/boot/vmlinuz-6.1 root=UUID=1234 ro quiet
\t}
}
menuentry "Memory test" {
\tlinux16\t/boot/memtest86+.bin
}
"""


def test_entries_are_addressed_by_name_and_by_number() -> None:
    menu = grub_menu(CONFIGURATION)
    assert [(entry.address, entry.place, entry.kernel) for entry in menu] == [
        ("gnulinux-simple-1234", "0", "/boot/vmlinuz-6.12-vmware"),
        ("gnulinux-advanced-1234>gnulinux-6.12-advanced-1234", "1>0", "/boot/vmlinuz-6.12-vmware"),
        ("gnulinux-advanced-1234>gnulinux-6.1-advanced-1234", "1>1", "/boot/vmlinuz-6.1"),
        ("Memory test", "2", "/boot/memtest86+.bin"),
    ]


def test_entries_are_addressed_by_title_too() -> None:
    assert grub_menu(CONFIGURATION)[2].title == "Advanced options>Debian, 6.1"


def test_grubs_saved_entry() -> None:
    block = "# GRUB Environment Block\nsaved_entry=old>one\nother=1\n".ljust(1024, "#")
    assert saved_entry(block) == "old>one"
    changed = with_saved_entry(block, "new>one")
    assert (saved_entry(changed), len(changed)) == ("new>one", 1024)
    assert "other=1\n###" in changed
    made = with_saved_entry("", "new")
    assert (saved_entry(made), len(made)) == ("new", 1024)
    assert saved_entry(made.replace("new", "")) == ""


LEGACY = """\
default\t\t0
timeout 5
# kopt=root=/dev/sda1 ro
title Debian, 6.12
root (hd0,0)
kernel /boot/vmlinuz-6.12-vmware root=/dev/sda1 ro
title Debian, 6.1
kernel (hd0,0)/boot/vmlinuz-6.1 root=/dev/sda1 ro
"""


def test_grub_legacy_boots_a_kernel_with_virtio() -> None:
    changed = LEGACY.replace("default\t\t0", "default\t\t1")
    assert legacy_default(LEGACY, {"6.12-vmware"}, "6.1") == changed
    assert legacy_default(changed, {"6.12-vmware"}, "6.1") == changed
    assert legacy_default(LEGACY.replace("default\t\t0\n", ""), {"6.12-vmware"}, "6.1") == "default 1\n" + (
        LEGACY.replace("default\t\t0\n", "")
    )
    assert legacy_default(LEGACY, {"6.12-vmware"}, "5.10") is None


EXTLINUX = """\
DEFAULT l0
PROMPT 0
INCLUDE linux.cfg
"""
LABELS = """\
label l0
  menu label Debian, 6.12
  linux ../vmlinuz-6.12-vmware
  append initrd=../initrd.img-6.12-vmware root=/dev/sda1 ro
label l1
  kernel /boot/vmlinuz-6.1
"""


def test_extlinux_boots_a_kernel_with_virtio() -> None:
    texts = {"main": EXTLINUX, "linux.cfg": LABELS}
    changed = syslinux_defaults(texts, {"6.12-vmware"}, "6.1")
    assert changed == {"main": EXTLINUX.replace("l0", "l1"), "linux.cfg": LABELS}
    assert syslinux_defaults(changed, {"6.12-vmware"}, "6.1") == changed
    assert syslinux_defaults(texts, {"6.12-vmware"}, "5.10") is None
    assert syslinux_defaults(texts, {"6.1"}, "6.12-vmware") == texts


def test_a_marked_label_of_syslinux_is_the_default() -> None:
    texts = {"main": "DEFAULT vesamenu.c32\n" + LABELS.replace("label l0\n", "label l0\n  menu default\n")}
    changed = syslinux_defaults(texts, {"6.12-vmware"}, "6.1")
    assert changed == {
        "main": "DEFAULT vesamenu.c32\n" + LABELS.replace("label l1\n", "label l1\n  menu default\n")
    }


def test_menus_in_menus_without_end_take_no_memory() -> None:
    """Quadratic, 2 MiB of them would take many GiB."""
    text = "submenu 'a' {\n" * 3000 + "menuentry 'a' {\nlinux /x\n}\n" * 3000
    assert sum(len(one.address) for one in grub_menu(text)) < 1 << 20


def test_an_entry_of_nothing_but_blanks_or_letters_is_read_at_once() -> None:
    began = time.monotonic()
    assert grub_menu("menuentry " + " " * (1 << 20) + "\n") == []
    assert time.monotonic() - began < 20, "quadratic, it takes hours"
    assert legacy_default("default" + " " * (1 << 20), ["1"], "2") is not None
    assert syslinux_defaults({"a": "label " + "a" * (1 << 20)}, ["1"], "2") is not None
    assert time.monotonic() - began < 20, "quadratic, it takes hours"
