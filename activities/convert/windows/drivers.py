"""Which files of virtio-win are for which Windows. Pure.

virtio-win has one folder for each driver, release and architecture, `viostor/2k19/amd64`; its names for
releases are those of https://github.com/virtio-win/kvm-guest-drivers-windows. virt-v2v takes the same files;
releases that only a newer virt-v2v knows are left to its judgement.
"""

from collections.abc import Iterable
from dataclasses import dataclass

BLOCK = "viostor"
BLOCK_DRIVERS = (BLOCK, "vrtioblk", "virtio_blk")
SCSI = "vioscsi"
NETWORK_FILES = ("netkvm.inf", "virtio_net.inf")
_ARCHITECTURES = {"i386": {"x86", "i386"}, "x86_64": {"amd64"}}
_CLIENTS = {
    (5, 1): {"xp", "winxp"},
    (6, 0): {"vista"},
    (6, 1): {"w7", "win7"},
    (6, 2): {"w8", "win8"},
    (6, 3): {"w8.1", "win8.1"},
}
_SERVERS = {
    (5, 2): {"2k3", "win2003"},
    (6, 0): {"2k8", "win2008"},
    (6, 1): {"2k8r2", "win2008r2"},
    (6, 2): {"2k12", "win2012"},
    (6, 3): {"2k12r2", "win2012r2"},
}
_TENS = {
    "win10": {"w10", "win10"},
    "win11": {"w11", "win11"},
    "win2k16": {"2k16", "win2016"},
    "win2k19": {"2k19", "win2019"},
    "win2k22": {"2k22", "win2022"},
}
"""By libosinfo's short id: their version is 10.0 alike."""


@dataclass(frozen=True, slots=True)
class WindowsRelease:
    """As libguestfs inspects it."""

    major: int
    minor: int
    variant: str
    """`Client`, `Server` ..."""
    osinfo: str
    architecture: str

    @property
    def folders(self) -> set[str]:
        """virtio-win's names for it; none where it is not known here."""
        if self.major >= 10:
            return _TENS.get(self.osinfo, set())
        releases = _CLIENTS if self.variant == "Client" or self.major < 6 else _SERVERS
        version = (self.major, self.minor)
        return releases.get(version, _SERVERS.get(version, set()) if self.major < 6 else set())


def drivers_for(release: WindowsRelease, files: Iterable[str]) -> set[str] | None:
    """The names of the files for a release, in lower case, of all in virtio-win.

    None where the release is not known here.
    """
    folders, architectures = release.folders, _ARCHITECTURES.get(release.architecture, set())
    if not folders:
        return None
    found = set()
    for file in files:
        *parents, name = file.lower().split("/")
        if folders & set(parents) and architectures & set(parents):
            found.add(name)
    return found
