"""Installs a guest's system into a folder, with Debian's own tools and at the host's own speed."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from deploy.dev.artifact import keep
from deploy.dev.guest.guest import Guest, Initramfs
from deploy.dev.layout import digest

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
BASE = (
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "iproute2",
    "netbase",
    "procps",
    "e2fsprogs",
    "zstd",
    "initramfs-tools",
    "linux-image-amd64",
    "open-vm-tools",
)
DOCUMENTATION = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
"""Half an hour of somebody's copying over the years."""
DESKTOP = tuple(
    f"{lib}/modules/*/kernel/{folder}/*"
    for lib in ("/lib", "/usr/lib")
    for folder in (
        "sound",
        "drivers/gpu",
        "drivers/media",
        "drivers/net/wireless",
        "drivers/staging",
        "drivers/infiniband",
        "drivers/iio",
        "drivers/bluetooth",
        "drivers/isdn",
    )
)
"""Drivers that no server of VMware's has a use for, half of the kernel's package."""
INITRAMFS_SWITCH = "/etc/initramfs-tools/update-initramfs.conf"
VIRTIO_FILES = r"virtio|vmw_vsock_virtio"


def make_tree(guest: Guest, root: Path) -> None:
    """Install the guest into a folder that does not exist. Needs root.

    An initramfs that looks at the hardware is left to the machine that has it.
    """
    files = root.parent / "files"
    write_files(files, guest.files)
    hook = root.parent / "install.sh"
    hook.write_text(install_script(guest, shlex.quote(str(files))))
    hook.chmod(0o755)
    print(f"installing {guest.name}", flush=True)
    if guest.whole:
        early = [name for name in guest.files if name.startswith("/etc/initramfs-tools/")]
        first = root.parent / "early"
        write_files(first, {name: guest.files[name] for name in early})
        _bootstrap(guest.suite, root, guest.packages, DOCUMENTATION, hook, essential=first)
        shutil.rmtree(first)
    else:
        base = keep(f"base-{base_key(guest.suite)}", lambda folder: _make_base(guest.suite, folder), "guests")
        unpack = f'tar -C "$1" -xf {shlex.quote(str(base / "base.tar"))}'
        _run("mmdebstrap", "--variant=custom", "--format=directory", f"--setup-hook={unpack}",
             f"--customize-hook={hook}", "", str(root))  # fmt: skip
    write_files(root, guest.files)
    shutil.rmtree(files)
    hook.unlink()


def write_files(root: Path, files: Mapping[str, str]) -> None:
    """Put files into a tree, owned by root, readable by all if they hold no secret of NetworkManager's."""
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(content)
        path.chmod(0o600 if "/system-connections/" in name or "/netplan/" in name else 0o644)


def base_key(suite: str) -> str:
    return f"{suite}-{digest([], suite, *BASE, *DOCUMENTATION, *DESKTOP)}"


def _make_base(suite: str, folder: Path) -> None:
    print(f"installing the base of Debian {suite}", flush=True)
    switch = folder / "switch.sh"
    # Built once, at the end, with the guest's own settings.
    switch.write_text(
        f'#!/bin/sh\nmkdir -p "$1/etc/initramfs-tools"\necho update_initramfs=no >"$1{INITRAMFS_SWITCH}"\n'
    )
    switch.chmod(0o755)
    _bootstrap(suite, folder / "base.tar", BASE, DOCUMENTATION + DESKTOP, switch)
    switch.unlink()


def _bootstrap(
    suite: str,
    target: Path,
    packages: tuple[str, ...],
    without: tuple[str, ...],
    hook: Path,
    essential: Path | None = None,
) -> None:
    """From the mirror that this machine's apt uses."""
    sources = _sources(suite)
    argv = ["mmdebstrap", "--variant=minbase", f"--keyring={KEYRING}", f"--include={','.join(packages)}"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in without]
    if essential:
        argv += [f"--essential-hook=copy-in {essential}/etc /"]
    argv += [f"--customize-hook={hook}", suite, str(target), *(["-"] if sources else [])]
    _run(*argv, stdin=sources)


def _sources(suite: str) -> str:
    """The suite's main component where this machine has Debian from; empty leaves it to mmdebstrap."""
    wanted = ["--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    done = subprocess.run(["apt-get", "indextargets", *wanted], capture_output=True, text=True, check=False)
    lines = sorted({line for line in done.stdout.splitlines() if line.split()[1:2] != []})
    ours = [line.split() for line in lines if line.split()[2] == "main"]
    same = [words for words in ours if words[1].partition("-")[0] == suite]
    if same:
        return "".join(f"deb {' '.join(words)}\n" for words in same)
    archives = {words[0] for words in ours if words[1] in ("bullseye", "bookworm", "trixie")}
    return "".join(f"deb {archive} {suite} main\n" for archive in sorted(archives))


def install_script(guest: Guest, files: str) -> str:
    """What mmdebstrap runs on the root folder, its argument, when /proc and /sys are there.

    `files` is the shell's word for the folder of the guest's own files.
    """
    lines = ["#!/bin/sh", "set -eu", "root=$1", "export DEBIAN_FRONTEND=noninteractive"]
    lines += [f'cp -a {files}/. "$root"/']
    if guest.packages and not guest.whole:
        packages = shlex.join(guest.packages)
        keep = "-o Dpkg::Options::=--force-confold"  # the guest's own files are there before the packages'
        install = f"apt-get -y --no-install-recommends {keep} install {packages}"
        lines += [f'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" {install} --download-only']
        lines += [f'chroot "$root" {install} --no-download']
        lines += [f'cp -a {files}/. "$root"/']
    lines += [f'chroot "$root" systemctl enable {unit}' for unit in guest.units]
    if guest.other_kernel:
        lines += [_OTHER_KERNEL.format(version=guest.other_kernel, virtio=VIRTIO_FILES)]
    if not guest.whole:
        if guest.initramfs is not Initramfs.DRACUT:
            lines += [f'echo update_initramfs=yes >"$root{INITRAMFS_SWITCH}"']
        if guest.initramfs is Initramfs.LIST and not guest.layout.encrypted:
            lines += ['chroot "$root" update-initramfs -c -k all']
    return "\n".join(lines) + "\n"


_OTHER_KERNEL = """\
known=$(ls "$root/lib/modules" | head -n 1)
cp -a "$root/lib/modules/$known" "$root/lib/modules/{version}"
for file in vmlinuz config System.map; do
    cp -a "$root/boot/$file-$known" "$root/boot/$file-{version}"
done
find "$root/lib/modules/{version}/" -name '*.ko*' | grep -E '{virtio}' | xargs rm -f
chroot "$root" depmod {version}
"""


def _run(*argv: str, stdin: str = "") -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    subprocess.run(argv, check=True, env=environment, input=stdin.encode())
