"""What is changed of qemu's arguments for an emulated appliance, and the kernel that is unpacked for it."""

import gzip
import lzma
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from hyperctl.activities.emulated_qemu import (
    QEMU,
    has_pvh_entry,
    payload,
    spared,
    unpacked,
    write_wrapper,
)

KERNELS = "/boot"
"""Of this host, whose newest is the appliance's."""


def elf(note: int = 18, owner: bytes = b"Xen\0") -> bytes:
    """A header, a table of one segment, and two notes in it, of which the first is another's."""
    notes = struct.pack("<III4s5s3x", 4, 5, 18, b"GNU\0", b"\1\2\3\4\5")
    notes += struct.pack("<III4sQ", 4, 8, note, owner, 0x1000000)
    header = b"\x7fELF\x02\x01".ljust(32, b"\0") + struct.pack("<QQIHHH", 64, 0, 0, 64, 56, 1)
    segment = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(notes), len(notes), 4)
    return header.ljust(64, b"\0") + segment + notes


def bzimage(packed: bytes) -> bytes:
    """Two sectors of set-up; its payload comes a little behind the third, with its length behind itself."""
    image = bytearray(3 * 512)
    image[0x1F1] = 2
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 100, len(packed) + 4)
    return bytes(image) + bytes(100) + packed + struct.pack("<I", 1 << 20) + b"code behind it"


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress, zstandard.compress])
def test_a_kernel_is_unpacked_once(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(bzimage(pack(elf())))
    file = unpacked(kernel)
    assert file.read_bytes() == elf()
    before = file.stat().st_ino
    assert unpacked(kernel) == file
    assert file.stat().st_ino == before
    assert sorted(tmp_path.iterdir()) == sorted([kernel, file])
    kernel.write_bytes(bzimage(pack(elf() + b"another")))
    assert unpacked(kernel) != file, "of another kernel"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no kernel" * 1000,
        bzimage(b"packed in an unknown way"),
        bzimage(lzma.compress(elf())[:-20]),
        bzimage(lzma.compress(b"no ELF file")),
        bzimage(lzma.compress(elf()[:-12])),
        bzimage(lzma.compress(elf(note=17))),
        bzimage(lzma.compress(elf(owner=b"GNU\0"))),
    ],
)
def test_what_qemu_could_not_start_stays_as_it_is(content: bytes, tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(content)
    assert unpacked(kernel) == kernel
    assert list(tmp_path.iterdir()) == [kernel]


def test_this_hosts_own_kernel_can_be_unpacked() -> None:
    newest = max(Path(KERNELS).glob("vmlinuz-*"), key=lambda path: path.stat().st_mtime)
    assert has_pvh_entry(payload(newest.read_bytes()))


def test_all_else_of_the_arguments_stays(tmp_path: Path) -> None:
    argv = ["-nodefaults", "-cpu", "max,la57=off", "-m", "1280", "-kernel", "/none", "-append", "a b"]
    changed = [*argv]
    changed[2] = "max,la57=off,erms=off,fsrm=off"
    assert spared(argv) == changed
    assert spared(["-display", "none", "-help"]) == ["-display", "none", "-help"]


def test_it_runs_in_qemus_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = tmp_path / "bin" / QEMU
    qemu.parent.mkdir()
    qemu.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\n')
    qemu.chmod(0o755)
    os.utime(qemu, (1, 1))
    monkeypatch.setenv("PATH", f"{qemu.parent}{os.pathsep}{os.environ['PATH']}")
    wrapper = write_wrapper(tmp_path)
    assert wrapper is not None
    done = subprocess.run([wrapper, "-cpu", "max", "a b"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(qemu), "-cpu", "max,erms=off,fsrm=off", "a b"]
    assert wrapper.stat().st_mtime == 1, "libguestfs asks a newer qemu again what it can do"


def test_without_qemu_there_is_none(tmp_path: Path) -> None:
    assert write_wrapper(tmp_path, "no-such-qemu") is None
