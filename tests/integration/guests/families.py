"""File trees of systems that cannot be installed here, on real filesystems: `python -m ... OUTPUT NAME...`.

Files are as their distributions have them (Red Hat's and SUSE's documentation of each release); kernels'
modules are Debian's own under the version that the release has. The images are made in libguestfs' appliance,
all in one launch: what this host's mkfs makes might be too new for it.
"""

import gzip
import io
import lzma
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import guestfs

from hyperctl.activities.convert.linux.cpio import Entry, padding, write_segment
from hyperctl.activities.convert.linux.kernels import module_name
from hyperctl.activities.convert.linux.selinux import set_label

MIB = 1 << 20
FILE, FOLDER = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755
MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_net", "virtio_scsi", "sd_mod"),
    *("vmw_pvscsi", "vmxnet3", "ext4", "dm-mod"),
)
VMWARES = ("vmw_pvscsi", "sd_mod", "ext4", "dm-mod")
"""What an initramfs that was made on VMware has."""
RPM_DATABASE = "/var/lib/rpm"
EXECUTABLE = re.compile(r"(?:^|/)s?bin/|init\.d/|report\.sh$")

Tree = Mapping[str, bytes]
"""By path without the first slash. A content of `-> TARGET` is a symbolic link; a path that ends with a slash
is a folder."""


@dataclass(frozen=True)
class Family:
    name: str
    size_mib: int
    lay_out: Callable[[guestfs.GuestFS, str], None]
    """Makes partitions and filesystems on a device, and mounts them."""
    tree: Tree
    kernels: tuple[str, ...]
    initramfs: str
    """Its path in the guest, with `{}` for the version."""
    suffix: str = ".ko"
    label: Callable[[str], str] | None = None
    """SELinux' of a path, where the system has labels."""
    has_rpm: bool = False
    """With an empty database of it: this host's own, and what it needs to run."""
    programmes: tuple[str, ...] = ()
    """Of this host, by their paths here and there."""
    lacks: tuple[str, ...] = ()
    """Modules that its kernels do not have yet."""


def make_image(guest: guestfs.GuestFS, family: Family, device: str, archive: Path) -> None:
    """And an archive of what is in it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        write_tree(root, family)
        with tarfile.open(archive, "w") as tar:
            tar.add(root, arcname=".", filter=_owned_by_root)
        family.lay_out(guest, device)
        guest.tar_in(str(archive), "/")
        if family.label:
            for path in sorted(root.rglob("*")):
                name = f"/{path.relative_to(root)}"
                set_label(guest, name, family.label(name))
        guest.umount_all()


def write_tree(root: Path, family: Family) -> None:
    root.mkdir()
    for name, content in family.tree.items():
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if content.startswith(b"-> "):
            path.symlink_to(content[3:].decode())
        elif not name.endswith("/"):
            path.write_bytes(content)
            path.chmod(0o755 if EXECUTABLE.search(name) else 0o644)
    write_programmes(root, *family.programmes)
    if family.has_rpm:
        write_programmes(root, "/usr/bin/rpm", "/usr/bin/env", "/bin/sh")
        shutil.copytree("/usr/lib/rpm", root / "usr" / "lib" / "rpm", symlinks=True)
        argv = ["rpm", "--root", str(root), "--dbpath", RPM_DATABASE, "--initdb"]
        subprocess.run(argv, check=True, timeout=60, capture_output=True)
        (root / "etc" / "rpm").mkdir()
        (root / "etc" / "rpm" / "macros").write_text(f"%_dbpath {RPM_DATABASE}\n")
    for version in family.kernels:
        folder = root / "lib" / "modules" / version
        write_modules(folder, family)
        subprocess.run(["/sbin/depmod", "-b", str(root), version], check=True, timeout=60)
        image = root / family.initramfs.format(version).lstrip("/")
        image.write_bytes(initramfs(folder, version))
        (image.parent / f"vmlinuz-{version}").write_bytes(b"a kernel that nobody boots")


def write_programmes(root: Path, *paths: str) -> None:
    """Programmes of this host, with the libraries that they load."""
    wanted = set(paths)
    for path in paths:
        listed = subprocess.run(["ldd", path], check=True, capture_output=True, text=True, timeout=30).stdout
        wanted |= set(re.findall(r"(/\S+) \(0x", listed))
    for path in wanted:
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


AGENT_SPECIFICATION = """\
Name: qemu-guest-agent
Epoch: 15
Version: {version}
Release: 1.{release}
Summary: QEMU guest agent
License: GPL-2.0
Requires: {requires}
AutoReqProv: no
%description
None.
%install
mkdir -p %{{buildroot}}/usr/bin %{{buildroot}}/usr/lib/systemd/system
echo agent > %{{buildroot}}/usr/bin/qemu-ga
printf '[Service]\\nExecStart=/usr/bin/qemu-ga\\n[Install]\\nWantedBy=multi-user.target\\n' \\
    > %{{buildroot}}/usr/lib/systemd/system/qemu-guest-agent.service
