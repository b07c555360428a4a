"""The guests that conversion is tested with: Debian as VMware leaves it, in every shape that there is.

Together they have every value, and the pairs of values that interact: release, firmware, loader; layout; how
the initramfs is made; how devices are named; what makes the network.

* web-server-01: Debian 12, BIOS, GRUB; /boot, swap; list; sdX; ifupdown
* trixie-systemd-boot: 13, UEFI, systemd-boot; plain; list; sdX; networkd
  lvm-two-disks: 12, BIOS, GRUB; /boot, LVM on two disks, swap; dracut; UUID; NetworkManager
  bullseye-btrfs: 11, BIOS, GRUB; btrfs, data disk; list; sdX, by-path; ifupdown, two NICs
  trixie-efi-lvm: 13, UEFI, GRUB; LVM on one disk, swap; dep; UUID; netplan
  xfs-label: 12, UEFI with fallback, GRUB; xfs; dracut; LABEL; NetworkManager, two NICs
  mdraid: 12, BIOS, GRUB; RAID 1, /boot; list; UUID; ifupdown, bond
  luks-key-file: 12, BIOS, GRUB; /boot, LVM in LUKS, swap; list; UUID; ifupdown, VLAN
  luks-passphrase: 13, UEFI with fallback, GRUB; /boot, LUKS; dep; sdX; netplan, bridge
  by-path: 11, BIOS, GRUB; /boot, data disk, swap; dep; by-path; networkd by PCI path, VLAN
  trixie-bridge: 13, BIOS with GPT, GRUB; xfs; list; UUID; networkd, bridge over bond
  two-kernels: 12, BIOS, GRUB; plain, swap; list, newest kernel without virtio; LABEL; ifupdown, bridge
  bullseye-efi: 11, UEFI with fallback, GRUB; xfs data disk; dracut; sdX; networkd, bond
  trixie-mdraid-efi: 13, UEFI, GRUB; RAID 1; dracut; UUID; NetworkManager, VLAN over bond
  systemd-boot-btrfs: 12, UEFI with fallback, systemd-boot; btrfs with a snapshot; list, older kernel
    without virtio; UUID, without the ESP; netplan, VLAN over bond
  luks-dracut: 12, BIOS, GRUB; /boot, btrfs in LUKS; dracut; sdX; ifupdown
  trixie-unified: 13, UEFI, systemd-boot, a unified kernel image; plain; list; sdX; ifupdown, two NICs by the
    kernel's names, not in vSphere's order
  many-nics: 12, BIOS, GRUB; plain; list; UUID; ifupdown, five NICs: DHCP, a bridge, a VLAN, names by
    PCI path, a MAC of the guest's own
  extlinux: 12, BIOS, extlinux, a kernel and an initramfs of its own; a mount point behind a link; list, xz,
    virtio kept away by modprobe.d; sdX; ifupdown

Those with a star are fast, and part of `make test`.
"""

from deploy.dev.guest.guest import (
    Encrypted,
    Filesystem,
    Group,
    Guest,
    Holds,
    Initramfs,
    Layout,
    Loader,
    Mirror,
    Nic,
    Partition,
)
from deploy.dev.guest.recipe import DEMO

VMWARE_MODULES = "vmw_pvscsi\nmptspi\nmptsas\nvmxnet3\nahci\nata_piix\nsd_mod\nsr_mod\n"
GRUB_BY_DEVICE = "GRUB_DISABLE_LINUX_UUID=true\n"


def _host(name: str, number: int) -> dict[str, str]:
    return {
        "/etc/hostname": f"{name}\n",
        "/etc/hosts": f"127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        "/etc/machine-id": f"5f0c1d2b7a3e4f689b0d1c2e3f4051{number:02x}\n",
        "/etc/resolv.conf": "nameserver 192.0.2.53\n",
    }


def _grub(settings: str = "", arguments: str = "quiet") -> dict[str, str]:
    return {
        "/etc/default/grub": f"""\
GRUB_DEFAULT=0
GRUB_TIMEOUT=2
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT="{arguments}"
GRUB_CMDLINE_LINUX=""
GRUB_DISABLE_OS_PROBER=true
{settings}"""
    }


def _listed(*more: str) -> dict[str, str]:
    return {
        "/etc/initramfs-tools/conf.d/driver-policy": "MODULES=list\n",
        "/etc/initramfs-tools/modules": VMWARE_MODULES + "".join(f"{name}\n" for name in more),
    }


DEP = {"/etc/initramfs-tools/conf.d/driver-policy": "MODULES=dep\n"}
HOSTONLY = {"/etc/dracut.conf.d/10-host.conf": 'hostonly="yes"\nhostonly_mode="strict"\n'}
LOOPBACK = "auto lo\niface lo inet loopback\n\n"


def _mac(number: int, nic: int = 1) -> str:
    return f"00:50:56:aa:{number:02x}:{nic:02x}"


def _keyfile(identity: str, interface: str, address: str, gateway: str = "") -> str:
    """NetworkManager's, for an Ethernet connection by the interface's name."""
    route = f"gateway={gateway}\n" if gateway else ""
    return (
        f"[connection]\nid={identity}\ntype=ethernet\ninterface-name={interface}\n\n"
        f"[ipv4]\nmethod=manual\naddress1={address}\n{route}\n[ipv6]\nmethod=disabled\n"
    )


