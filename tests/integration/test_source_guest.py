"""The source guest boots on VMware's hardware; `test_prove` shows that it does not on KVM's.

It boots once for each image that was built.
"""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.dev.layout import ROOT
from deploy.dev.prepare import load_parts
from hyperctl.activities.acceleration import libguestfs_environment, probe_acceleration
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.overlay import create_overlay
from hyperctl.activities.process import run
from hyperctl.activities.prove.inject import Injection
from hyperctl.activities.prove.report import reports_in
from hyperctl.activities.prove.reporter import PORT_NAME
from hyperctl.workflows.status import Phase
from tests.found_out import is_known, name_of, remember

GUEST = "web-server-01"
MAC = "00:50:56:aa:bb:01"
VMWARE = [
    *("-device", "pvscsi,id=scsi0", "-device", "scsi-hd,bus=scsi0.0,drive=disk"),
    # The number of a slot with native hotplug is what makes the name ens192, as on VMware.
    *("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"),
    *("-device", "pcie-root-port,id=slot192,chassis=1,slot=192"),
    *("-device", f"vmxnet3,bus=slot192,netdev=net,mac={MAC}"),
]
BOOT_SECONDS = 300.0


def overlay_of(disk: Path, folder: Path) -> Path:
    """Over the guest's disk, with the reporter and a serial console in it."""
    path = folder / "overlay.qcow2"
    attempt = Attempt(Phase.PROVE, logging.getLogger("test"))
    create_overlay(path, str(disk), "raw", attempt)
    run(
        [sys.executable, "-m", "hyperctl.activities.prove.inject"],
        attempt,
        timeout_seconds=300,
        stdin=Injection(disks=(str(path),)).model_dump_json().encode(),
        environment=libguestfs_environment(),
    )
    return path


@contextmanager
def booted(overlay: Path, hardware: list[str]) -> Iterator[tuple[Path, Path]]:
    """The guest on some hardware, cut off from every network; its serial log and its report."""
    serial, report = overlay.with_name("serial.log"), overlay.with_name("report.txt")
    argv = [
        "qemu-system-x86_64",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-m",
        "1024",
        "-smp",
        "2",
    ]
    argv += ["-machine", f"q35,accel={probe_acceleration()}", "-cpu", "max,la57=off,erms=off", "-vga", "std"]
    argv += ["-drive", f"id=disk,if=none,format=qcow2,cache=unsafe,file={overlay}", *hardware]
    argv += ["-netdev", "hubport,id=net,hubid=0", "-chardev", f"file,id=serial,path={serial}"]
    argv += ["-device", "isa-serial,chardev=serial", "-device", "virtio-serial-pci"]
    argv += ["-chardev", f"file,id=report,path={report}"]
    argv += ["-device", f"virtserialport,chardev=report,name={PORT_NAME}"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield serial, report
        assert process.poll() is None, process.communicate()[1].decode()
    finally:
        process.kill()
        process.wait()


def text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


@pytest.mark.timeout(600)
def test_it_boots_on_vmwares_hardware_with_its_network(tmp_path: Path) -> None:
    disk = load_parts().guests / GUEST / "disk1.raw"
    fact = name_of("boots-on-vmware", [disk], [Path(__file__), *(ROOT / "activities/prove").glob("*.py")])
    if is_known(fact):
        return
    with booted(overlay_of(disk, tmp_path), VMWARE) as (serial, report):
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            reports = [found for found in reports_in(text(report)) if found.full and found.multi_user]
            if reports:
                break
            time.sleep(1)
        else:
            pytest.fail(text(serial)[-2000:])
    last = reports[-1]
    assert last.addresses["ens192"] == ("192.0.2.10/24",)
    assert {"/", "/boot", "/srv"} <= last.mounts.keys()
    assert last.failed_units == ()
    remember(fact)


def test_its_facts_are_those_of_a_guest_on_vmware() -> None:
    folder = load_parts().guests / GUEST
    facts = json.loads((folder / "guest.json").read_text())
    assert facts["scsi"] == "pvscsi"
    assert [nic["adapter"] for nic in facts["nics"]] == ["vmxnet3"]
    assert (folder / "disk1.raw").stat().st_size == 4 << 30
    assert (folder / "disk1.vmdk").read_bytes()[-512:] == bytes(512)
