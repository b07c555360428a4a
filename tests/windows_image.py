"""A disk with just enough of a Windows system for libguestfs and virt-v2v to take it for one.

`python -m tests.windows_image IMAGE...` makes all of the given raw images in one appliance; one whose name
begins with `hibernated` holds a suspended system. No part of Windows is in them. Registry hives follow
https://github.com/msuhanov/regf, programmes the PE format's headers.
"""

import struct
import sys
from pathlib import Path

import guestfs

SIZE_BYTES = 320 << 20
SYSTEM_PARTITION_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
DATA_PARTITION_TYPE = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
ROOT = "/dev/sda2"
SYSTEM_HIVE = "/Windows/System32/config/SYSTEM"
SOFTWARE_HIVE = "/Windows/System32/config/SOFTWARE"
SERVICES = ("ControlSet001", "Services")
STATIC_ADDRESS = "192.0.2.10"
REG_SZ, REG_EXPAND_SZ, REG_DWORD, REG_MULTI_SZ = 1, 2, 4, 7
NO_CELL = 0xFFFFFFFF
PAGE = 4096
Value = tuple[int, bytes]


def empty_hive() -> bytes:
    """A registry hive with a root key alone."""
    name, first = b"ROOT", 32
    descriptor = struct.pack("<BBHIIII", 1, 0, 0x8000, 0, 0, 0, 0)
    security_at = first + len(_cell(_root_key(name, 0)))
    security = struct.pack("<2sHIIII", b"sk", 0, security_at, security_at, 1, len(descriptor)) + descriptor
    cells = _cell(_root_key(name, security_at)) + _cell(security)
    free = PAGE - 32 - len(cells)
    page = struct.pack("<4sIIQQI", b"hbin", 0, PAGE, 0, 0, 0) + cells + struct.pack("<i", free)
    head = struct.pack("<4sIIQIIIIIII", b"regf", 1, 1, 0, 1, 3, 0, 1, first, PAGE, 1).ljust(508, b"\0")
    checksum = 0
    for (word,) in struct.iter_unpack("<I", head):
        checksum ^= word
    return (head + struct.pack("<I", checksum)).ljust(PAGE, b"\0") + page.ljust(PAGE, b"\0")


def _root_key(name: bytes, security_at: int) -> bytes:
    fields = struct.pack("<2sHQII", b"nk", 0x2C, 0, 0, 0)
    fields += struct.pack("<IIIIII", 0, 0, NO_CELL, NO_CELL, 0, NO_CELL)
    return fields + struct.pack("<II5IHH", security_at, NO_CELL, *([0] * 5), len(name), 0) + name


def _cell(content: bytes) -> bytes:
    size = (len(content) + 4 + 7) // 8 * 8
    return struct.pack("<i", -size) + content.ljust(size - 4, b"\0")


def programme() -> bytes:
    """The headers of a 64-bit console programme."""
    file = bytearray(1024)
    struct.pack_into("<2s58xI", file, 0, b"MZ", 128)
    struct.pack_into("<4sHH12xHH", file, 128, b"PE\0\0", 0x8664, 1, 240, 0x22)
    struct.pack_into("<H66xH", file, 152, 0x20B, 3)
    return bytes(file)


def text(*strings: str, kind: int = REG_SZ) -> Value:
    return kind, "".join(f"{one}\0" for one in strings).encode("utf-16-le")


def number(value: int) -> Value:
    return REG_DWORD, struct.pack("<I", value)


def lists(*strings: str) -> Value:
    return text(*strings, "", kind=REG_MULTI_SZ)


