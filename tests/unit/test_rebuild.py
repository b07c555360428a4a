"""What an initramfs that was made anew must not have lost."""

import pytest

from hyperctl.activities.convert.linux.cpio import Archive, Entry, read_archive, write_segment
from hyperctl.activities.convert.linux.rebuild import lost_crypttabs


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
