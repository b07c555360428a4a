"""Reading an initramfs as the kernel does, and adding to it."""

import bz2
import gzip
import lzma
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import lz4.block
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from hyperctl.activities.convert.linux.cpio import (
    Archive,
    CpioError,
    Entry,
    padding,
    read_archive,
    write_segment,
)

FILE = stat.S_IFREG | 0o644


def lz4_legacy(data: bytes) -> bytes:
    block: bytes = lz4.block.compress(data, store_size=False)
    return b"\x02\x21\x4c\x18" + len(block).to_bytes(4, "little") + block


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": zstandard.compress,
    "lz4": lz4_legacy,
}


@pytest.mark.parametrize("compress", COMPRESSORS.values(), ids=COMPRESSORS)
def test_a_segment_behind_any_archive_is_read_and_replaces_what_was_there(
    compress: Callable[[bytes], bytes],
) -> None:
    main = write_segment([Entry("conf/modules", FILE, b"old"), Entry("init", FILE | 0o111, b"#!/bin/sh")])
    microcode = write_segment([Entry("kernel/x86/microcode/a.bin", FILE, b"\x01" * 77)])
    before = microcode + bytes(512) + compress(main)
    after = before + padding(len(before)) + write_segment([Entry("conf/modules", FILE, b"new")])
    archive = read_archive(after)
    assert {name: bytes(entry.data) for name, entry in archive.entries.items()} == {
        "kernel/x86/microcode/a.bin": b"\x01" * 77,
        "init": b"#!/bin/sh",
        "conf/modules": b"new",
    }
    assert len(archive.pieces) == 3


def test_what_is_written_is_what_gnu_cpio_reads(tmp_path: Path) -> None:
    entries = [Entry("a", stat.S_IFDIR | 0o755), Entry("a/b", FILE, b"four"), Entry("a/c", FILE, b"")]
    done = subprocess.run(
        ["cpio", "-idm", "--quiet"],
        input=write_segment(entries),
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a" / "b").read_bytes() == b"four"


def test_paths_lead_through_the_archives_links() -> None:
    link = stat.S_IFLNK | 0o777
    archive = Archive({"lib": Entry("lib", link, b"usr/lib"), "usr/lib": Entry("usr/lib", stat.S_IFDIR)})
    assert archive.resolve("lib/modules/6.1/x.ko") == "usr/lib/modules/6.1/x.ko"
    circle = Archive({"a": Entry("a", link, b"b"), "b": Entry("b", link, b"a")})
    with pytest.raises(CpioError, match="links"):
        circle.resolve("a/x")


@pytest.mark.parametrize("name", [name for name in COMPRESSORS if name != "plain"])
def test_a_bomb_is_refused_before_it_fills_the_memory(name: str) -> None:
    bomb = COMPRESSORS[name](write_segment([Entry("zeroes", FILE, bytes(4 << 20))]))
    with pytest.raises(CpioError, match="more than"):
        read_archive(bomb, limit_bytes=1 << 20)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_torn_archive_is_refused(name: str) -> None:
    whole = COMPRESSORS[name](write_segment([Entry("a", FILE, bytes(range(256)) * 40)]))
    with pytest.raises(CpioError):
        read_archive(whole[: len(whole) // 2])


@given(st.binary(max_size=300))
def test_rubbish_is_an_error_of_ours(data: bytes) -> None:
    try:
        read_archive(b"070701" + data, limit_bytes=1 << 16)
        read_archive(data, limit_bytes=1 << 16)
    except CpioError:
        pass


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}", fullmatch=True), st.binary(max_size=40))
)
def test_what_is_written_is_read_again(files: dict[str, bytes]) -> None:
    archive = read_archive(write_segment(Entry(name, FILE, data) for name, data in files.items()))
    assert {name: bytes(entry.data) for name, entry in archive.entries.items()} == files