def _slave(identity: str, interface: str) -> str:
    """NetworkManager's, for a NIC of bond0."""
    return (
        f"[connection]\nid={identity}\ntype=ethernet\ninterface-name={interface}\n"
        "master=bond0\nslave-type=bond\n"
    )


CONNECTIONS = "/etc/NetworkManager/system-connections"

_TRIXIE_SYSTEMD_BOOT = Guest(
    name="trixie-systemd-boot",
    suite="trixie",
    covers="systemd-boot that only NVRAM named, kernels and initramfs on the ESP, root= by /dev/sdX",
    uefi=True,
    loader=Loader.SYSTEMD_BOOT,
    packages=("systemd-boot",),
    layout=Layout(
        disks_mib=(2560,),
        table="gpt",
        partitions=(Partition("/dev/sda1", 256, Holds.ESP), Partition("/dev/sda2", 2000)),
        filesystems=(
            Filesystem("/dev/sda2", "ext4", "/"),
            Filesystem("/dev/sda1", "vfat", "/boot/efi"),
        ),
    ),
    nics=(Nic("ens192", _mac(2), ("192.0.2.12/24",)),),
    units=("systemd-networkd.service",),
    files={
        **_host("trixie-systemd-boot", 2),
        **_listed("ext4", "vfat"),
        "/etc/kernel/cmdline": "root=/dev/sda2 ro quiet\n",
        "/etc/kernel/install.conf": "layout=bls\nBOOT_ROOT=/boot/efi\n",
        "/etc/fstab": "/dev/sda2 / ext4 errors=remount-ro 0 1\n/dev/sda1 /boot/efi vfat umask=0077 0 1\n",
        "/etc/systemd/network/10-lan.network": (
            "[Match]\nName=ens192\n\n[Network]\nAddress=192.0.2.12/24\nGateway=192.0.2.1\nDNS=192.0.2.53\n"
        ),
    },
)

_LVM_TWO_DISKS = Guest(
    name="lvm-two-disks",
    suite="bookworm",
    covers="a root volume on two disks, one of them without partitions, behind a filter for sdX",
    initramfs=Initramfs.DRACUT,
    packages=("grub-pc", "lvm2", "dracut", "network-manager"),
    layout=Layout(
        disks_mib=(2048, 1024),
        partitions=(Partition("/dev/sda1", 256), Partition("/dev/sda2", 1700, Holds.LVM)),
        filesystems=(
            Filesystem("/dev/sda1", "ext4", "/boot"),
            Filesystem("/dev/vg0/root", "ext4", "/"),
            Filesystem("/dev/vg0/srv", "ext4", "/srv"),
        ),
        group=Group("vg0", ("/dev/sda2", "/dev/sdb"), (("root", 2000), ("swap", 128), ("srv", 256))),
        swap="/dev/vg0/swap",
    ),
    nics=(Nic("ens192", _mac(3), ("192.0.2.13/24",)),),
    files={
        **_host("lvm-two-disks", 3),
        **_grub(arguments="quiet resume=/dev/mapper/vg0-swap"),
        **HOSTONLY,
        "/etc/lvm/lvmlocal.conf": 'devices {\n\tglobal_filter = [ "a|^/dev/sd[a-z][0-9]*$|", "r|.*|" ]\n}\n',
        "/etc/fstab": (
            "/dev/mapper/vg0-root / ext4 errors=remount-ro 0 1\nUUID=@/dev/sda1@ /boot ext4 defaults 0 2\n"
            "/dev/vg0/srv /srv ext4 defaults 0 2\n/dev/mapper/vg0-swap none swap sw 0 0\n"
        ),
        f"{CONNECTIONS}/lan.nmconnection": _keyfile("lan", "ens192", "192.0.2.13/24", "192.0.2.1"),
    },
)

_BULLSEYE_BTRFS = Guest(
    name="bullseye-btrfs",
    suite="bullseye",
    covers="subvolumes of btrfs by /dev/sdX, a data disk by its path on VMware's controller, two NICs",
    packages=("grub-pc", "btrfs-progs", "ifupdown"),
    layout=Layout(
        disks_mib=(2560, 512),
        partitions=(Partition("/dev/sda1", 2400), Partition("/dev/sdb1", 500)),
        filesystems=(
            Filesystem("/dev/sda1", "btrfs", "/", subvolume="@"),
            Filesystem("/dev/sda1", "btrfs", "/home", subvolume="@home"),
            Filesystem("/dev/sdb1", "ext4", "/srv"),
        ),
    ),
    nics=(
        Nic("ens192", _mac(4, 1), ("192.0.2.14/24",)),
        Nic("ens224", _mac(4, 2), ("198.51.100.14/24",)),
    ),
    files={
        **_host("bullseye-btrfs", 4),
        **_grub(GRUB_BY_DEVICE),
        **_listed("btrfs"),
        "/etc/fstab": (
            "/dev/sda1 / btrfs defaults,subvol=@ 0 0\n/dev/sda1 /home btrfs defaults,subvol=@home 0 0\n"
            "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part1 /srv ext4 defaults 0 2\n"
        ),
        "/etc/network/interfaces": LOOPBACK
        + (
            "auto ens192\niface ens192 inet static\n\taddress 192.0.2.14/24\n\tgateway 192.0.2.1\n\n"
            "auto ens224\niface ens224 inet static\n\taddress 198.51.100.14\n\tnetmask 255.255.255.0\n"
            "\tup ip route add 203.0.113.0/24 via 198.51.100.1\n"
        ),
    },
)

