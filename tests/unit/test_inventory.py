"""Reading a machine's properties, judging it, and what errors of the API mean; without a vCenter."""

import http.client
import socket
import ssl
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from hyperctl.activities.plan_source import problems_of, warnings_of
from hyperctl.activities.vsphere.certificate import Endpoint
from hyperctl.activities.vsphere.hardware import SourceMachine, read_hardware
from hyperctl.activities.vsphere.inventory import Properties, plain_name
from hyperctl.activities.vsphere.lease import DeviceUrl, match_urls
from hyperctl.activities.vsphere.listing import Listed, as_read
from hyperctl.activities.vsphere.session import meaning
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.inventory import ToolsState
from hyperctl.workflows.machine import Firmware, MachineDisk

device: Any = vim.vm.device
vim_api: Any = vim
vmodl_api: Any = vmodl


def disk(key: int, controller: int, unit: int, **backing: Any) -> Any:
    backing_type = backing.pop("type", device.VirtualDisk.FlatVer2BackingInfo)
    return device.VirtualDisk(
        key=key,
        controllerKey=controller,
        unitNumber=unit,
        capacityInBytes=key << 20,
        capacityInKB=key << 10,
        deviceInfo=vim_api.Description(label=f"Hard disk {key}", summary=""),
        backing=backing_type(fileName=f"[ds 1] vm/vm_{key}.vmdk", **{"diskMode": "persistent", **backing}),
    )


def nic(kind: Any, key: int, mac: str, backing: Any, *, connected: bool = True, slot: int = 0) -> Any:
    return kind(
        key=key,
        slotInfo=device.VirtualDevice.PciBusSlotInfo(pciSlotNumber=slot) if slot else None,
        macAddress=mac,
        backing=backing,
        deviceInfo=vim_api.Description(label=f"Network adapter {key}", summary=""),
        connectable=device.VirtualDevice.ConnectInfo(
            startConnected=connected, allowGuestControl=True, connected=False
        ),
    )


def address(text: str, prefix: int) -> Any:
    return vim_api.net.IpConfigInfo.IpAddress(ipAddress=text, prefixLength=prefix, state="preferred")


def guest_nic(mac: str, *addresses: Any) -> Any:
    return vim_api.vm.GuestInfo.NicInfo(
        macAddress=mac,
        connected=True,
        deviceConfigId=4000,
        ipConfig=vim_api.net.IpConfigInfo(ipAddress=list(addresses)),
    )


def values(*devices: Any, **changes: Any) -> dict[str, Any]:
    return {
        "name": "web",
        "config.hardware": vim_api.vm.VirtualHardware(
            numCPU=4, numCoresPerSocket=2, memoryMB=2048, device=list(devices)
        ),
        "config.guestId": "debian12_64Guest",
        "runtime.powerState": "poweredOff",
        "config.uuid": "4210",
        **{key.replace("__", "."): value for key, value in changes.items()},
    }


def machine(*devices: Any, **changes: Any) -> SourceMachine:
    return read_hardware(vim_api.VirtualMachine("vm-1"), values(*devices, **changes), NAMES, "DC1")


NAMES = {"host-1": "esxi-01", "dvportgroup-9": "Production", "network-1": "VM Network"}
PVSCSI = device.ParaVirtualSCSIController(key=1000, busNumber=0, sharedBus="noSharing")
LSI = device.VirtualLsiLogicSASController(key=1001, busNumber=1, sharedBus="noSharing")


def test_disks_and_their_controllers() -> None:
    found = machine(
        PVSCSI,
        LSI,
        device.VirtualNVMEController(key=31000, busNumber=0),
        disk(10, 1000, 0, uuid="6000C29f-1a2b-3c4d-5e6f-708192a3b4c5"),
        disk(20, 1001, 3),
        disk(30, 31000, 1),
        disk(40, 999, 0),
    ).machine
    assert [(each.controller, each.controller_bus, each.unit) for each in found.disks] == [
        ("pvscsi", 0, 0),
        ("lsisas", 1, 3),
        ("nvme", 0, 1),
        ("unknown", 0, 0),
    ]
    assert found.disks[0].name == "vm_10.vmdk"
    assert [each.uuid for each in found.disks] == ["6000c29f1a2b3c4d5e6f708192a3b4c5", "", "", ""]
    assert found.capacity_bytes == 100 << 20
    assert (found.vcpus, found.cores_per_socket, found.memory_bytes) == (4, 2, 2 << 30)
    assert found.firmware is Firmware.BIOS
    assert found.allocated_bytes == found.capacity_bytes, "nothing better is known"


