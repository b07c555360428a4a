"""What the source guest is: a Debian 12 web server as years on VMware leave one.

Everything in it that names hardware names VMware's: an initramfs with VMware's drivers and no virtio, `root=`
and fstab by `/dev/sdX`, a static address on `ens192`, open-vm-tools.
"""

from dataclasses import dataclass

NAME = "web-server-01"
SUITE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIB = 1 << 20
DISK_BYTES = 4 << 30

MAC = "00:50:56:aa:bb:01"
NIC = "ens192"
ADDRESS = "192.0.2.10/24"
GATEWAY = "192.0.2.1"
DNS = "192.0.2.53"

PACKAGES = (
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "ifupdown",
    "iproute2",
    "netbase",
    "procps",
    "e2fsprogs",
    "initramfs-tools",
    "linux-image-amd64",
    "grub-pc",
    "open-vm-tools",
    "openssh-server",
    "nginx-light",
    "cron",
)
WITHOUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
"""Documentation; half an hour of somebody's copying over the years."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A primary partition of the MBR; its number is its place in the list, counted from 1."""

    start_bytes: int
    size_bytes: int
    mount_point: str
    """Empty for swap space."""


PARTITIONS = (
    Partition(1 * MIB, 300 * MIB, "/boot"),
    Partition(301 * MIB, 3000 * MIB, "/"),
    Partition(3301 * MIB, 256 * MIB, ""),
    Partition(3557 * MIB, 538 * MIB, "/srv"),
)

INITRAMFS = {
    "/etc/initramfs-tools/conf.d/driver-policy": "MODULES=list\n",
    "/etc/initramfs-tools/conf.d/resume": "RESUME=/dev/sda3\n",
    "/etc/initramfs-tools/modules": """\
# List of modules that you want to include in your initramfs.
vmw_pvscsi
mptspi
mptsas
vmxnet3
ahci
ata_piix
sd_mod
sr_mod
ext4
""",
}
"""In place before the kernel's package builds the initramfs."""

FILES = {
    "/etc/hostname": f"{NAME}\n",
    "/etc/hosts": f"127.0.0.1\tlocalhost\n127.0.1.1\t{NAME}\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "/etc/machine-id": "5f0c1d2b7a3e4f689b0d1c2e3f405162\n",
    "/etc/resolv.conf": f"nameserver {DNS}\n",
    "/etc/fstab": """\
# /etc/fstab: static file system information.
#
# <file system> <mount point> <type> <options> <dump> <pass>
/dev/sda2\t/\text4\terrors=remount-ro\t0\t1
/dev/sda1\t/boot\text4\tdefaults\t0\t2
/dev/sda3\tnone\tswap\tsw\t0\t0
# the shop's pages
/dev/sda4\t/srv\text4\tdefaults,noatime\t0\t2
tmpfs\t/tmp\ttmpfs\tnosuid,nodev\t0\t0
""",
    "/etc/network/interfaces": f"""\
source /etc/network/interfaces.d/*

auto lo
iface lo inet loopback

# The primary network interface
auto {NIC}
iface {NIC} inet static
\taddress {ADDRESS}
\tgateway {GATEWAY}
\tdns-nameservers {DNS}
""",
    "/etc/default/grub": """\
GRUB_DEFAULT=0
GRUB_TIMEOUT=2
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX=""
GRUB_DISABLE_LINUX_UUID=true
GRUB_DISABLE_OS_PROBER=true
""",
    "/boot/grub/device.map": "(hd0)\t/dev/sda\n",
    "/srv/www/index.html": "<!doctype html><title>The shop</title><p>It is open.\n",
    "/etc/nginx/sites-available/default": """\
server {
\tlisten 80 default_server;
\troot /srv/www;
}
""",
}

FACTS = {
    "name": NAME,
    "guest_id": "debian12_64Guest",
    "guest_full_name": "Debian GNU/Linux 12 (64-bit)",
    "firmware": "bios",
    "memory_mib": 1024,
    "vcpus": 1,
    "power_state": "poweredOff",
    "hardware_version": "vmx-19",
    "host_name": NAME,
    "scsi": "pvscsi",
    "annotation": "The shop's web server",
    "disks": [{"flat": "disk1.raw", "stream": "disk1.vmdk"}],
    "nics": [
        {
            "mac": MAC,
            "network": "VM Network",
            "adapter": "vmxnet3",
            "dhcp": False,
            "addresses": [ADDRESS],
            "gateway": GATEWAY,
            "dns": [DNS],
            "device_name": NIC,
        }
    ],
}
"""As `deploy/dev/vcenter/README.md` documents guest.json."""