FAST = (DEMO, _TRIXIE_SYSTEMD_BOOT)

_TRIXIE_EFI_LVM = Guest(
    name="trixie-efi-lvm",
    suite="trixie",
    covers="a GRUB that only NVRAM named, over LVM on one disk; MODULES=dep",
    uefi=True,
    initramfs=Initramfs.DEP,
    packages=("grub-efi-amd64", "lvm2", "netplan.io"),
    layout=Layout(
        disks_mib=(2560,),
        table="gpt",
        partitions=(Partition("/dev/sda1", 64, Holds.ESP), Partition("/dev/sda2", 2400, Holds.LVM)),
        filesystems=(
            Filesystem("/dev/vg0/root", "ext4", "/"),
            Filesystem("/dev/sda1", "vfat", "/boot/efi"),
        ),
        group=Group("vg0", ("/dev/sda2",), (("root", 2100), ("swap", 128))),
        swap="/dev/vg0/swap",
    ),
    nics=(Nic("ens192", _mac(5), ("192.0.2.15/24",)),),
    units=("systemd-networkd.service",),
    files={
        **_host("trixie-efi-lvm", 5),
        **_grub(),
        **DEP,
        "/etc/initramfs-tools/conf.d/resume": "RESUME=/dev/mapper/vg0-swap\n",
        "/etc/fstab": (
            "/dev/mapper/vg0-root / ext4 errors=remount-ro 0 1\n"
            "UUID=@/dev/sda1@ /boot/efi vfat umask=0077 0 1\nUUID=@/dev/vg0/swap@ none swap sw 0 0\n"
        ),
        "/etc/netplan/50-lan.yaml": """\
network:
  version: 2
  ethernets:
    lan:
      match:
        driver: vmxnet3
      addresses: [192.0.2.15/24]
      routes:
        - to: default
          via: 192.0.2.1
""",
    },
)

_XFS_LABEL = Guest(
    name="xfs-label",
    suite="bookworm",
    covers="xfs by label, a loader in the fallback path too, dracut's hostonly, two NICs of NetworkManager",
    uefi=True,
    fallback=True,
    initramfs=Initramfs.DRACUT,
    packages=("grub-efi-amd64", "xfsprogs", "dracut", "network-manager"),
    layout=Layout(
        disks_mib=(2560,),
        table="gpt",
        partitions=(Partition("/dev/sda1", 64, Holds.ESP), Partition("/dev/sda2", 2400)),
        filesystems=(
            Filesystem("/dev/sda2", "xfs", "/", label="system"),
            Filesystem("/dev/sda1", "vfat", "/boot/efi", label="ESP"),
        ),
    ),
    nics=(
        Nic("ens192", _mac(6, 1), ("192.0.2.16/24",)),
        Nic("ens224", _mac(6, 2), ("198.51.100.16/24",)),
    ),
    files={
        **_host("xfs-label", 6),
        **_grub(GRUB_BY_DEVICE),
        **HOSTONLY,
        "/etc/fstab": "LABEL=system / xfs defaults 0 0\nLABEL=ESP /boot/efi vfat umask=0077 0 1\n",
        f"{CONNECTIONS}/lan.nmconnection": _keyfile("lan", "ens192", "192.0.2.16/24", "192.0.2.1"),
        f"{CONNECTIONS}/back.nmconnection": _keyfile("back", "ens224", "198.51.100.16/24"),
    },
)

_MDRAID = Guest(
    name="mdraid",
    suite="bookworm",
    covers="mirrors whose mdadm.conf looks at sdX only, under a bond of two NICs",
    packages=("grub-pc", "mdadm", "ifupdown", "ifenslave"),
    layout=Layout(
        disks_mib=(2560, 2560),
        partitions=(
            Partition("/dev/sda1", 256, Holds.RAID),
            Partition("/dev/sda2", 2100, Holds.RAID),
            Partition("/dev/sdb1", 256, Holds.RAID),
            Partition("/dev/sdb2", 2100, Holds.RAID),
        ),
        mirrors=(
            Mirror("/dev/md0", ("/dev/sda1", "/dev/sdb1"), "1a2b3c4d:00000000:00000000:00000001"),
            Mirror("/dev/md1", ("/dev/sda2", "/dev/sdb2"), "1a2b3c4d:00000000:00000000:00000002"),
        ),
        filesystems=(Filesystem("/dev/md1", "ext4", "/"), Filesystem("/dev/md0", "ext4", "/boot")),
    ),
    nics=(
        Nic("ens192", _mac(7, 1), ("192.0.2.17/24",)),
        Nic("ens224", _mac(7, 2)),
    ),
    files={
        **_host("mdraid", 7),
        **_grub(),
        **_listed("ext4", "raid1"),
        "/etc/mdadm/mdadm.conf": (
            "DEVICE /dev/sda* /dev/sdb*\nHOMEHOST <system>\nMAILADDR root\n"
            "ARRAY /dev/md0 metadata=1.2 UUID=1a2b3c4d:00000000:00000000:00000001\n"
            "ARRAY /dev/md1 metadata=1.2 UUID=1a2b3c4d:00000000:00000000:00000002\n"
        ),
        "/etc/fstab": ("UUID=@/dev/md1@ / ext4 errors=remount-ro 0 1\n/dev/md0 /boot ext4 defaults 0 2\n"),
        "/etc/network/interfaces": LOOPBACK
        + (
            "auto bond0\niface bond0 inet static\n\taddress 192.0.2.17/24\n\tgateway 192.0.2.1\n"
            "\tbond-slaves ens192 ens224\n\tbond-mode active-backup\n\tbond-miimon 100\n"
        ),
    },
)

