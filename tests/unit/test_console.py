"""A serial console where it was asked for: in what boot loaders read, and in what it is made from."""

import time

import pytest

from hyperctl.activities.convert.linux.console import (
    SERIAL,
    command_line_with_console,
    entries_with_console,
    settings_with_console,
    with_console,
)

GRUB = """\
### BEGIN /etc/grub.d/00_header ###
set default="0"
terminal_output gfxterm
### END /etc/grub.d/00_header ###
menuentry 'Debian' --class debian {
\tlinux\t/vmlinuz-6.1.0-9-amd64 root=UUID=1 ro  quiet
\tinitrd\t/initrd.img-6.1.0-9-amd64
}
menuentry 'Memory test' {
\tlinux16\t/boot/memtest86+.bin
}
"""
LEGACY = """\
default=0
splashimage=(hd0,0)/grub/splash.xpm.gz
title CentOS
\troot (hd0,0)
\tkernel /vmlinuz-2.6.32 ro root=/dev/vg/root rhgb
\tinitrd /initramfs-2.6.32.img
"""
SETTINGS = """\
GRUB_DEFAULT=0
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX=""
#GRUB_TERMINAL=console
"""
ADDED = "console=tty0 console=ttyS0,115200"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ro quiet", f"ro quiet {ADDED}"),
        ("", ADDED),
        ("ro console=tty1", "ro console=tty1 console=ttyS0,115200"),
        ("ro console=ttyS0 quiet",) * 2,
        ("ro console=ttyS0,9600n8",) * 2,
    ],
)
def test_arguments(before: str, after: str) -> None:
    assert with_console(before) == after
    assert with_console(after) == after


@pytest.mark.parametrize(
    ("path", "text", "wanted"),
    [
        (
            "/boot/grub/grub.cfg",
            GRUB,
            (
                f"\tlinux\t/vmlinuz-6.1.0-9-amd64 root=UUID=1 ro  quiet {ADDED}\n",
                "linux16\t/boot/memtest86+.bin\n",
                "terminal_output gfxterm\nserial --unit=0 --speed=115200\nterminal_input --append serial\n"
                "terminal_output --append serial\n### END",
            ),
        ),
        (
            "/boot/grub/grub.conf",
            LEGACY,
            (
                f"rhgb {ADDED}\n",
                "serial --unit=0 --speed=115200\nterminal --timeout=5 serial console\ndefault=0\n",
                "\n#splashimage",
            ),
        ),
        (
            "/boot/loader/entries/a.conf",
            "linux /vmlinuz-1\noptions root=UUID=1 ro\n",
            (f"linux /vmlinuz-1\noptions root=UUID=1 ro {ADDED}\n",),
        ),
        (
            "/boot/loader/entries/rhel8.conf",
            "options $kernelopts $tuned_params\n",
            ("options $kernelopts $tuned_params\n",),
        ),
        (
            "/boot/grub2/grubenv",
            "# GRUB Environment Block\nkernelopts=root=UUID=1 ro\n",
            (f"kernelopts=root=UUID=1 ro {ADDED}\n",),
        ),
        (
            "/boot/extlinux/extlinux.conf",
            "LABEL a\n  LINUX /vmlinuz\n  APPEND root=UUID=1\n",
            (f"  APPEND root=UUID=1 {ADDED}\n",),
        ),
        (
            "/boot/extlinux/linux.cfg",
            "label a\n\tlinux /vmlinuz-1\n\tappend ro\n",
            (f"\tlinux /vmlinuz-1\n\tappend ro {ADDED}\n",),
        ),
    ],
)
def test_what_boot_loaders_read(path: str, text: str, wanted: tuple[str, ...]) -> None:
    after = entries_with_console(path, text)
    assert all(part in after for part in wanted), after
    assert entries_with_console(path, after) == after


def test_grubs_settings() -> None:
    after = settings_with_console(SETTINGS)
    assert after == (
        'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\n'
        f'GRUB_CMDLINE_LINUX="{ADDED}"\nGRUB_TERMINAL="console serial"\n'
        'GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"\n'
    )
    assert settings_with_console(after) == after


def test_settings_that_cannot_be_changed_in_place_are_added_to() -> None:
    text = "GRUB_CMDLINE_LINUX=\"foo='a b'\"\nGRUB_TERMINAL_OUTPUT=serial\n"
    after = settings_with_console(text)
    assert after == f'{text}GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {ADDED}"\n'
    assert settings_with_console(after) == after


def test_the_kernels_command_line() -> None:
    text = "# ours\nroot=UUID=1\nro quiet\n# end\n"
    after = command_line_with_console(text)
    assert after == f"# ours\nroot=UUID=1\nro quiet {ADDED}\n# end\n"
    assert command_line_with_console(after) == after
    assert command_line_with_console("# nothing\n") == "# nothing\n"


def test_nothing_but_blanks_is_read_at_once() -> None:
    began = time.monotonic()
    assert settings_with_console(" " * (1 << 20)).endswith(f'GRUB_SERIAL_COMMAND="{SERIAL}"\n')
    assert time.monotonic() - began < 20, "quadratic, it takes hours"
