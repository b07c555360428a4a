"""GRUB's menu as grub-mkconfig writes it."""

from hyperctl.activities.convert.linux.default_kernel import grub_menu

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
