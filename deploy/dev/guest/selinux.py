"""A guest with SELinux that labels all its files at its next boot, and then boots again."""

from deploy.dev.guest.guest import Filesystem, Guest, Layout, Nic, Partition

NAME = "selinux"
NIC = "ens192"
ADDRESS = "192.0.2.41/24"

SELINUX = Guest(
    name=NAME,
    suite="bookworm",
    covers="SELinux by Debian's policy, and files that have no labels yet",
    packages=("grub-pc", "ifupdown", "policycoreutils", "selinux-utils", "selinux-policy-default"),
    layout=Layout(
        disks_mib=(2304,),
        partitions=(Partition("/dev/sda1", 2200),),
        filesystems=(Filesystem("/dev/sda1", "ext4", "/"),),
    ),
    nics=(Nic(NIC, "00:50:56:aa:29:01", (ADDRESS,), gateway="192.0.2.1"),),
    files={
        "/etc/hostname": f"{NAME}\n",
        "/etc/hosts": f"127.0.0.1\tlocalhost\n127.0.1.1\t{NAME}\n",
        "/etc/machine-id": "5f0c1d2b7a3e4f689b0d1c2e3f405129\n",
        "/etc/fstab": "/dev/sda1 / ext4 errors=remount-ro 0 1\n",
        "/.autorelabel": "",
        "/etc/selinux/config": "SELINUX=permissive\nSELINUXTYPE=default\n",
        "/etc/network/interfaces": (
            "auto lo\niface lo inet loopback\n\n"
            f"auto {NIC}\niface {NIC} inet static\n\taddress {ADDRESS}\n\tgateway 192.0.2.1\n"
        ),
        "/etc/initramfs-tools/conf.d/driver-policy": "MODULES=list\n",
        "/etc/initramfs-tools/modules": "vmw_pvscsi\nmptsas\nvmxnet3\nahci\nsd_mod\next4\n",
        "/etc/default/grub": (
            "GRUB_DEFAULT=0\nGRUB_TIMEOUT=2\nGRUB_DISTRIBUTOR=Debian\n"
            'GRUB_CMDLINE_LINUX_DEFAULT="security=selinux selinux=1"\n'
            "GRUB_DISABLE_LINUX_UUID=true\nGRUB_DISABLE_OS_PROBER=true\n"
        ),
    },
)