_LUKS_KEY_FILE = Guest(
    name="luks-key-file",
    suite="bookworm",
    covers="LVM in a LUKS volume that a key in the initramfs opens; the migration is given the key file",
    packages=("grub-pc", "lvm2", "cryptsetup-initramfs", "ifupdown", "vlan"),
    layout=Layout(
        disks_mib=(2560,),
        partitions=(Partition("/dev/sda1", 256), Partition("/dev/sda2", 2200)),
        encrypted=(Encrypted("sda2_crypt", "/dev/sda2", "correct horse battery", "/etc/keys/system.key"),),
        group=Group("vg0", ("/dev/mapper/sda2_crypt",), (("root", 1900), ("swap", 128))),
        filesystems=(Filesystem("/dev/sda1", "ext4", "/boot"), Filesystem("/dev/vg0/root", "ext4", "/")),
        swap="/dev/vg0/swap",
    ),
    nics=(Nic("ens192", _mac(8), ("192.0.2.18/24", "198.51.100.18/24")),),
    files={
        **_host("luks-key-file", 8),
        **_grub(),
        **_listed("ext4"),
        "/etc/cryptsetup-initramfs/conf-hook": 'KEYFILE_PATTERN="/etc/keys/*.key"\n',
        "/etc/initramfs-tools/conf.d/umask": "UMASK=0077\n",
        "/etc/crypttab": "sda2_crypt UUID=@/dev/sda2@ /etc/keys/system.key luks,initramfs\n",
        "/etc/fstab": (
            "/dev/mapper/vg0-root / ext4 errors=remount-ro 0 1\nUUID=@/dev/sda1@ /boot ext4 defaults 0 2\n"
            "/dev/mapper/vg0-swap none swap sw 0 0\n"
        ),
        "/etc/network/interfaces": LOOPBACK
        + (
            "auto ens192\niface ens192 inet static\n\taddress 192.0.2.18/24\n\tgateway 192.0.2.1\n\n"
            "auto ens192.20\niface ens192.20 inet static\n\taddress 198.51.100.18/24\n"
            "\tvlan-raw-device ens192\n"
        ),
    },
)

_LUKS_PASSPHRASE = Guest(
    name="luks-passphrase",
    suite="trixie",
    covers="a filesystem in LUKS that asks for its passphrase, which the migration is given; by /dev/sdX",
    uefi=True,
    fallback=True,
    initramfs=Initramfs.DEP,
    packages=("grub-efi-amd64", "cryptsetup-initramfs", "netplan.io"),
    layout=Layout(
        disks_mib=(2560,),
        table="gpt",
        partitions=(
            Partition("/dev/sda1", 64, Holds.ESP),
            Partition("/dev/sda2", 256),
            Partition("/dev/sda3", 2100),
        ),
        encrypted=(Encrypted("system", "/dev/sda3", "a passphrase, with a comma", "/etc/keys/system.key"),),
        filesystems=(
            Filesystem("/dev/mapper/system", "ext4", "/"),
            Filesystem("/dev/sda2", "ext4", "/boot"),
            Filesystem("/dev/sda1", "vfat", "/boot/efi"),
        ),
    ),
    nics=(Nic("ens192", _mac(9), ("192.0.2.19/24",)),),
    units=("systemd-networkd.service",),
    files={
        **_host("luks-passphrase", 9),
        **_grub(),
        **DEP,
        "/etc/crypttab": "system /dev/sda3 none luks\n",
        "/etc/fstab": (
            "/dev/mapper/system / ext4 errors=remount-ro 0 1\n/dev/sda2 /boot ext4 defaults 0 2\n"
            "/dev/sda1 /boot/efi vfat umask=0077 0 1\n"
        ),
        "/etc/netplan/50-lan.yaml": """\
network:
  version: 2
  ethernets:
    ens192: {}
  bridges:
    br0:
      interfaces: [ens192]
      addresses: [192.0.2.19/24]
      parameters: {stp: false}
      routes:
        - to: default
          via: 192.0.2.1
""",
    },
)