def test_allocation_counts_a_disks_whole_chain() -> None:
    layout: Any = vim_api.vm.FileLayoutEx
    files = [
        layout.FileInfo(key=key, name=f"f{key}", type="diskExtent", size=size)
        for key, size in ((1, 1000), (2, 2000), (3, 5 << 40))
    ]
    disks = [layout.DiskLayout(key=10, chain=[layout.DiskUnit(fileKey=[1]), layout.DiskUnit(fileKey=[2])])]
    found = machine(PVSCSI, disk(10, 1000, 0), layoutEx__file=files, layoutEx__disk=disks).machine
    assert found.disks[0].allocated_bytes == 3000
    assert found.allocated_bytes == 3000


def test_adapters_networks_and_addresses() -> None:
    standard = device.VirtualEthernetCard.NetworkBackingInfo(deviceName="VM Network")
    distributed = device.VirtualEthernetCard.DistributedVirtualPortBackingInfo(
        port=vim_api.dvs.PortConnection(switchUuid="x", portgroupKey="dvportgroup-9")
    )
    found = machine(
        nic(device.VirtualVmxnet3, 4000, "00:50:56:AA:00:01", standard, slot=192),
        nic(device.VirtualE1000e, 4001, "00:50:56:aa:00:02", distributed, connected=False, slot=-1),
        guest__net=[
            guest_nic("00:50:56:aa:00:01", address("192.0.2.10", 24), address("fe80::1", 64)),
            guest_nic("00:50:56:AA:00:01", address("2001:db8::10", 64), address("169.254.3.4", 16)),
        ],
        runtime__host=vim_api.HostSystem("host-1"),
    ).machine
    first, second = found.nics
    assert (first.mac, first.adapter, first.network) == ("00:50:56:aa:00:01", "vmxnet3", "VM Network")
    assert first.addresses == ("192.0.2.10/24", "2001:db8::10/64")
    assert (second.adapter, second.network, second.connected) == ("e1000e", "Production", False)
    assert second.addresses == ()
    assert (first.pci_slot, second.pci_slot) == (192, 0)
    assert found.esxi_host == "esxi-01"


def test_efi_with_secure_boot() -> None:
    found = machine(
        config__firmware="efi", config__bootOptions=vim_api.vm.BootOptions(efiSecureBootEnabled=True)
    ).machine
    assert (found.firmware, found.secure_boot) == (Firmware.EFI, True)


@pytest.mark.parametrize(
    ("devices", "changes", "words"),
    [
        ([], {}, "has no disk"),
        ([disk(10, 1000, 0, diskMode="independent_persistent")], {}, "independent disks: Hard disk 10"),
        ([disk(10, 1000, 0, sharing="sharingMultiWriter")], {}, "shares disks"),
        (
            [
                disk(
                    10,
                    1000,
                    0,
                    type=device.VirtualDisk.RawDiskMappingVer1BackingInfo,
                    compatibilityMode="physicalMode",
                )
            ],
            {},
            "physical mode",
        ),
        ([disk(10, 1000, 0, keyId=vim_api.encryption.CryptoKeyId(keyId="k"))], {}, "encrypted"),
        ([disk(10, 1000, 0)], {"config__keyId": vim_api.encryption.CryptoKeyId(keyId="k")}, "encrypted"),
        ([disk(10, 1000, 0)], {"config__template": True}, "template"),
        ([disk(10, 1000, 0)], {"runtime__consolidationNeeded": True}, "consolidation"),
        ([disk(10, 1000, 0)], {"runtime__faultToleranceState": "running"}, "Fault Tolerance"),
        ([disk(10, 1000, 0)], {"runtime__powerState": "poweredOn"}, "powered on"),
        ([disk(10, 1000, 0)], {"runtime__powerState": "suspended"}, "suspended"),
        ([disk(10, 1000, 0)], {"runtime__connectionState": "disconnected"}, "disconnected"),
        ([disk(10, 1000, 0)], {"config__guestId": "freebsd13_64Guest"}, "freebsd13_64Guest"),
        ([disk(10, 1000, 0)], {"config__guestId": "otherGuest64"}, "otherGuest64"),
    ],
)
def test_what_stands_against_a_machine(devices: list[Any], changes: dict[str, Any], words: str) -> None:
    (problem,) = problems_of(machine(PVSCSI, *devices, **changes))
    assert words in problem.message
    assert problem.hint


