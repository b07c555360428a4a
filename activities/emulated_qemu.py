"""qemu in libguestfs' hands on a host without KVM, spared what costs an emulated appliance most.

A kernel unpacks itself before it does anything else; here this host does it, once for each appliance that is
built. And where `rep stosb` is said to be fast, Linux clears its pages with it, byte by byte in emulation.

libguestfs runs the script of `write_wrapper` in qemu's place (guestfs(3), "QEMU WRAPPERS"), and that this
module. Formats: The Linux/x86 Boot Protocol; ELF notes as Xen's public/elfnote.h has them, by whose last one
qemu starts an unpacked kernel.
"""

import hashlib
import lzma
import os
import shlex
import shutil
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard

QEMU = "qemu-system-x86_64"
SLOW_FEATURES = ("erms", "fsrm")

_SETUP_SECTORS, _MAGIC, _PAYLOAD = 0x1F1, 0x202, 0x248
_SECTOR_BYTES = 512
_DECOMPRESSORS: Mapping[bytes, Callable[[], Any]] = {
    b"\xfd7zXZ\0": lzma.LZMADecompressor,
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"\x28\xb5\x2f\xfd": lambda: zstandard.ZstdDecompressor().decompressobj(),
}
_ELF = b"\x7fELF\x02\x01"
_NOTE_SEGMENT = 4
_XEN, _PVH_ENTRY = b"Xen\0", 18


def write_wrapper(folder: Path, qemu: str = QEMU) -> Path | None:
    """A script in qemu's place; None where it could not be run, or there is no qemu.

    libguestfs remembers what a qemu can do by its file's time, so the script has that of qemu's own.
    """
    found = shutil.which(qemu)
    if found is None or os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return None
    script = folder / "qemu"
    argv = shlex.join([sys.executable, "-I", "-m", __name__, found])
    script.write_text(f'#!/bin/sh\nexec {argv} "$@"\n')
    script.chmod(0o700)
    status = os.stat(found)
    os.utime(script, ns=(status.st_atime_ns, status.st_mtime_ns))
    return script


def spared(argv: Sequence[str]) -> list[str]:
    """qemu's arguments as libguestfs has them, with a processor and a kernel that emulate well."""
    result = list(argv)
    for at in range(1, len(result)):
        if result[at - 1] == "-cpu":
            result[at] = ",".join([result[at], *(f"{name}=off" for name in SLOW_FEATURES)])
        elif result[at - 1] == "-kernel":
            result[at] = str(unpacked(Path(result[at])))
    return result


def unpacked(kernel: Path) -> Path:
    """The kernel as an ELF file beside it, made where there is none; itself where that cannot be."""
    try:
        content = kernel.read_bytes()
        file = kernel.with_name(f"{kernel.name}.{hashlib.sha256(content).hexdigest()[:16]}.elf")
        if not file.exists():
            _write(file, payload(content))
    except (OSError, ValueError):
        return kernel
    return file


def payload(content: bytes) -> bytes:
    """The ELF file in a bzImage. Raises `ValueError` for one that is not known, or that qemu cannot start."""
    if content[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise ValueError("no bzImage")
    offset, size = struct.unpack_from("<II", content, _PAYLOAD)
    start = ((content[_SETUP_SECTORS] or 4) + 1) * _SECTOR_BYTES + offset
    packed = content[start : start + size]
    make = next((make for magic, make in _DECOMPRESSORS.items() if packed.startswith(magic)), None)
    if make is None:
        raise ValueError("packed in an unknown way")
    decompressor = make()
    try:
        elf: bytes = decompressor.decompress(packed)
    except (lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
        raise ValueError(f"damaged: {error}") from error
    if not decompressor.eof or not has_pvh_entry(elf):
        raise ValueError("cut off, or without an entry for qemu")
    return elf


def has_pvh_entry(elf: bytes) -> bool:
    """Whether a note says where a hypervisor begins (`XEN_ELFNOTE_PHYS32_ENTRY`)."""
    if not elf.startswith(_ELF):
        return False
    try:
        (table,) = struct.unpack_from("<Q", elf, 32)
        size, count = struct.unpack_from("<HH", elf, 54)
        for at in range(table, table + size * count, size):
            kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", elf, at)
            if kind == _NOTE_SEGMENT and _has_note(elf[offset : offset + length]):
                return True
    except struct.error:
        pass
    return False


def _has_note(notes: bytes) -> bool:
    at = 0
    while at + 12 <= len(notes):
        name, description, kind = struct.unpack_from("<III", notes, at)
        if kind == _PVH_ENTRY and notes[at + 12 : at + 12 + name] == _XEN:
            return True
        at += 12 + name + -name % 4 + description + -description % 4
    return False


def _write(file: Path, content: bytes) -> None:
    """In one step, since several appliances may start at once."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".unpacked-")
    try:
        with open(descriptor, "wb") as opened:
            opened.write(content)
        os.chmod(name, 0o644)
        os.rename(name, file)
    except BaseException:
        os.unlink(name)
        raise


def main() -> None:
    qemu, *arguments = sys.argv[1:]
    os.execv(qemu, [qemu, *spared(arguments)])


if __name__ == "__main__":
    main()