_BY_PATH = Guest(
    name="by-path",
    suite="bullseye",
    covers="everything by the disk's path on VMware's controller, and an initramfs of the drivers in use",
    initramfs=Initramfs.DEP,
    packages=("grub-pc",),
    layout=Layout(
        disks_mib=(2560, 512),
        partitions=(
            Partition("/dev/sda1", 256),
            Partition("/dev/sda2", 2000),
            Partition("/dev/sda3", 128, Holds.SWAP),
            Partition("/dev/sdb1", 500),
        ),
        filesystems=(
            Filesystem("/dev/sda1", "ext4", "/boot"),
            Filesystem("/dev/sda2", "ext4", "/"),
            Filesystem("/dev/sdb1", "ext4", "/srv"),
        ),
        swap="/dev/sda3",
    ),
    nics=(Nic("ens192", _mac(10), ("192.0.2.20/24", "198.51.100.20/24")),),
    units=("systemd-networkd.service",),
    files={
        **_host("by-path", 10),
        **_grub(GRUB_BY_DEVICE, "quiet resume=/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part3"),
        **DEP,
        "/etc/fstab": """\
/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part2 / ext4 errors=remount-ro 0 1
/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1 /boot ext4 defaults 0 2
/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part3 none swap sw 0 0
/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part1 /srv ext4 defaults 0 2
/dev/fd0 /media/floppy0 auto rw,user,noauto 0 0
.host:/ /mnt/hgfs fuse.vmhgfs-fuse defaults,allow_other,nofail 0 0
""",
        "/etc/systemd/network/10-lan.network": (
            "[Match]\nPath=pci-0000:0b:00.0\n\n[Network]\n"
            "Address=192.0.2.20/24\nGateway=192.0.2.1\nVLAN=lan20\n"
        ),
        "/etc/systemd/network/50-lan.link": (
            "[Match]\nDriver=vmxnet3\n\n"
            "[Link]\nNamePolicy=keep kernel database onboard slot path\nMTUBytes=1400\n"
        ),
        "/etc/systemd/network/20-lan20.netdev": "[NetDev]\nName=lan20\nKind=vlan\n\n[VLAN]\nId=20\n",
        "/etc/systemd/network/20-lan20.network": (
            "[Match]\nName=lan20\n\n[Network]\nAddress=198.51.100.20/24\n"
        ),
    },
)

_TRIXIE_BRIDGE = Guest(
    name="trixie-bridge",
    suite="trixie",
    covers="GRUB in a BIOS boot partition of a GPT, xfs by UUID, a bridge over a bond of networkd",
    packages=("grub-pc", "xfsprogs"),
    layout=Layout(
        disks_mib=(2560,),
        table="gpt",
        partitions=(Partition("/dev/sda1", 1, Holds.BIOS_BOOT), Partition("/dev/sda2", 2500)),
        filesystems=(Filesystem("/dev/sda2", "xfs", "/"),),
    ),
    nics=(
        Nic("ens192", _mac(11, 1), ("192.0.2.21/24",)),
        Nic("ens224", _mac(11, 2)),
    ),
    units=("systemd-networkd.service",),
    files={
        **_host("trixie-bridge", 11),
        **_grub(),
        **_listed("xfs"),
        "/etc/fstab": "UUID=@/dev/sda2@ / xfs defaults 0 0\n",
        "/etc/systemd/network/10-bond0.netdev": (
            "[NetDev]\nName=bond0\nKind=bond\n\n[Bond]\nMode=active-backup\nMIIMonitorSec=100ms\n"
        ),
        "/etc/systemd/network/10-bond0.network": "[Match]\nName=bond0\n\n[Network]\nBridge=br0\n",
        "/etc/systemd/network/10-slaves.network": (
            "[Match]\nDriver=vmxnet3\n\n[Network]\nBond=bond0\nLinkLocalAddressing=no\n"
        ),
        "/etc/systemd/network/20-br0.netdev": "[NetDev]\nName=br0\nKind=bridge\n",
        "/etc/systemd/network/20-br0.network": (
            "[Match]\nName=br0\n\n[Network]\nAddress=192.0.2.21/24\nGateway=192.0.2.1\n"
        ),
    },
)

_TWO_KERNELS = Guest(
    name="two-kernels",
    suite="bookworm",
    covers="a newest kernel, the default, that knows nothing of virtio; filesystems by label, a bridge",
    other_kernel="6.12.99-vmware",
    packages=("grub-pc", "ifupdown", "bridge-utils"),
    layout=Layout(
        disks_mib=(2560,),
        partitions=(Partition("/dev/sda1", 2300), Partition("/dev/sda2", 128, Holds.SWAP)),
        filesystems=(Filesystem("/dev/sda1", "ext4", "/", label="system"),),
        swap="/dev/sda2",
    ),
    nics=(Nic("ens192", _mac(12), ("192.0.2.22/24",)),),
    files={
        **_host("two-kernels", 12),
        **_grub(arguments="quiet resume=/dev/sda2"),
        **_listed("ext4"),
        "/etc/initramfs-tools/conf.d/resume": "RESUME=/dev/sda2\n",
        "/etc/fstab": "LABEL=system / ext4 errors=remount-ro 0 1\n/dev/sda2 none swap sw 0 0\n",
        "/etc/network/interfaces": LOOPBACK
        + (
            "iface ens192 inet manual\n\nauto br0\niface br0 inet static\n\taddress 192.0.2.22/24\n"
            "\tgateway 192.0.2.1\n\tbridge_ports ens192\n\tbridge_stp off\n\tbridge_fd 0\n"
        ),
    },
)