@pytest.mark.parametrize(
    "guest_id",
    [
        "debian12_64Guest",
        "debian10Guest",
        "ubuntu64Guest",
        "other4xLinux64Guest",
        "windows2022srvNext_64Guest",
    ],
)
def test_supported_guests(guest_id: str) -> None:
    found = machine(PVSCSI, disk(10, 1000, 0), config__guestId=guest_id)
    assert problems_of(found) == ()
    assert bool(warnings_of(found)) == guest_id.startswith("other")


def test_a_tpm_and_silent_nics_are_worth_a_warning() -> None:
    backing = device.VirtualEthernetCard.NetworkBackingInfo(deviceName="VM Network")
    found = machine(
        device.VirtualTPM(key=11000), nic(device.VirtualVmxnet3, 4000, "00:50:56:aa:00:01", backing)
    )
    assert any("TPM" in text for text in warnings_of(found))
    assert any("Network adapter 4000" in text for text in warnings_of(found))


def test_gateways_are_those_of_default_routes() -> None:
    def route(network: str, bits: int, gateway: str | None) -> Any:
        way = vim_api.net.IpRouteConfigInfo.Gateway(ipAddress=gateway, device="0")
        return vim_api.net.IpRouteConfigInfo.IpRoute(network=network, prefixLength=bits, gateway=way)

    routes = [
        *(route("0.0.0.0", 0, "192.0.2.1"), route("192.0.2.0", 24, None), route("0.0.0.0", 1, "192.0.2.9")),
        *(route("::", 0, "fe80::1%eth0"), route("::", 0, "2001:DB8:0::1"), route("0.0.0.0", 0, "192.0.2.1")),
        route("0.0.0.0", 0, "no address"),
    ]
    stack = vim_api.vm.GuestInfo.StackInfo(ipRouteConfig=vim_api.net.IpRouteConfigInfo(ipRoute=routes))
    found = machine(guest__ipStack=[stack, vim_api.vm.GuestInfo.StackInfo()])
    assert found.machine.gateways == ("192.0.2.1", "2001:db8::1")
    assert machine().machine.gateways == ()


def test_what_stays_behind_is_said() -> None:
    def label(text: str) -> Any:
        return vim_api.Description(label=text, summary="")

    backing = device.VirtualEthernetCard.NetworkBackingInfo(deviceName="VM Network")
    found = machine(
        device.VirtualPCIPassthrough(key=13000, deviceInfo=label("PCI device 0")),
        device.VirtualSerialPort(key=9000, deviceInfo=label("Serial port 1")),
        device.VirtualCdrom(key=3000, deviceInfo=label("CD/DVD drive 1")),
        nic(device.VirtualSriovEthernetCard, 4000, "00:50:56:00:00:01", backing, slot=192),
    )
    told = "; ".join(warnings_of(found))
    assert "PCI device 0, Serial port 1" in told
    assert "CD/DVD" not in told
    assert "Network adapter 4000 is a function of a physical adapter" in told