SOFTWARE: dict[tuple[str, ...], dict[str, Value]] = {
    ("Microsoft", "Windows NT", "CurrentVersion"): {
        "ProductName": text("Windows Server 2019 Standard"),
        "CurrentVersion": text("6.3"),
        "CurrentMajorVersionNumber": number(10),
        "CurrentMinorVersionNumber": number(0),
        "CurrentBuildNumber": text("17763"),
        "InstallationType": text("Server"),
        "SystemRoot": text("C:\\Windows"),
    },
    ("Microsoft", "Windows", "CurrentVersion"): {"DevicePath": text("%SystemRoot%\\inf", kind=REG_EXPAND_SZ)},
    ("Microsoft", "Windows", "CurrentVersion", "Uninstall", "{A}"): {
        "DisplayName": text("VMware Tools"),
        "UninstallString": text("MsiExec.exe /I{A}"),
    },
}
_INTERFACES = (*SERVICES, "Tcpip", "Parameters", "Interfaces")
SYSTEM: dict[tuple[str, ...], dict[str, Value]] = {
    ("Select",): {"Current": number(1), "Default": number(1)},
    ("ControlSet001", "Control", "CrashControl"): {"AutoReboot": number(1)},
    (*SERVICES, "Tcpip", "Parameters"): {"Hostname": text("win01")},
    (*_INTERFACES, "{1}"): {
        "EnableDHCP": number(0),
        "IPAddress": lists(STATIC_ADDRESS),
        "SubnetMask": lists("255.255.255.0"),
        "DefaultGateway": lists("192.0.2.1"),
        "NameServer": text("192.0.2.53,192.0.2.54"),
    },
    (*_INTERFACES, "{2}"): {"EnableDHCP": number(1), "DhcpIPAddress": text("198.51.100.7")},
    (*SERVICES, "storahci"): {"Start": number(0)},
    (*SERVICES, "storahci", "StartOverride"): {"0": number(3)},
    ("DriverDatabase", "DeviceIds"): {},
    ("DriverDatabase", "DriverInfFiles"): {},
    ("DriverDatabase", "DriverPackages"): {},
}


def make(images: list[Path]) -> None:
    guest = guestfs.GuestFS(python_return_dict=True)
    for image in images:
        with image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        guest.add_drive_opts(str(image), format="raw", cachemode="unsafe")
    guest.launch()
    for image, disk in zip(images, guest.list_devices(), strict=True):
        _install(guest, disk, hibernated=image.name.startswith("hibernated"))
    guest.shutdown()
    guest.close()


def _install(guest: guestfs.GuestFS, disk: str, *, hibernated: bool) -> None:
    guest.part_init(disk, "gpt")
    for number_, (first, last, kind) in enumerate(
        ((2048, 133119, SYSTEM_PARTITION_TYPE), (133120, -64, DATA_PARTITION_TYPE)), start=1
    ):
        guest.part_add(disk, "p", first, last)
        guest.part_set_gpt_type(disk, number_, kind)
    guest.mkfs("vfat", f"{disk}1")
    guest.mount(f"{disk}1", "/")
    guest.mkdir_p("/EFI/Microsoft/Boot")
    guest.write("/EFI/Microsoft/Boot/bootmgfw.efi", programme())
    guest.write("/EFI/Microsoft/Boot/BCD", empty_hive())
    guest.umount_all()
    guest.mkfs("ntfs", f"{disk}2")
    guest.mount(f"{disk}2", "/")
    for folder in (
        "/Windows/System32/config",
        "/Windows/System32/drivers",
        "/Windows/Temp",
        "/Program Files",
    ):
        guest.mkdir_p(folder)
    for name in ("cmd.exe", "kernel32.dll"):
        guest.write(f"/Windows/System32/{name}", programme())
    for path, content in ((SOFTWARE_HIVE, SOFTWARE), (SYSTEM_HIVE, SYSTEM)):
        guest.write(path, empty_hive())
        guest.hivex_open(path, write=True)
        for key, values in content.items():
            node = guest.hivex_root()
            for name in key:
                node = guest.hivex_node_get_child(node, name) or guest.hivex_node_add_child(node, name)
            for name, (kind_, data) in values.items():
                guest.hivex_node_set_value(node, name, kind_, data)
        guest.hivex_commit(None)
        guest.hivex_close()
    if hibernated:
        guest.write("/hiberfil.sys", b"hibr".ljust(PAGE, b"\0"))
    guest.umount_all()


if __name__ == "__main__":
    make([Path(name) for name in sys.argv[1:]])