_BULLSEYE_EFI = Guest(
    name="bullseye-efi",
    suite="bullseye",
    covers="an older dracut, everything by /dev/sdX, a data disk of xfs, a bond of networkd",
    uefi=True,
    fallback=True,
    initramfs=Initramfs.DRACUT,
    packages=("grub-efi-amd64", "dracut", "xfsprogs"),
    layout=Layout(
        disks_mib=(2560, 512),
        table="gpt",
        partitions=(
            Partition("/dev/sda1", 64, Holds.ESP),
            Partition("/dev/sda2", 2400),
            Partition("/dev/sdb1", 500),
        ),
        filesystems=(
            Filesystem("/dev/sda2", "ext4", "/"),
            Filesystem("/dev/sda1", "vfat", "/boot/efi"),
            Filesystem("/dev/sdb1", "xfs", "/srv"),
        ),
    ),
    nics=(
        Nic("ens192", _mac(13, 1), ("192.0.2.23/24",)),
        Nic("ens224", _mac(13, 2)),
    ),
    units=("systemd-networkd.service",),
    files={
        **_host("bullseye-efi", 13),
        **_grub(GRUB_BY_DEVICE),
        **HOSTONLY,
        "/etc/fstab": (
            "/dev/sda2 / ext4 errors=remount-ro 0 1\n/dev/sda1 /boot/efi vfat umask=0077 0 1\n"
            "/dev/sdb1 /srv xfs defaults 0 0\n"
        ),
        "/etc/systemd/network/10-bond0.netdev": (
            "[NetDev]\nName=bond0\nKind=bond\n\n[Bond]\nMode=active-backup\nMIIMonitorSec=100ms\n"
        ),
        "/etc/systemd/network/20-bond0.network": (
            "[Match]\nName=bond0\n\n[Network]\nAddress=192.0.2.23/24\nGateway=192.0.2.1\n"
        ),
        "/etc/systemd/network/30-slaves.network": "[Match]\nName=ens192 ens224\n\n[Network]\nBond=bond0\n",
    },
)

_TRIXIE_MDRAID_EFI = Guest(
    name="trixie-mdraid-efi",
    suite="trixie",
    covers="a mirror under dracut's hostonly, a GRUB that only NVRAM named, NetworkManager's VLAN on a bond",
    uefi=True,
    initramfs=Initramfs.DRACUT,
    packages=("grub-efi-amd64", "mdadm", "dracut", "network-manager"),
    layout=Layout(
        disks_mib=(2560, 2560),
        table="gpt",
        partitions=(
            Partition("/dev/sda1", 64, Holds.ESP),
            Partition("/dev/sda2", 2300, Holds.RAID),
            Partition("/dev/sdb1", 64, Holds.ESP),
            Partition("/dev/sdb2", 2300, Holds.RAID),
        ),
        mirrors=(Mirror("/dev/md0", ("/dev/sda2", "/dev/sdb2"), "1a2b3c4d:00000000:00000000:00000003"),),
        filesystems=(Filesystem("/dev/md0", "ext4", "/"), Filesystem("/dev/sda1", "vfat", "/boot/efi")),
    ),
    nics=(
        Nic("ens192", _mac(14), ("192.0.2.24/24", "198.51.100.24/24")),
        Nic("ens224", _mac(14, 2)),
    ),
    files={
        **_host("trixie-mdraid-efi", 14),
        **_grub(),
        **HOSTONLY,
        "/etc/mdadm/mdadm.conf": (
            "HOMEHOST <system>\nMAILADDR root\n"
            "ARRAY /dev/md0 metadata=1.2 UUID=1a2b3c4d:00000000:00000000:00000003\n"
        ),
        "/etc/fstab": (
            "UUID=@/dev/md0@ / ext4 errors=remount-ro 0 1\nUUID=@/dev/sda1@ /boot/efi vfat umask=0077 0 1\n"
        ),
        f"{CONNECTIONS}/lan.nmconnection": (
            "[connection]\nid=lan\ntype=bond\ninterface-name=bond0\n\n"
            "[bond]\nmode=active-backup\nmiimon=100\n\n"
            "[ipv4]\nmethod=manual\naddress1=192.0.2.24/24\ngateway=192.0.2.1\n\n[ipv6]\nmethod=disabled\n"
        ),
        f"{CONNECTIONS}/one.nmconnection": _slave("one", "ens192"),
        f"{CONNECTIONS}/two.nmconnection": _slave("two", "ens224"),
        f"{CONNECTIONS}/lan20.nmconnection": (
            "[connection]\nid=lan20\ntype=vlan\ninterface-name=lan20\n\n[vlan]\nid=20\nparent=bond0\n\n"
            "[ipv4]\nmethod=manual\naddress1=198.51.100.24/24\n\n[ipv6]\nmethod=disabled\n"
        ),
    },
)