def test_a_machine_in_a_list_without_a_configuration_says_so() -> None:
    listed = Listed(vim_api.VirtualMachine("vm-1"), "web", "DC1", "")
    gone = as_read(listed, Properties(listed.reference, {"runtime.connectionState": "inaccessible"}), NAMES)
    assert gone.source is None
    assert gone.refusal is not None
    assert "web is inaccessible" in gone.refusal.message
    tree = vim_api.vm.SnapshotTree
    facts = values(
        PVSCSI,
        disk(10, 1000, 0),
        snapshot__rootSnapshotList=[tree(childSnapshotList=[tree(), tree()])],
        guest__toolsRunningStatus="guestToolsNotRunning",
        guest__toolsVersionStatus2="guestToolsNotInstalled",
    )
    there = as_read(listed, Properties(listed.reference, facts), NAMES)
    assert (there.snapshots, there.tools) == (3, ToolsState.NOT_INSTALLED)
    assert there.source is not None
    assert there.source.machine.capacity_bytes == 10 << 20


def test_names_as_people_see_them() -> None:
    assert plain_name("a%2fb%5cc%25d%20e") == "a/b\\c%d%20e"


VC = Endpoint("vc.example.com")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            ErrorCode.VCENTER_NAME_UNKNOWN,
            "no such host",
        ),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), ErrorCode.VCENTER_UNREACHABLE, "Temporary"),
        (TimeoutError("timed out"), ErrorCode.VCENTER_UNREACHABLE, "in time"),
        (ConnectionRefusedError(111, "Connection refused"), ErrorCode.VCENTER_UNREACHABLE, "refused"),
        (ssl.SSLError(1, "wrong version number"), ErrorCode.VCENTER_UNREACHABLE, "wrong version"),
        (http.client.HTTPException("503 Service Unavailable"), ErrorCode.VCENTER_UNREACHABLE, "503"),
        (vim_api.fault.InvalidLogin(msg="no"), ErrorCode.AUTHENTICATION_FAILED, "me@vsphere.local"),
        (vim_api.fault.NotAuthenticated(privilegeId="System.View"), ErrorCode.VCENTER_FAULT, "session"),
        (vim_api.fault.NoPermission(privilegeId="VApp.Export"), ErrorCode.PERMISSION_DENIED, "VApp.Export"),
        (vmodl_api.fault.NotSupported(msg="not here"), ErrorCode.VCENTER_FAULT, "not here"),
    ],
)
def test_errors_of_the_api_get_their_codes(error: Exception, code: ErrorCode, words: str) -> None:
    found = meaning(error, VC, "me@vsphere.local")
    assert found.code is code
    assert words in str(found)
    assert "vc.example.com" in str(found)
    assert "(vmodl" not in str(found), "no dump of the object"


def machine_disk(key: int, controller: str, bus: int, unit: int) -> MachineDisk:
    return MachineDisk(
        key=key,
        label="",
        file_name="",
        capacity_bytes=1,
        controller=controller,
        controller_bus=bus,
        unit=unit,
    )


DISKS = (machine_disk(1, "pvscsi", 0, 0), machine_disk(2, "pvscsi", 1, 2), machine_disk(3, "ahci", 0, 0))


def urls(*keys: str) -> list[DeviceUrl]:
    return [DeviceUrl(key, f"https://*/nfc/{key}", "") for key in keys]


def test_device_urls_are_matched_by_their_address() -> None:
    found = match_urls(
        urls(
            "/vm-1/VirtualAHCIController0:0",
            "/vm-1/ParaVirtualSCSIController1:2",
            "/vm-1/ParaVirtualSCSIController0:0",
        ),
        DISKS,
    )
    assert {key: url.key.rsplit("/", 1)[1] for key, url in found.items()} == {
        1: "ParaVirtualSCSIController0:0",
        2: "ParaVirtualSCSIController1:2",
        3: "VirtualAHCIController0:0",
    }


def test_device_urls_without_an_address_are_in_order() -> None:
    found = match_urls(urls("a", "b", "c"), DISKS)
    assert [found[key].key for key in (1, 2, 3)] == ["a", "b", "c"]


def test_a_lease_with_other_disks_is_refused() -> None:
    with pytest.raises(HyperctlError, match=r"offers 2 disk\(s\), the machine has 3"):
        match_urls(urls("a", "b"), DISKS)
