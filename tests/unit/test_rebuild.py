"""What an initramfs that was made anew must not have lost."""

from pathlib import Path

import pytest

from hyperctl.activities.convert.linux.cpio import Archive, Entry, read_archive, write_segment
from hyperctl.activities.convert.linux.initramfs import inject_virtio_drivers
from hyperctl.activities.convert.linux.rebuild import lost_crypttabs, rebuild_initramfs
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work
from tests.unit.test_layouts import ABLE, VIRTIO, inspected


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


@pytest.mark.parametrize(("damaged", "is_left"), [("5.14.0-70.el9.x86_64", True), (ABLE, False)])
def test_a_damaged_initramfs_of_an_older_kernel_stops_nothing(
    tmp_path: Path, damaged: str, is_left: bool
) -> None:
    """It booted nothing on VMware either; here the guest has no dracut to make it anew."""
    good = write_segment([Entry("init", 0o100755, b"#!/bin/sh\n")])
    files: dict[str, str | bytes] = {}
    for version in (ABLE, "5.14.0-70.el9.x86_64"):
        files[f"/lib/modules/{version}/modules.dep"] = VIRTIO
        files |= {f"/lib/modules/{version}/{line[:-1]}": "" for line in VIRTIO.splitlines()}
        files[f"/boot/vmlinuz-{version}"] = ""
        files[f"/boot/initramfs-{version}.img"] = good[:60] if version == damaged else good
    guest, work = inspected(tmp_path, files), Work()
    inject_virtio_drivers(guest, work)
    if is_left:
        rebuild_initramfs(guest, work)
        assert f"initramfs-{damaged}.img cannot be rebuilt" in work.warnings[-1]
    else:
        with pytest.raises(StepFailed, match="cannot be rebuilt: the guest has no dracut"):
            rebuild_initramfs(guest, work)
