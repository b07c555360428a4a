"""What systemd's units are for, by their names."""

from fnmatch import fnmatchcase

WAITING_UNITS = ("*-wait-online*", "network-online*")
"""They fail where there is no network, and for no other reason."""
NETWORK_UNITS = (
    "networking.service",
    "network.service",
    "NetworkManager.service",
    "systemd-networkd.s*",
    "systemd-networkd-wait-online*",
    "ifup@*",
    "wicked*",
    "netplan-*",
)
STORAGE_UNITS = (
    "*.mount",
    "*.automount",
    "*.swap",
    "local-fs.target",
    "swap.target",
    "systemd-fsck*",
    "systemd-remount-fs.service",
    "systemd-cryptsetup@*",
    "lvm2-*",
    "mdadm*",
    "mdmonitor*",
    "multipathd*",
    "zfs-*",
)
BOOT_UNITS = (
    "systemd-modules-load.service",
    "systemd-udev*",
    "systemd-journald*",
    "systemd-tmpfiles-setup*",
    "dbus*",
    "sysinit.target",
    "basic.target",
)


def is_any(unit: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(unit, pattern) for pattern in patterns)
