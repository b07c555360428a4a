"""What an initramfs that was made anew must not have lost."""

from pathlib import Path

import pytest

from hyperctl.activities.convert.linux.cpio import Archive, Entry, read_archive, write_segment
from hyperctl.activities.convert.linux.default_kernel import may_be_default
from hyperctl.activities.convert.linux.initramfs import inject_virtio_drivers
from hyperctl.activities.convert.linux.rebuild import lost_crypttabs, rebuild_initramfs
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work
from hyperctl.workflows.request import InitramfsWay
from tests.unit.test_layouts import ABLE, VIRTIO, entry, inspected, menu_of


def archive(crypttab: bytes | None) -> Archive:
    entries = [Entry("cryptroot", 0o40755)]
    if crypttab is not None:
        entries.append(Entry("cryptroot/crypttab", 0o100644, crypttab))
    return read_archive(write_segment(entries))


@pytest.mark.parametrize(
    ("new", "lost"),
    [
        (b"system UUID=1 none luks\n", []),
        (b"", ["cryptroot/crypttab"]),
        (b"# nothing to open\n\n", ["cryptroot/crypttab"]),
        (None, ["cryptroot/crypttab"]),
    ],
)
def test_an_initramfs_that_would_open_nothing_is_noticed(new: bytes | None, lost: list[str]) -> None:
    assert lost_crypttabs(archive(b"system UUID=1 none luks\n"), archive(new)) == lost
    assert lost_crypttabs(archive(b""), archive(new)) == []


OLD = "5.14.0-70.el9.x86_64"
GOOD = write_segment([Entry("init", 0o100755, b"#!/bin/sh\n")])
CUT_OFF = GOOD[:60]
LZO = b"\x89LZO\0\r\n\x1a\n".ljust(100, b"\0")


def two_kernels(damaged: str, content: bytes) -> dict[str, str | bytes]:
    """Both with the drivers, one with another initramfs; and no dracut to make one anew."""
    files: dict[str, str | bytes] = {}
    for version in (ABLE, OLD):
        files[f"/lib/modules/{version}/modules.dep"] = VIRTIO
        files |= {f"/lib/modules/{version}/{line[:-1]}": "" for line in VIRTIO.splitlines()}
        files[f"/boot/vmlinuz-{version}"] = ""
        files[f"/boot/initramfs-{version}.img"] = content if version == damaged else GOOD
        files[f"/boot/loader/entries/abc-{version}.conf"] = entry(version)
    files["/boot/grub2/grub.cfg"] = 'set default="${saved_entry}"\ninsmod blscfg\nblscfg\n'
    return files


def grub_environment(saved: str) -> dict[str, str | bytes]:
    return {"/boot/grub2/grubenv": f"# GRUB Environment Block\nsaved_entry={saved}\n".ljust(1024, "#")}


STAYS = {
    "an older one": (OLD, CUT_OFF, {}, True),
    "of no known form": (OLD, b"rubbish", {}, True),
    "of a form that only the kernel may read": (OLD, LZO, {}, False),
    "of the newest": (ABLE, CUT_OFF, {}, False),
    "of the saved default": (OLD, CUT_OFF, grub_environment(f"abc-{OLD}"), False),
    "of the default by number": (OLD, CUT_OFF, grub_environment("1"), False),
    "beside the default by number": (OLD, CUT_OFF, grub_environment("0"), True),
    "of the menu's first": (OLD, CUT_OFF, {"/boot/grub2/grub.cfg": menu_of(OLD, ABLE)}, False),
}


@pytest.mark.parametrize("way", InitramfsWay)
@pytest.mark.parametrize(("version", "content", "more", "is_left"), STAYS.values(), ids=STAYS)
def test_a_damaged_initramfs_that_is_not_booted_by_itself_stops_nothing(
    tmp_path: Path,
    version: str,
    content: bytes,
    more: dict[str, str | bytes],
    is_left: bool,
    way: InitramfsWay,
) -> None:
    """It booted nothing on VMware either."""
    guest = inspected(tmp_path, {**two_kernels(version, content), **more}, way=way)
    work = Work()

    def convert() -> None:
        inject_virtio_drivers(guest, work)
        guest.rebuilds[:] = [one for one in guest.rebuilds if one.kernel.version == version]
        rebuild_initramfs(guest, work)

    if is_left:
        convert()
        assert any(f"initramfs-{version}.img" in warning for warning in work.warnings)
        assert guest.files.content(f"/boot/initramfs-{version}.img") == content
    else:
        with pytest.raises(StepFailed, match=f"initramfs-{version}.img"):
            convert()


def test_nothing_is_written_into_a_menu_that_is_only_asked_for_its_default(tmp_path: Path) -> None:
    menus: tuple[dict[str, str | bytes], ...] = (
        {"/boot/grub2/grub.cfg": menu_of(ABLE, OLD)},
        {"/boot/grub2/grub.cfg": "", "/boot/grub/menu.lst": "default 0\ntitle a\nkernel /vmlinuz-1\n"},
        {"/boot/grub2/grub.cfg": "", "/boot/extlinux.conf": f"label a\n  linux /vmlinuz-{OLD}\n"},
    )
    for number, menu in enumerate(menus):
        files = {path: text for path, text in two_kernels("", b"").items() if "/entries/" not in path}
        guest = inspected(tmp_path / str(number), files | menu)
        found = {kernel.version: may_be_default(guest, kernel) for kernel in guest.kernels}
        assert found[OLD] is (number == 2)
        assert {path: guest.files.text(path) for path in menu} == menu
