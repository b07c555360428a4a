"""SUSE's systems by their files, as VMware leaves them."""

from tests.integration.guests.families import Family
from tests.integration.guests.family_disks import (
    ONE,
    SNAPPER_UUID,
    SYSTEMD,
    TWO,
    environment,
    snapper,
    swap_and_root,
    text,
    usr_merged,
)

SLES15_KERNEL = "5.14.21-150500.55.19-default"
SLES15 = Family(
    name="sles15",
    size_mib=640,
    lay_out=snapper,
    kernels=(SLES15_KERNEL,),
    initramfs="boot/initrd-{}",
    suffix=".ko.xz",
    tree={
        **usr_merged(),
        "etc/os-release": (
            b'NAME="SLES"\nVERSION="15-SP5"\nVERSION_ID="15.5"\nID="sles"\nID_LIKE="suse"\n'
            b'PRETTY_NAME="SUSE Linux Enterprise Server 15 SP5"\n'
        ),
        "etc/HOSTNAME": b"sles15.example.com\n",
        "etc/fstab": text(
            f"UUID={SNAPPER_UUID}  /                     btrfs  defaults                    0  0\n"
            f"UUID={SNAPPER_UUID}  /var                  btrfs  subvol=/@/var               0  0\n"
            f"UUID={SNAPPER_UUID}  /boot/grub2/i386-pc   btrfs  subvol=/@/boot/grub2/i386-pc  0  0\n"
            f"UUID={SNAPPER_UUID}  /.snapshots           btrfs  subvol=/@/.snapshots        0  0\n"
            "/dev/disk/by-id/scsi-36000c29a1b2c3d4e5f60718293a4b5c6-part2  swap  swap  defaults  0  0\n"
        ),
        "etc/default/grub": (
            b'GRUB_DISTRIBUTOR="SLES"\nGRUB_DEFAULT=saved\nSUSE_BTRFS_SNAPSHOT_BOOTING="true"\n'
            b'GRUB_CMDLINE_LINUX_DEFAULT="splash=silent resume=/dev/sda2 mitigations=auto quiet"\n'
        ),
        "boot/grub2/grub.cfg": text(
            'set btrfs_relative_path="yes"\nset default="${saved_entry}"\n'
            "menuentry 'SLES 15-SP5'  --class sles $menuentry_id_option 'gnulinux-simple-1' {\n"
            f"\tlinux /boot/vmlinuz-{SLES15_KERNEL} root=UUID={SNAPPER_UUID}  splash=silent resume=/dev/sda2 "
            "mitigations=auto quiet\n"
            f"\tinitrd /boot/initrd-{SLES15_KERNEL}\n}}\n"
        ),
        "boot/grub2/grubenv": environment(),
        "boot/grub2/i386-pc/normal.mod": b"a module of GRUB's",
        "boot/vmlinuz": text(f"-> vmlinuz-{SLES15_KERNEL}"),
        "boot/initrd": text(f"-> initrd-{SLES15_KERNEL}"),
        "var/lib/misc/data": b"in a subvolume of its own",
        "usr/bin/dracut": b"#!/bin/sh\nexit 1\n",
        **SYSTEMD,
        "usr/lib/systemd/libsystemd-shared-249.so": b"",
        "usr/lib/udev/rules.d/80-net-setup-link.rules": b"",
        "etc/udev/rules.d/70-persistent-net.rules": text(
            f'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{{address}}=="{TWO}", '
            'ATTR{dev_id}=="0x0", ATTR{type}=="1", KERNEL=="eth*", NAME="eth0"\n'
            f'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{{address}}=="{ONE}", '
            'ATTR{dev_id}=="0x0", ATTR{type}=="1", KERNEL=="eth*", NAME="eth1"\n'
        ),
        "etc/sysconfig/network/ifcfg-eth0": b"BOOTPROTO='static'\nSTARTMODE='auto'\nIPADDR='192.0.2.34/24'\n",
        "etc/sysconfig/network/ifcfg-bond0": (
            b"BOOTPROTO='static'\nSTARTMODE='auto'\nBONDING_MASTER='yes'\nBONDING_SLAVE0='eth1'\n"
            b"IPADDR='198.51.100.34/24'\n"
        ),
        "etc/sysconfig/network/ifcfg-eth1": b"BOOTPROTO='none'\nSTARTMODE='hotplug'\n",
        "etc/sysconfig/network/routes": b"default 192.0.2.1 - -\n",
        "etc/wicked/common.xml": b"<config/>\n",
        "etc/sysconfig/bootloader": b'LOADER_TYPE="grub2"\n',
        "usr/lib/systemd/system/vmtoolsd.service": b"[Install]\nWantedBy=multi-user.target\n",
        "etc/zypp/repos.d/vmware-tools.repo": (
            b"[vmware-tools]\nenabled=1\nautorefresh=0\n"
            b"baseurl=http://packages.vmware.com/tools/esx/latest/sles11/x86_64\n"
        ),
    },
)