_SYSTEMD_BOOT_BTRFS = Guest(
    name="systemd-boot-btrfs",
    suite="bookworm",
    covers="boot entries of two kernels on an ESP that fstab leaves out, one without virtio; a snapshot",
    uefi=True,
    fallback=True,
    loader=Loader.SYSTEMD_BOOT,
    other_kernel="5.10.99-vmware",
    packages=("systemd-boot", "btrfs-progs", "netplan.io"),
    layout=Layout(
        disks_mib=(2560,),
        table="gpt",
        partitions=(Partition("/dev/sda1", 256, Holds.ESP), Partition("/dev/sda2", 2200)),
        filesystems=(
            Filesystem("/dev/sda2", "btrfs", "/", subvolume="@", snapshot="@before"),
            Filesystem("/dev/sda2", "btrfs", "/home", subvolume="@home"),
            Filesystem("/dev/sda1", "vfat", "/boot/efi"),
        ),
    ),
    nics=(
        Nic("ens192", _mac(15, 1), ("192.0.2.25/24", "198.51.100.25/24")),
        Nic("ens224", _mac(15, 2)),
    ),
    units=("systemd-networkd.service",),
    files={
        **_host("systemd-boot-btrfs", 15),
        **_listed("btrfs"),
        "/etc/kernel/cmdline": "root=UUID=@/dev/sda2@ rootflags=subvol=@ ro quiet\n",
        "/etc/kernel/install.conf": "layout=bls\nBOOT_ROOT=/boot/efi\n",
        "/etc/fstab": (
            "UUID=@/dev/sda2@ / btrfs defaults,subvol=@ 0 0\n"
            "UUID=@/dev/sda2@ /home btrfs defaults,subvol=@home 0 0\n"
        ),
        "/etc/netplan/50-lan.yaml": """\
network:
  version: 2
  ethernets:
    ens192: {}
    ens224: {}
  bonds:
    bond0:
      interfaces: [ens192, ens224]
      addresses: [192.0.2.25/24]
      parameters: {mode: active-backup, mii-monitor-interval: 100}
      routes:
        - to: default
          via: 192.0.2.1
  vlans:
    lan20:
      id: 20
      link: bond0
      addresses: [198.51.100.25/24]
""",
    },
)

_LUKS_DRACUT = Guest(
    name="luks-dracut",
    suite="bookworm",
    covers="subvolumes of btrfs in LUKS, which dracut opens with a key in its initramfs",
    initramfs=Initramfs.DRACUT,
    packages=("grub-pc", "cryptsetup", "btrfs-progs", "dracut", "ifupdown"),
    layout=Layout(
        disks_mib=(2560,),
        partitions=(Partition("/dev/sda1", 256), Partition("/dev/sda2", 2200)),
        encrypted=(Encrypted("sda2_crypt", "/dev/sda2", "correct horse stapled", "/etc/keys/system.key"),),
        filesystems=(
            Filesystem("/dev/sda1", "ext4", "/boot"),
            Filesystem("/dev/mapper/sda2_crypt", "btrfs", "/", subvolume="@"),
            Filesystem("/dev/mapper/sda2_crypt", "btrfs", "/home", subvolume="@home"),
        ),
    ),
    nics=(Nic("ens192", _mac(16), ("192.0.2.26/24",)),),
    files={
        **_host("luks-dracut", 16),
        **_grub(GRUB_BY_DEVICE),
        **HOSTONLY,
        "/etc/dracut.conf.d/20-key.conf": 'install_items+=" /etc/keys/system.key "\n',
        "/etc/crypttab": "sda2_crypt UUID=@/dev/sda2@ /etc/keys/system.key luks\n",
        "/etc/fstab": (
            "/dev/mapper/sda2_crypt / btrfs defaults,subvol=@ 0 0\n"
            "/dev/mapper/sda2_crypt /home btrfs defaults,subvol=@home 0 0\n"
            "/dev/sda1 /boot ext4 defaults 0 2\n"
        ),
        "/etc/network/interfaces": LOOPBACK
        + "auto ens192\niface ens192 inet static\n\taddress 192.0.2.26/24\n\tgateway 192.0.2.1\n",
    },
)

_TRIXIE_UNIFIED = Guest(
    name="trixie-unified",
    suite="trixie",
    covers="a unified kernel image of kernel-install's; NICs in another order than vSphere's",
    uefi=True,
    loader=Loader.SYSTEMD_BOOT,
    packages=("systemd-boot", "systemd-boot-efi", "systemd-ukify", "ifupdown"),
    layout=Layout(
        disks_mib=(2560,),
        table="gpt",
        partitions=(Partition("/dev/sda1", 256, Holds.ESP), Partition("/dev/sda2", 2200)),
        filesystems=(
            Filesystem("/dev/sda2", "ext4", "/"),
            Filesystem("/dev/sda1", "vfat", "/boot/efi"),
        ),
    ),
    nics=(
        Nic("eth1", _mac(17, 1), ("198.51.100.27/24",)),
        Nic("eth0", _mac(17, 2), ("192.0.2.27/24",)),
    ),
    files={
        **_host("trixie-unified", 17),
        **_listed("ext4", "vfat"),
        "/etc/kernel/cmdline": "root=/dev/sda2 ro quiet net.ifnames=0\n",
        "/etc/kernel/install.conf": "layout=uki\nBOOT_ROOT=/boot/efi\n",
        "/etc/fstab": "/dev/sda2 / ext4 errors=remount-ro 0 1\n/dev/sda1 /boot/efi vfat umask=0077 0 1\n",
        "/etc/network/interfaces": LOOPBACK
        + (
            "auto eth0\niface eth0 inet static\n\taddress 192.0.2.27/24\n\tgateway 192.0.2.1\n\n"
            "auto eth1\niface eth1 inet static\n\taddress 198.51.100.27/24\n"
        ),
    },
)

