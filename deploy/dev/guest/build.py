"""Builds the source guest: `python -m deploy.dev.guest.build --cache | --output DIR`.

The last line it prints is a folder with one folder a guest, as the simulated vCenter loads it. Needs root
(mmdebstrap installs a system), and the project's environment.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.dev.artifact import keep
from deploy.dev.guest.place import SHELF, build_name
from deploy.dev.guest.recipe import FACTS, INITRAMFS, KEYRING, NAME, PACKAGES, SUITE, WITHOUT
from deploy.dev.guest.shape import make_disk, write_files


def make_guests() -> Path:
    """Build them where they have not been built."""
    return keep(build_name(), build_guests, SHELF)


def build_guests(folder: Path) -> None:
    """Build the guest into `FOLDER/web-server-01`: disk1.raw, disk1.vmdk, guest.json."""
    if os.geteuid() != 0:
        raise PermissionError("the source guest is installed by mmdebstrap, which needs root")
    guest = folder / NAME
    guest.mkdir()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tree.") as temporary:
        root = Path(temporary) / "root"
        _install(root)
        make_disk(root, guest / "disk1.raw")
    _make_stream(guest / "disk1.raw", guest / "disk1.vmdk")
    (guest / "guest.json").write_text(json.dumps(FACTS, indent=2) + "\n")


def _install(root: Path) -> None:
    """Install Debian into a folder, from the mirror that this machine's apt uses."""
    print(f"installing Debian {SUITE} with mmdebstrap", flush=True)
    files = root.parent / "files"
    write_files(files, INITRAMFS)
    argv = ["mmdebstrap", "--variant=minbase", "--format=directory", f"--keyring={KEYRING}"]
    argv += [f"--include={','.join(PACKAGES)}"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in WITHOUT]
    argv += [f"--essential-hook=copy-in {files}/etc/initramfs-tools /etc"]
    sources = _sources()
    argv += [SUITE, str(root), *(["-"] if sources else [])]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    subprocess.run(argv, check=True, env=environment, input=sources.encode())
    shutil.rmtree(files)


def _sources() -> str:
    """This machine's own sources for the suite; empty leaves the choice to mmdebstrap."""
    wanted = ["--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    done = subprocess.run(["apt-get", "indextargets", *wanted], capture_output=True, text=True, check=False)
    lines = sorted({line for line in done.stdout.splitlines() if line.split()[1:2] != []})
    ours = [line for line in lines if line.split()[1].partition("-")[0] == SUITE]
    return "".join(f"deb {line}\n" for line in ours if line.split()[2] == "main")


def _make_stream(disk: Path, stream: Path) -> None:
    """The disk as ESXi streams it."""
    print("streamOptimized VMDK", flush=True)
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]
    subprocess.run([*argv, str(disk), str(stream)], check=True)
    with stream.open("ab") as file:
        file.write(bytes(512))  # qemu-img leaves the end-of-stream marker out where its padding is none


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.dev.guest.build", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--cache", action="store_true", help="build into the cache, if it is not there")
    where.add_argument("--output", type=Path, help="build into this folder, which must not exist")
    given = parser.parse_args(arguments)
    if given.cache:
        print(make_guests())
        return 0
    given.output.mkdir(parents=True)
    build_guests(given.output)
    print(given.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
