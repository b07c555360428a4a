"""The command lines of NBD servers: golden files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hyperctl.activities.nbd.command import VddkDisk, image_command, vddk_command
from hyperctl.activities.nbd.server import Place

PLACE = Place(Path("/tmp/hyperctl-nbd-x/socket"), Path("/tmp/hyperctl-nbd-x/pid"))
VDDK = VddkDisk(
    library_dir=Path("/opt/vmware-vix-disklib-distrib"),
    server="vcenter.example.com",
    port=443,
    user="administrator@vsphere.local",
    password_file=Path("/proc/self/fd/7"),
    thumbprint="AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD",
    machine="vm-42",
    file="[datastore1] web server/web server_1.vmdk",
)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("vddk", vddk_command(PLACE, VDDK)),
        ("vddk-snapshot", vddk_command(PLACE, replace(VDDK, snapshot="snapshot-7", transports="san:nbdssl"))),
        ("qcow2", image_command(PLACE, Path("/srv/disk.qcow2"), "qcow2", direct=True)),
        ("vmdk", image_command(PLACE, Path("/srv/disk.vmdk"), "vmdk")),
    ],
)
def test_a_command_line_is_the_golden_one(
    golden: Callable[[str, str], None], name: str, command: tuple[str, ...]
) -> None:
    golden(f"nbd-{name}.argv", "\n".join(command) + "\n")