_MANY_NICS = Guest(
    name="many-nics",
    suite="bookworm",
    covers="NICs that wait for DHCP, have a MAC of the guest's, or names by their place, in another order",
    packages=("grub-pc", "ifupdown", "isc-dhcp-client", "vlan", "bridge-utils"),
    layout=Layout(
        disks_mib=(2560,),
        partitions=(Partition("/dev/sda1", 2400),),
        filesystems=(Filesystem("/dev/sda1", "ext4", "/"),),
    ),
    nics=(
        Nic("ens192", _mac(18, 1)),
        Nic("ens224", _mac(18, 2)),
        Nic("ens256", _mac(18, 3), ("198.51.100.28/24",)),
        Nic("zeta0", _mac(18, 4)),
        Nic("alpha0", _mac(18, 5)),
    ),
    files={
        **_host("many-nics", 18),
        **_grub(),
        **_listed("ext4"),
        "/etc/fstab": "UUID=@/dev/sda1@ / ext4 errors=remount-ro 0 1\n",
        "/etc/udev/rules.d/72-names.rules": (
            'ACTION=="add", SUBSYSTEM=="net", KERNELS=="0000:04:00.0", NAME="zeta0"\n'
            'ACTION=="add", SUBSYSTEM=="net", KERNELS=="0000:0c:00.0", NAME="alpha0"\n'
        ),
        "/etc/network/interfaces": LOOPBACK
        + (
            "auto ens192\niface ens192 inet dhcp\n\n"
            "auto ens224\niface ens224 inet static\n\taddress 192.0.2.28/24\n\tgateway 192.0.2.1\n"
            "\thwaddress ether 02:00:00:aa:12:02\n\n"
            "auto br0\niface br0 inet static\n\taddress 198.51.100.28/24\n"
            "\tbridge_ports ens256\n\tbridge_stp off\n\tbridge_fd 0\n\n"
            "auto zeta0\niface zeta0 inet static\n\taddress 203.0.113.1/26\n\n"
            "auto zeta0.20\niface zeta0.20 inet static\n\taddress 203.0.113.65/26\n\n"
            "auto alpha0\niface alpha0 inet static\n\taddress 203.0.113.129/26\n"
        ),
    },
)

_EXTLINUX = Guest(
    name="extlinux",
    suite="bookworm",
    covers="extlinux with a kernel under another name; what virtio depends on kept away by modprobe.d",
    loader=Loader.EXTLINUX,
    packages=("extlinux", "xz-utils", "ifupdown"),
    layout=Layout(
        disks_mib=(2560,),
        partitions=(Partition("/dev/sda1", 2300), Partition("/dev/sda2", 128)),
        filesystems=(Filesystem("/dev/sda1", "ext4", "/"), Filesystem("/dev/sda2", "ext4", "/lib/site")),
    ),
    nics=(Nic("ens192", _mac(30), ("192.0.2.30/24",)),),
    files={
        **_host("extlinux", 30),
        **_listed("ext4"),
        "/etc/initramfs-tools/conf.d/compress": "COMPRESS=xz\n",
        "/etc/modprobe.d/site.conf": "install virtio /bin/false\ninstall virtio_ring /bin/false\n",
        "/boot/extlinux/extlinux.conf": (
            "DEFAULT own\nPROMPT 0\nTIMEOUT 20\n\nLABEL linux\n\tLINUX /vmlinuz\n\tINITRD /initrd.img\n"
            "\tAPPEND root=/dev/sda1 ro quiet\n\nLABEL own\n\tKERNEL /boot/bzImage\n"
            "\tAPPEND initrd=/boot/ramdisk.gz root=/dev/sda1 ro quiet\n"
        ),
        "/usr/lib/site/readme": "a part of its own\n",
        "/etc/fstab": (
            "/dev/sda1 / ext4 errors=remount-ro 0 1\n/dev/sda2 /lib/site ext4 ro 0 2\n"
            "/srv /var/www none bind 0 0\ntmpfs /tmp tmpfs nosuid,nodev 0 0\n"
        ),
        "/var/www/index.html": "",
        "/etc/network/interfaces": LOOPBACK
        + "auto ens192\niface ens192 inet static\n\taddress 192.0.2.30/24\n\tgateway 192.0.2.1\n",
    },
)

ALL = (
    *FAST,
    _LVM_TWO_DISKS,
    _BULLSEYE_BTRFS,
    _TRIXIE_EFI_LVM,
    _XFS_LABEL,
    _MDRAID,
    _LUKS_KEY_FILE,
    _LUKS_PASSPHRASE,
    _BY_PATH,
    _TRIXIE_BRIDGE,
    _TWO_KERNELS,
    _BULLSEYE_EFI,
    _TRIXIE_MDRAID_EFI,
    _SYSTEMD_BOOT_BTRFS,
    _LUKS_DRACUT,
    _TRIXIE_UNIFIED,
    _MANY_NICS,
    _EXTLINUX,
)
GUESTS = {guest.name: guest for guest in ALL}
