"""What the source guest is: a Debian 12 web server as years on VMware leave one.

Everything in it that names hardware names VMware's: an initramfs with VMware's drivers and no virtio, `root=`
and fstab by `/dev/sdX`, a static address on `ens192`, open-vm-tools.
"""

from deploy.dev.guest.guest import Filesystem, Guest, Holds, Layout, Nic, Partition

NAME = "web-server-01"
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

DEMO = Guest(
    name=NAME,
    suite="bookworm",
    covers="the demo's: BIOS, GRUB, a /boot of its own, MODULES=list, all by /dev/sdX, ifupdown, resume",
    whole=True,
    packages=PACKAGES,
    layout=Layout(
        disks_mib=(4096,),
        partitions=(
            Partition("/dev/sda1", 300),
            Partition("/dev/sda2", 3000),
            Partition("/dev/sda3", 256, Holds.SWAP),
            Partition("/dev/sda4", 538),
        ),
        filesystems=(
            Filesystem("/dev/sda1", "ext4", "/boot"),
            Filesystem("/dev/sda2", "ext4", "/"),
            Filesystem("/dev/sda4", "ext4", "/srv"),
        ),
        swap="/dev/sda3",
    ),
    nics=(Nic(NIC, "00:50:56:aa:bb:01", (ADDRESS,), gateway=GATEWAY, dns=(DNS,)),),
    files={**INITRAMFS, **FILES},
    annotation="The shop's web server",
    exported=True,
)
