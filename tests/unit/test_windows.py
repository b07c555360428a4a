"""Windows guests, as far as no appliance is needed: virt-v2v's command line, drivers, addresses, parts."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperctl.activities.convert.windows.addresses import (
    StaticInterface,
    keep_addresses,
    static_interface,
)
from hyperctl.activities.convert.windows.command import conversion_command, source_xml
from hyperctl.activities.convert.windows.drivers import WindowsRelease, drivers_for
from hyperctl.activities.convert.windows.found import StaticAddress, WindowsFound
from hyperctl.activities.convert.windows.parts import WindowsParts
from hyperctl.activities.settings import HostSettings
from hyperctl.workflows.hardware import DiskBus, Hardware, NicModel
from tests.unit.machines import machine, nic

FOUND = WindowsFound(
    root="/dev/sda2",
    system_root="/Windows",
    system_hive="/Windows/System32/config/SYSTEM",
    software_hive="/Windows/System32/config/SOFTWARE",
    control_set="ControlSet001",
)
ADDRESSES = (
    StaticAddress(
        mac="00:50:56:aa:bb:01",
        address="192.0.2.10",
        prefix_length=24,
        gateway="192.0.2.1",
        name_servers=("192.0.2.53", "192.0.2.54"),
    ),
    StaticAddress(mac="00:50:56:aa:bb:02", address="198.51.100.7", prefix_length=28, gateway="198.51.100.1"),
)
COMMANDS = {
    "windows-dhcp": conversion_command(FOUND),
    "windows-static": conversion_command(FOUND.model_copy(update={"addresses": ADDRESSES})),
    "windows-scsi": conversion_command(FOUND, block_driver="virtio-scsi"),
}
WITHOUT = Hardware(disk_bus=DiskBus.SATA, nic_model=NicModel.E1000E)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_line(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"{name}.argv", "\n".join(COMMANDS[name]) + "\n")


def test_the_disks_are_given_together_and_in_order() -> None:
    overlays = ["/srv/a & b/disk1.overlay.qcow2", "/srv/a & b/disk2.overlay.qcow2"]
    domain = ET.fromstring(source_xml('win <"01">', overlays))
    assert domain.findtext("name") == 'win <"01">'
    assert [source.get("file") for source in domain.iterfind("devices/disk/source")] == overlays
    assert {driver.get("type") for driver in domain.iterfind("devices/disk/driver")} == {"qcow2"}


@pytest.mark.parametrize(
    ("release", "folder"),
    [
        (WindowsRelease(10, 0, "Server", "win2k19", "x86_64"), "2k19/amd64"),
        (WindowsRelease(10, 0, "Client", "win11", "x86_64"), "w11/amd64"),
        (WindowsRelease(6, 1, "Client", "win7", "i386"), "w7/x86"),
        (WindowsRelease(6, 1, "Server", "win2k8r2", "x86_64"), "2k8R2/amd64"),
        (WindowsRelease(6, 3, "Server", "win2k12r2", "x86_64"), "2k12R2/amd64"),
        (WindowsRelease(5, 2, "unknown", "win2k3", "i386"), "2k3/x86"),
        (WindowsRelease(5, 1, "unknown", "winxp", "i386"), "xp/x86"),
    ],
)
def test_drivers_are_those_of_the_release(release: WindowsRelease, folder: str) -> None:
    others = ["2k19/ARM64", "w10/amd64", "w8/amd64", "2k8/x86", "w11/x86", "2k12/amd64"]
    files = [f"viostor/{other}/other.sys" for other in others] + [f"viostor/{folder}/VioStor.SYS"]
    assert drivers_for(release, files) == {"viostor.sys"}


def test_a_release_that_is_not_known_is_not_judged() -> None:
    assert (
        drivers_for(WindowsRelease(10, 0, "Server", "win2k25", "x86_64"), ["viostor/2k25/amd64/a.sys"])
        is None
    )


def test_an_address_goes_to_the_adapter_that_had_it() -> None:
    nics = (nic(1, addresses=("192.0.2.10/24", "2001:db8::1/64")), nic(2, addresses=("198.51.100.7/28",)))
    storage = StaticInterface(("198.51.100.7/28",), "198.51.100.1")
    front = StaticInterface(("192.0.2.10/24",), "192.0.2.1", ("192.0.2.53", "192.0.2.54"))
    kept, warnings = keep_addresses((storage, front), nics)
    assert {one.mac: one for one in kept} == {one.mac: one for one in ADDRESSES}
    assert warnings == ()


def test_what_cannot_be_kept_is_said() -> None:
    nics = (nic(1, addresses=("192.0.2.10/24",)), nic(2, addresses=("198.51.100.7/28",)))
    gone = StaticInterface(("203.0.113.5/24",), "203.0.113.1")
    alone = StaticInterface(("198.51.100.7/28",))
    several = StaticInterface(("192.0.2.10/24", "192.0.2.11/24"), "192.0.2.1")
    kept, warnings = keep_addresses((gone, alone, several), nics)
    assert [one.address for one in kept] == ["192.0.2.10"]
    for words, warning in zip(
        (
            "203.0.113.5/24 is of no adapter",
            "198.51.100.7/28 of Network adapter 2 has no gateway",
            "192.0.2.11/24",
        ),
        warnings,
        strict=True,
    ):
        assert words in warning


def test_the_only_one_belongs_to_the_only_adapter() -> None:
    interface = StaticInterface(("192.0.2.10/24",), "192.0.2.1")
    (kept,), warnings = keep_addresses((interface,), (nic(1, addresses=()),))
    assert (kept.mac, warnings) == ("00:50:56:aa:bb:01", ())
    assert keep_addresses((interface,), (nic(1, addresses=("192.0.2.99/24",)),))[0] == ()
    assert keep_addresses((interface,), (nic(1, addresses=()), nic(2, addresses=())))[0] == ()


def test_what_the_registry_holds_is_read_with_care() -> None:
    read = static_interface(
        ["0.0.0.0", "192.0.2.10", "$(calc)", "192.0.2.11"],
        ["255.0.0.0", "255.255.255.0", "255.0.0.0", "0.255.0.0"],
        ["", "192.0.2.1"],
        "192.0.2.53, 192.0.2.54 --root",
    )
    assert read == StaticInterface(("192.0.2.10/24",), "192.0.2.1", ("192.0.2.53", "192.0.2.54"))
    assert static_interface([], ["255.0.0.0"], [], "") is None


@given(st.lists(st.text()), st.lists(st.text()), st.lists(st.text()), st.text())
def test_no_registry_gives_more_than_addresses(
    addresses: list[str], masks: list[str], gateways: list[str], servers: str
) -> None:
    masks += ["255.255.255.0"] * len(addresses)
    read = static_interface(addresses, masks, gateways, servers)
    for text in (*read.addresses, read.gateway, *read.name_servers) if read else ():
        assert re.fullmatch(r"([0-9.]+(/[0-9]+)?)?", text)


def test_what_a_host_lacks_is_told_at_once(tmp_path: Path) -> None:
    nothing = WindowsParts(tools_dir=tmp_path)
    messages = " ".join(one.message for one in nothing.missing(Hardware()))
    assert "no rhsrvany.exe" in messages
    assert "no VirtIO drivers" in messages
    (tmp_path / "rhsrvany.exe").touch()
    assert not [one for one in nothing.missing(WITHOUT) if "virt-v2v-in-place" not in one.message]
    gone = WindowsParts(virtio_win=tmp_path / "virtio-win.iso", tools_dir=tmp_path)
    (message,) = (one.message for one in gone.missing(Hardware()) if "virt-v2v-in-place" not in one.message)
    assert f"at {tmp_path}/virtio-win.iso" in message


def test_what_is_set_wins(tmp_path: Path) -> None:
    parts = WindowsParts.of(HostSettings(virtio_win=tmp_path, virt_tools_dir=tmp_path / "tools"))
    assert parts.environment == {"VIRTIO_WIN": str(tmp_path), "VIRT_TOOLS_DATA_DIR": str(tmp_path / "tools")}


@pytest.mark.parametrize(
    ("guest_id", "full_name", "expected"),
    [
        ("windows2019srvNext_64Guest", "", True),
        ("winNetEnterpriseGuest", "", True),
        ("otherGuest64", "Windows 10 (64-bit)", True),
        ("otherGuest64", "Microsoft Windows Server 2022", True),
        ("debian12_64Guest", "Debian GNU/Linux 12 (64-bit)", False),
        ("otherGuest64", "Windowmaker Linux", False),
    ],
)
def test_a_machine_that_runs_windows(guest_id: str, full_name: str, expected: bool) -> None:
    assert machine(guest_id=guest_id, guest_full_name=full_name).runs_windows is expected
