"""Builds source guests: `python -m deploy.dev.guest.build [NAME ...] --cache | --output DIR`.

The last line it prints is a folder with one folder a guest, as the simulated vCenter loads it. Needs root
(mmdebstrap installs a system), and the project's environment.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.dev.artifact import keep
from deploy.dev.guest.guest import Guest
from deploy.dev.guest.matrix import ALL, FAST
from deploy.dev.guest.place import SHELF, build_name
from deploy.dev.guest.recipe import DEMO
from deploy.dev.guest.selinux import SELINUX
from deploy.dev.guest.shape import make_disks
from deploy.dev.guest.sysvinit import SYSVINIT
from deploy.dev.guest.tree import make_tree


def make_guest(guest: Guest) -> Path:
    """Build it where it has not been built; returns the folder that holds its own."""
    return keep(build_name(guest), lambda folder: build_guest(guest, folder), SHELF)


def build_guest(guest: Guest, folder: Path) -> None:
    """Build a guest into `FOLDER/NAME`: disk1.raw ..., guest.json, NAME.key for an encrypted volume's key."""
    if os.geteuid() != 0:
        raise PermissionError("a source guest is installed by mmdebstrap, which needs root")
    own = folder / guest.name
    own.mkdir()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tree.") as temporary:
        root = Path(temporary) / "root"
        make_tree(guest, root)
        make_disks(guest, root, own)
    for volume in guest.layout.encrypted:
        key = own / f"{volume.name}.key"
        key.touch(mode=0o600)
        key.write_bytes(volume.key)
    if guest.exported:
        for disk in sorted(own.glob("*.raw")):
            _make_stream(disk, disk.with_suffix(".vmdk"))
    (own / "guest.json").write_text(json.dumps(guest.facts, indent=2) + "\n")


def _make_stream(disk: Path, stream: Path) -> None:
    """The disk as ESXi streams it."""
    print("streamOptimized VMDK", flush=True)
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]
    subprocess.run([*argv, str(disk), str(stream)], check=True)
    with stream.open("ab") as file:
        file.write(bytes(512))  # qemu-img leaves the end-of-stream marker out where its padding is none


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.dev.guest.build", description=__doc__)
    every = (*ALL, SYSVINIT, SELINUX)
    groups = {"fast": FAST, "all": (*ALL, SYSVINIT), **{guest.name: (guest,) for guest in every}}
    parser.add_argument("names", nargs="*", help=f"of {', '.join(groups)}; the demo's when none is given")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--cache", action="store_true", help="build into the cache, if it is not there")
    where.add_argument("--output", type=Path, help="build into this folder, which must not exist")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.names) - groups.keys())
    if unknown:
        parser.error(f"there is no guest {', '.join(unknown)}; there are {', '.join(groups)}")
    guests = [guest for name in given.names for guest in groups[name]] or [DEMO]
    if given.cache:
        for guest in guests:
            print(make_guest(guest), flush=True)
        return 0
    given.output.mkdir(parents=True)
    for guest in guests:
        build_guest(guest, given.output)
    print(given.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
