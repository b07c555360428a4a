"""Which label a path gets. The lines are of Red Hat's policy; libselinux 3.4 gives the same answers."""

import stat

import pytest

from hyperctl.activities.convert.linux.file_contexts import FileContexts

MAIN = """\
# comment
/.*\tsystem_u:object_r:default_t:s0
/[^/]+\t--\tsystem_u:object_r:etc_runtime_t:s0
/etc/.*\tsystem_u:object_r:etc_t:s0
/boot(/.*)?\tsystem_u:object_r:boot_t:s0
/usr/lib/systemd/system(/.*)?\tsystem_u:object_r:systemd_unit_file_t:s0
/etc/udev(/.*)?\tsystem_u:object_r:udev_rules_t:s0
/usr/lib(/.*)?\tsystem_u:object_r:lib_t:s0
/usr/lib/systemd/system(/.*)?\tsystem_u:object_r:systemd_unit_file_t:s0
/etc/resolv\\.conf.*\tsystem_u:object_r:net_conf_t:s0
/tmp/.*\t<<none>>
/etc/fstab\\.d\t-d\tsystem_u:object_r:etc_runtime_t:s0
/etc/mtab\t--\tsystem_u:object_r:etc_runtime_t:s0
/etc/m.*\tsystem_u:object_r:last_t:s0
/lib(32)?/x\tsystem_u:object_r:optional_t:s0
"""
LOCAL = "/etc/udev/rules\\.d/71-.*\t--\tsystem_u:object_r:ours_t:s0\n/broken[\tsystem_u:object_r:x_t:s0\n"
SUBSTITUTIONS = "/etc/systemd/system /usr/lib/systemd/system\n"


@pytest.mark.parametrize(
    ("path", "mode", "kind"),
    [
        ("/.autorelabel", stat.S_IFREG, "etc_runtime_t"),
        ("/folder", stat.S_IFDIR, "default_t"),
        ("/boot", stat.S_IFDIR, "boot_t"),
        ("/boot/loader/entries/a.conf", stat.S_IFREG, "boot_t"),
        ("/bootstrap/x", stat.S_IFREG, "default_t"),
        ("/etc/systemd/system/vmtoolsd.service", stat.S_IFLNK, "systemd_unit_file_t"),
        ("/etc/udev/rules.d/70-a.rules", stat.S_IFREG, "udev_rules_t"),
        ("/etc/udev/rules.d/71-a.rules", stat.S_IFREG, "ours_t"),
        ("/etc/udev/rules.d/71-a.rules", stat.S_IFLNK, "udev_rules_t"),
        ("/etc/resolv.conf.new", stat.S_IFREG, "net_conf_t"),
        ("/etc/resolvXconf", stat.S_IFREG, "etc_t"),
        ("/tmp/x", stat.S_IFREG, None),
        ("/etc/fstab.d", stat.S_IFDIR, "etc_runtime_t"),
        ("/etc/mtab", stat.S_IFREG, "etc_runtime_t"),
        ("/etc/mtab", stat.S_IFLNK, "last_t"),
        ("/lib/x", stat.S_IFREG, "optional_t"),
        ("/lib32/x", stat.S_IFREG, "optional_t"),
    ],
)
def test_the_last_line_that_fits_counts_but_an_exact_one_first(
    path: str, mode: int, kind: str | None
) -> None:
    label = FileContexts([MAIN, "", LOCAL], ["", SUBSTITUTIONS]).label(path, mode | 0o644)
    assert label == (kind and f"system_u:object_r:{kind}:s0")