SLES11_KERNEL = "2.6.32.12-0.7-default"
MKINITRD = r"""#!/bin/sh
# In the place of SUSE's mkinitrd(8): takes its options, and fails where it fails.
set -e
refresh=yes
while getopts k:i:m:B option; do
    case $option in
        k) kernel=$OPTARG ;;
        i) output=$OPTARG ;;
        m) modules=$OPTARG ;;
        B) refresh= ;;
        *) exit 1 ;;
    esac
done
if [ -z "$modules" ]; then
    . /etc/sysconfig/kernel
    modules=$INITRD_MODULES
fi
version=${kernel##*/vmlinuz-}
[ -f "$kernel" ] && cd "/lib/modules/$version"
top=$(mktemp -d)
mkdir -p "$top/config" "$top/boot"
printf '#!/bin/bash
' > "$top/init"
echo "RESOLVED_INITRD_MODULES='$modules'" > "$top/config/start.sh"
for module in $modules; do
    files=$(grep -E "/$module\.ko:" modules.dep | tr -d :) || files=
    if [ -z "$files" ]; then
        echo "Cannot determine dependencies of module $module. Is modules.dep up to date?" >&2
        exit 1
    fi
    for file in $files; do
        mkdir -p "$top/lib/modules/$version/${file%/*}"
        cp "$file" "$top/lib/modules/$version/$file"
    done
done
(cd "$top" && find . | cpio --quiet -o -H newc) | gzip > "$output"
rm -r "$top"
if [ "$refresh" ]; then
    /sbin/update-bootloader --refresh
fi
"""
SLES11 = Family(
    name="sles11",
    size_mib=160,
    lay_out=swap_and_root("ext3"),
    kernels=(SLES11_KERNEL,),
    initramfs="boot/initrd-{}",
    lacks=("virtio_scsi",),
    programmes=tuple(
        f"/bin/{name}" for name in ("sh", "grep", "mktemp", "mkdir", "cp", "rm", "find", "cpio", "gzip", "tr")
    ),
    tree={
        **{f"{name}/": b"" for name in ("bin", "sbin", "lib64", "usr/bin", "usr/sbin", "tmp", "var/tmp")},
        **{f"{name}/": b"" for name in ("proc", "sys", "dev")},
        "etc/SuSE-release": b"SUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\nPATCHLEVEL = 1\n",
        "etc/HOSTNAME": b"sles11.example.com\n",
        "etc/fstab": (
            b"/dev/disk/by-id/scsi-36000c29a1b2c3d4e5f60718293a4b5c6-part1 swap swap defaults 0 0\n"
            b"/dev/sda2            /                    ext3       acl,user_xattr        1 1\n"
            b"proc                 /proc                proc       defaults              0 0\n"
            b"sysfs                /sys                 sysfs      noauto                0 0\n"
            b"debugfs              /sys/kernel/debug    debugfs    noauto                0 0\n"
            b"usbfs                /proc/bus/usb        usbfs      noauto                0 0\n"
            b"devpts               /dev/pts             devpts     mode=0620,gid=5       0 0\n"
        ),
        "boot/grub/menu.lst": text(
            "# Modified by YaST2. Last modification on Mon Jan  2 10:00:00 CET 2012\ndefault 0\ntimeout 8\n"
            "##YaST - generic_mbr\ngfxmenu (hd0,1)/boot/message\n##YaST - activate\n\n"
            "###Don't change this comment - YaST2 identifier: Original name: linux###\n"
            f"title SUSE Linux Enterprise Server 11 SP1 - {SLES11_KERNEL}\n    root (hd0,1)\n"
            f"    kernel /boot/vmlinuz-{SLES11_KERNEL} root=/dev/sda2 resume=/dev/sda1 showopts\n"
            f"    initrd /boot/initrd-{SLES11_KERNEL}\n"
        ),
        "boot/grub/device.map": b"(hd0)\t/dev/sda\n",
        "etc/grub.conf": b"setup --stage2=/boot/grub/stage2 --force-lba (hd0,1) (hd0,1)\nquit\n",
        "etc/sysconfig/bootloader": (
            b'LOADER_TYPE="grub"\nLOADER_LOCATION=""\n'
            b'DEFAULT_APPEND="resume=/dev/sda1 splash=silent showopts"\n'
            b'FAILSAFE_APPEND="showopts ide=nodma apm=off noresume edd=off powersaved=off"\n'
        ),
        "etc/sysconfig/kernel": (
            b'INITRD_MODULES="vmw_pvscsi sd_mod dm-mod"\nDOMU_INITRD_MODULES="xennet xenblk"\n'
            b'MODULES_LOADED_ON_BOOT=""\n'
        ),
        "boot/vmlinuz": text(f"-> vmlinuz-{SLES11_KERNEL}"),
        "boot/initrd": text(f"-> initrd-{SLES11_KERNEL}"),
        f"boot/System.map-{SLES11_KERNEL}": b"",
        "sbin/mkinitrd": text(MKINITRD),
        "sbin/update-bootloader": b"#!/bin/sh\necho no boot loader may be touched in here >&2\nexit 1\n",
        "lib/mkinitrd/setup/01-start.sh": b"#!/bin/bash\n",
        "lib/mkinitrd/boot/01-start.sh": b"#!/bin/bash\n",
        "sbin/init": b"sysvinit",
        "etc/inittab": b"id:3:initdefault:\n",
        "lib/udev/rules.d/75-persistent-net-generator.rules": b'NAME=="?*", GOTO="end"\n',
        "etc/udev/rules.d/70-persistent-net.rules": text(
            "# PCI device 0x15ad:0x07b0 (vmxnet3)\n"
            f'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{{address}}=="{TWO}", '
            'ATTR{type}=="1", KERNEL=="eth*", NAME="eth0"\n'
            f'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{{address}}=="{ONE}", '
            'ATTR{type}=="1", KERNEL=="eth*", NAME="eth1"\n'
        ),
        "etc/sysconfig/network/ifcfg-eth0": (
            b"BOOTPROTO='static'\nIPADDR='192.0.2.36/24'\nSTARTMODE='auto'\nNAME='VMware VMXNET3'\n"
        ),
        "etc/sysconfig/network/ifcfg-eth1": b"BOOTPROTO='static'\nIPADDR='198.51.100.36/24'\n",
        "etc/sysconfig/network/routes": b"default 192.0.2.1 - -\n",
        "etc/init.d/vmware-tools": b"#!/bin/sh\n### BEGIN INIT INFO\n# Provides: vmware-tools\n",
        "etc/init.d/rc3.d/S01vmware-tools": b"-> ../vmware-tools",
        "etc/init.d/rc5.d/S01vmware-tools": b"-> ../vmware-tools",
        "etc/init.d/rc3.d/S05network": b"-> ../network",
    },
)
