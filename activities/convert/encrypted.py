"""Opening LUKS volumes in the appliance with the worker's keys."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import guestfs

from hyperctl.activities.convert.disk_keys import VARIABLE, DiskKey
from hyperctl.activities.convert.storage import Probe, probe_devices

LUKS = "crypto_LUKS"
KEY_PLACE = "hyperctl-key"
"""In the appliance's own /tmp, which is gone with it."""
KEY_DERIVATION_MEMORY_MIB = 2048
"""What the appliance needs to open a volume whose keys are derived with argon2, as cryptsetup makes them."""
WAY_OUT = (
    f"Give the worker a passphrase or a key file for the machine, in the 0600 file that {VARIABLE} names."
)
LAYERS = 4
WRONG_KEY = "2"
"""cryptsetup(8)'s exit code."""
BY_UUID = "/dev/disk/by-uuid"
_TOKEN = re.compile(r"^[ \t]*\d+: (systemd-tpm2|clevis)[ \t]*$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Encryption:
    """The encrypted volumes of a guest."""

    opened: dict[str, str]
    """By the appliance's device, the mapped one."""
    closed: tuple[str, ...]
    """Devices that no key opens."""
    keys_tried: int = 0
    used: tuple[int, ...] = ()
    """By their place, the keys that have opened something, each once."""
    devices: Mapping[str, Probe] = field(default_factory=dict)
    """All there are now, also what was opened and what is in it."""
    bound: Mapping[str, str] = field(default_factory=dict)
    """By device, what unlocks it without anybody's answer, as its header calls it."""

    @property
    def warnings(self) -> tuple[str, ...]:
        closed = (f"{device} is encrypted, and stays closed" for device in self.closed)
        bound = (
            f"{device} is unlocked by {token}: where that asks the VM's TPM, whose state cannot be moved, it "
            "asks for its passphrase on KVM"
            for device, token in self.bound.items()
        )
        return (*closed, *bound)

    @property
    def reason(self) -> str:
        """Why what is on the closed ones is not found; empty where none is closed."""
        if not self.closed:
            return ""
        tried = (
            f"none of the worker's {self.keys_tried} keys opens it"
            if self.keys_tried
            else "the worker has no key"
        )
        bound = ", ".join(sorted({self.bound[device] for device in self.closed if device in self.bound}))
        own = f" ({bound} has one, which is of no use but in the VM)" if bound else ""
        return f"{', '.join(self.closed)} is encrypted with LUKS, and {tried}{own}"


def open_encrypted(guest: guestfs.GuestFS, keys: Sequence[DiskKey]) -> Encryption:
    """Open what the keys open, and the volume groups in it; volumes in volumes too."""
    devices = probe_devices(guest)
    opened: dict[str, str] = {}
    closed: list[str] = []
    used: list[int] = []
    bound: dict[str, str] = {}
    for _ in range(LAYERS):
        encrypted = [device for device, probe in devices.items() if probe.facts.get("TYPE") == LUKS]
        new = [device for device in encrypted if device not in (*opened, *closed)]
        if not new:
            break
        for device in new:
            if token := _token(guest, device):
                bound[device] = token
            mapped, number = _open(guest, device, keys)
            if mapped:
                opened[device] = mapped
                used.append(number)
            else:
                closed.append(device)
        if opened:
            guest.lvm_scan(True)
            devices = probe_devices(guest)
    return Encryption(opened, tuple(closed), len(keys), tuple(dict.fromkeys(used)), devices, bound)


@contextmanager
def named_as_in_guest(guest: guestfs.GuestFS, mapped: Mapping[str, str]) -> Iterator[None]:
    """For the length of a `with`, the names that crypttab(5) gives, by which the guest's own tools know what
    lies below its root filesystem. `mapped` are the appliance's devices by these names."""
    renamed = []
    for name, device in mapped.items():
        own = device.rpartition("/")[2]
        if name != own and _NAME.fullmatch(name):
            rename = f"dmsetup rename {own} {name} && udevadm settle && ln -sf {name} {device}"
            guest.debug("sh", [f"({rename}) || :"])
            renamed.append(f"rm -f {device}; dmsetup rename {name} {own} && udevadm settle || :")
    try:
        yield
    finally:
        for back in renamed:
            guest.debug("sh", [back])


def _token(guest: guestfs.GuestFS, device: str) -> str:
    """The token in a header of LUKS 2 by which the guest has a key from elsewhere; empty without one."""
    uuid = _uuid(guest, device)
    said = guest.debug("sh", [f"cryptsetup luksDump {BY_UUID}/{uuid} 2>/dev/null || :"]) if uuid else ""
    found = _TOKEN.search(said)
    return found[1] if found else ""


def _uuid(guest: guestfs.GuestFS, device: str) -> str:
    """For a shell in the appliance, whose kernel may call disks otherwise than libguestfs does."""
    uuid = str(guest.vfs_uuid(device))
    return uuid if _UUID.fullmatch(uuid) else ""


def _open(guest: guestfs.GuestFS, device: str, keys: Sequence[DiskKey]) -> tuple[str, int]:
    """The mapped device and the key's place, or an empty string.

    Keys may be any bytes; libguestfs' own call takes text only.
    """
    uuid = _uuid(guest, device)
    if not uuid:
        return "", 0
    name = f"luks-{uuid}"
    for number, key in enumerate(keys):
        descriptor = os.memfd_create(KEY_PLACE)
        try:
            os.write(descriptor, key.content)
            guest.debug_upload(f"/proc/self/fd/{descriptor}", f"/tmp/{KEY_PLACE}", 0o600)
        finally:
            os.close(descriptor)
        source = f"{BY_UUID}/{uuid}"
        opening = f"cryptsetup luksOpen --key-file /tmp/{KEY_PLACE} {source} {name}"
        code = guest.debug("sh", [f"{opening} >/dev/null 2>&1; echo $?; rm -f /tmp/{KEY_PLACE}"]).strip()
        if code == "0":
            return f"/dev/mapper/{name}", number
        if code != WRONG_KEY:
            raise RuntimeError(f"{device} could not be opened with {key.title}: cryptsetup ended with {code}")
    return "", 0