%files
/usr/bin/qemu-ga
/usr/lib/systemd/system/qemu-guest-agent.service
"""
LIBRARY_SPECIFICATION = """\
Name: liburing
Version: 2.3
Release: 1.el8
Summary: A library
License: LGPL-2.1
Provides: liburing.so.2()(64bit)
BuildArch: noarch
AutoReqProv: no
%description
None.
%install
mkdir -p %{buildroot}/usr/share/liburing
echo library > %{buildroot}/usr/share/liburing/library
%files
/usr/share/liburing
"""


def make_rpms(folder: Path) -> None:
    """An agent of two releases and what the older depends on, by rpmbuild."""
    folder.mkdir()
    older = AGENT_SPECIFICATION.format(version="6.2.0", release="el8", requires="liburing.so.2()(64bit)")
    newer = AGENT_SPECIFICATION.format(
        version="9.0.0", release="el9", requires="libc.so.6(GLIBC_2.34)(64bit)"
    )
    with tempfile.TemporaryDirectory() as top:
        for number, content in enumerate((older, newer, LIBRARY_SPECIFICATION)):
            specification = Path(top) / f"{number}.spec"
            specification.write_text(content)
            places = {"_rpmdir": folder, "_topdir": top, "_build_id_links": "none"}
            definitions = [word for name in places for word in ("--define", f"{name} {places[name]}")]
            argv = ["rpmbuild", "-bb", *definitions, str(specification)]
            subprocess.run(argv, check=True, capture_output=True, timeout=120)


def write_modules(folder: Path, family: Family) -> None:
    """Debian's modules and what they depend on, packed as the suffix says."""
    source = max(Path("/lib/modules").glob("*/modules.dep"), key=lambda path: path.stat().st_mtime).parent
    needed = {}
    for line in (source / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needed[module_name(path)] = (path, *others.split())
    names = [name.replace("-", "_") for name in MODULES if name not in family.lacks]
    files = {path for name in names for path in needed.get(name, ())}
    for path in sorted(files):
        target = folder / re.sub(r"\.ko.*", family.suffix, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(packed(source / path, family.suffix))
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(source / name, folder / name)


@cache
def packed(module: Path, suffix: str) -> bytes:
    content = module.read_bytes()
    if module.suffix == ".xz":
        content = lzma.decompress(content)
    return lzma.compress(content, check=lzma.CHECK_CRC32, preset=0) if suffix == ".ko.xz" else content


def initramfs(folder: Path, version: str) -> bytes:
    """Microcode in front, then an archive of gzip with VMware's drivers."""
    base = f"lib/modules/{version}"
    entries = {"init": Entry("init", stat.S_IFREG | 0o755, b"#!/bin/sh\n")}
    for path in sorted(folder.rglob("*.ko*")):
        if module_name(path.name) in {module_name(f"{name}.ko") for name in VMWARES}:
            name = f"{base}/{path.relative_to(folder)}"
            entries[name] = Entry(name, FILE, path.read_bytes())
    folders = {"/".join(name.split("/")[:at]) for name in entries for at in range(1, name.count("/") + 1)}
    early = write_segment([Entry("early_cpio", FILE, b"1\n")])
    main = write_segment([*(Entry(one, FOLDER) for one in sorted(folders)), *entries.values()])
    return early + padding(len(early)) + gzip.compress(main, mtime=0)


def files_in(archive: Path) -> dict[str, bytes]:
    """Every file and link of a guest as tar has it, in the form of `Tree`."""
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if member.issym():
                found[name] = b"-> " + member.linkname.encode()
            elif member.isfile():
                file = tar.extractfile(member)
                found[name] = (file or io.BytesIO()).read()
    return found


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def main(output: Path, names: list[str]) -> None:
    from tests.integration.guests.family_trees import FAMILIES

    make_rpms(output / "rpms")
    guest = guestfs.GuestFS(python_return_dict=True)
    for name in names:
        image = output / f"{name}.raw"
        with image.open("wb") as file:
            file.truncate(FAMILIES[name].size_mib * MIB)
        guest.add_drive_opts(str(image), format="raw", cachemode="unsafe", discard="besteffort")
    guest.launch()
    for name, device in zip(names, guest.list_devices(), strict=True):
        make_image(guest, FAMILIES[name], device, output / f"{name}.tar")
    guest.shutdown()
    guest.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
