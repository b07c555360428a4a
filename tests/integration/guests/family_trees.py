"""Red Hat's systems and Ubuntu by their files, as VMware leaves them, and the list of all families."""

from tests.integration.guests.families import Family, Tree
from tests.integration.guests.family_disks import (
    BOOT_UUID,
    MACHINE_ID,
    ONE,
    ROOT_UUID,
    SYSTEMD,
    TWO,
    boot_and_root,
    boot_swap_volume,
    environment,
    text,
    usr_merged,
)
from tests.integration.guests.suse_trees import SLES11, SLES15

CONTEXTS = r"""/.*	system_u:object_r:default_t:s0
/[^/]+	--	system_u:object_r:etc_runtime_t:s0
/usr/.*	system_u:object_r:usr_t:s0
/var/.*	system_u:object_r:var_t:s0
/etc/.*	system_u:object_r:etc_t:s0
/boot/.*	system_u:object_r:boot_t:s0
/usr/bin(/.*)?	system_u:object_r:bin_t:s0
/usr/(.*/)?lib(/.*)?	system_u:object_r:lib_t:s0
/lib/.*	system_u:object_r:lib_t:s0
/usr/lib/systemd/system(/.*)?	system_u:object_r:systemd_unit_file_t:s0
/etc/udev(/.*)?	system_u:object_r:udev_rules_t:s0
/etc/udev/rules.d(/.*)?	system_u:object_r:udev_rules_t:s0
/lib/modules(/.*)?	system_u:object_r:modules_object_t:s0
/etc/rc\.d/init\.d/.*	--	system_u:object_r:initrc_exec_t:s0
/etc	-d	system_u:object_r:etc_t:s0
/boot	-d	system_u:object_r:boot_t:s0
/	-d	system_u:object_r:root_t:s0
"""
"""A few lines of Red Hat's, in their order."""
SUBSTITUTIONS = "/etc/systemd/system /usr/lib/systemd/system\n/lib /usr/lib\n"


def _selinux(substitutions: str = SUBSTITUTIONS) -> Tree:
    return {
        "etc/selinux/config": b"# comment\nSELINUX=enforcing\nSELINUXTYPE=targeted\n",
        "etc/selinux/targeted/policy/policy.31": b"binary",
        "etc/selinux/targeted/contexts/files/file_contexts": text(CONTEXTS),
        "etc/selinux/targeted/contexts/files/file_contexts.subs_dist": text(substitutions),
    }


def _old_label(path: str) -> str:
    """One that no line of the policy gives: what is written over keeps it."""
    return f"system_u:object_r:{'etc' if path.startswith('/etc') else 'kept'}_t:s0"


OPEN_VM_TOOLS: Tree = {
    "usr/lib/systemd/system/vmtoolsd.service": (
        b"[Unit]\nConditionVirtualization=vmware\n[Service]\nExecStart=/usr/bin/vmtoolsd\n"
        b"[Install]\nWantedBy=multi-user.target\nAlso=vgauthd.service\n"
    ),
    "usr/lib/systemd/system/vgauthd.service": b"[Service]\nExecStart=/usr/bin/VGAuthService -s\n",
    "usr/lib/systemd/system/run-vmblock\\x2dfuse.mount": b"[Mount]\nWhat=vmware-vmblock-fuse\n",
    "etc/systemd/system/multi-user.target.wants/vmtoolsd.service": (
        b"-> /usr/lib/systemd/system/vmtoolsd.service"
    ),
    "etc/xdg/autostart/vmware-user.desktop": (
        b"[Desktop Entry]\nType=Application\nExec=/usr/bin/vmware-user-suid-wrapper\n"
    ),
    "etc/vmware-tools/tools.conf": b"[logging]\nlog = true\n",
    "etc/pam.d/vmtoolsd": b"auth required pam_unix.so\n",
}

RHEL8_KERNELS = ("4.18.0-553.el8_10.x86_64", "4.18.0-477.10.1.el8_8.x86_64")
KERNEL_OPTIONS = "root=/dev/mapper/rhel-root ro crashkernel=auto {} rd.lvm.lv=rhel/root rhgb quiet "


def _bls(version: str) -> bytes:
    return text(
        f"title Red Hat Enterprise Linux ({version}) 8.10 (Ootpa)\nversion {version}\n"
        f"linux /vmlinuz-{version}\ninitrd /initramfs-{version}.img $tuned_initrd\n"
        "options $kernelopts $tuned_params\nid rhel-20240101000000-"
        f"{version}\ngrub_users $grub_users\ngrub_arg --unrestricted\ngrub_class kernel\n"
    )


RESCUE = f"0-rescue-{MACHINE_ID}"
RHEL8 = Family(
    name="rhel8",
    size_mib=800,
    lay_out=boot_swap_volume("xfs", "rhel", "root", "xfs"),
    kernels=RHEL8_KERNELS,
    initramfs="boot/initramfs-{}.img",
    suffix=".ko.xz",
    label=_old_label,
    has_rpm=True,
    tree={
        **usr_merged(),
        **_selinux(),
        **OPEN_VM_TOOLS,
        "etc/redhat-release": b"Red Hat Enterprise Linux release 8.10 (Ootpa)\n",
        "etc/os-release": (
            b'NAME="Red Hat Enterprise Linux"\nVERSION="8.10 (Ootpa)"\nID="rhel"\nVERSION_ID="8.10"\n'
            b'PRETTY_NAME="Red Hat Enterprise Linux 8.10 (Ootpa)"\n'
        ),
        "etc/hostname": b"rhel8.example.com\n",
        "etc/fstab": text(
            "# Created by anaconda\n/dev/mapper/rhel-root   /       xfs     defaults        0 0\n"
            f"UUID={BOOT_UUID} /boot  xfs     defaults        0 0\n"
            "/dev/sda2               none    swap    defaults        0 0\n"
        ),
        "etc/default/grub": text(
            "GRUB_TIMEOUT=5\nGRUB_DEFAULT=saved\nGRUB_DISABLE_SUBMENU=true\n"
            'GRUB_CMDLINE_LINUX="crashkernel=auto resume=/dev/sda2 rd.lvm.lv=rhel/root rhgb quiet"\n'
            "GRUB_ENABLE_BLSCFG=true\n"
        ),
        "boot/grub2/grub.cfg": b'set default="${saved_entry}"\ninsmod blscfg\nblscfg\n',
        "boot/grub2/grubenv": environment(
            f"saved_entry={MACHINE_ID}-{RHEL8_KERNELS[0]}",
            f"kernelopts={KERNEL_OPTIONS.format('resume=/dev/sda2')}",
            "boot_success=0",
        ),
        **{f"boot/loader/entries/{MACHINE_ID}-{version}.conf": _bls(version) for version in RHEL8_KERNELS},
        f"boot/loader/entries/{MACHINE_ID}-0-rescue.conf": _bls(RESCUE),
        f"boot/vmlinuz-{RESCUE}": b"a kernel that nobody boots",
        f"boot/initramfs-{RESCUE}.img": b"made for any hardware",
        "usr/bin/dracut": b"#!/bin/sh\nexit 1\n",
        "etc/dracut.conf.d/site.conf": b'omit_drivers+=" floppy virtio_blk "\n',
        "usr/lib/systemd/libsystemd-shared-239.so": b"",
        **SYSTEMD,
        "usr/lib/udev/rules.d/80-net-setup-link.rules": b"",
        "etc/udev/rules.d/": b"",
        "etc/sysconfig/network-scripts/ifcfg-ens192": (
            b"TYPE=Ethernet\nBOOTPROTO=none\nNAME=ens192\nDEVICE=ens192\nONBOOT=yes\n"
            b"IPADDR=192.0.2.31\nPREFIX=24\nGATEWAY=192.0.2.1\n"
        ),
        "etc/sysconfig/network-scripts/route-ens192": b"198.51.100.0/24 via 192.0.2.2\n",
        "etc/sysconfig/network-scripts/ifcfg-Storage": text(
            f"TYPE=Ethernet\nBOOTPROTO=none\nNAME=Storage\nDEVICE=ens224\nHWADDR={TWO.upper()}\n"
            "IPADDR=198.51.100.31\nPREFIX=24\nMTU=9000\n"
        ),
        "etc/lvm/lvm.conf": b'devices {\n\tfilter = [ "a|^/dev/sda.*|", "r|.*|" ]\n}\n',
    },
)

CENTOS6_KERNEL = "2.6.32-754.el6.x86_64"
CENTOS6 = Family(
    name="centos6",
    size_mib=200,
    lay_out=boot_and_root("ext4", 64),
    kernels=(CENTOS6_KERNEL,),
    initramfs="boot/initramfs-{}.img",
    label=_old_label,
    tree={
        **{f"{name}/": b"" for name in ("bin", "sbin", "lib", "usr/bin", "usr/sbin", "usr/lib64", "tmp")},
        **{f"{name}/": b"" for name in ("var/tmp", "proc", "sys", "dev", "boot")},
        **_selinux("/usr/lib64 /usr/lib\n"),
        "etc/redhat-release": b"CentOS release 6.10 (Final)\n",
        "etc/sysconfig/network": b"NETWORKING=yes\nHOSTNAME=centos6.example.com\n",
        "etc/fstab": (
            b"/dev/sda2               /       ext4    defaults        1 1\n"
            b"/dev/sda1               /boot   ext4    defaults        1 2\n"
            b"tmpfs                   /dev/shm tmpfs  defaults        0 0\n"
            b"/dev/fd0                /media/floppy auto noauto       0 0\n"
            b"/dev/cdrom              /media/cdrom iso9660 ro,noauto  0 0\n"
            b".host:/ /mnt/hgfs vmhgfs defaults,ttl=5 0 0\n"
        ),
        "boot/grub/grub.conf": text(
            "# grub.conf generated by anaconda\ndefault=0\ntimeout=5\n"
            "splashimage=(hd0,0)/grub/splash.xpm.gz\nhiddenmenu\n"
            f"title CentOS ({CENTOS6_KERNEL})\n\troot (hd0,0)\n"
            f"\tkernel /vmlinuz-{CENTOS6_KERNEL} ro root=/dev/sda2 rd_NO_LUKS rd_NO_MD rhgb quiet\n"
            f"\tinitrd /initramfs-{CENTOS6_KERNEL}.img\n"
        ),
        "boot/grub/menu.lst": b"-> ./grub.conf",
        "etc/grub.conf": b"-> ../boot/grub/grub.conf",
        "boot/grub/device.map": b"# this device map was generated by anaconda\n(hd0)     /dev/sda\n",
        "sbin/init": b"upstart",
        "sbin/dracut": b"#!/bin/sh\nexit 1\n",
        "etc/dracut.conf": b'# Sample dracut config file\n#add_drivers+=""\n',
        "etc/udev/rules.d/70-persistent-net.rules": text(
            "# This file was automatically generated by the /lib/udev/write_net_rules\n\n"
            "# PCI device 0x15ad:0x07b0 (vmxnet3)\n"
            f'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{{address}}=="{ONE}", '
            'ATTR{type}=="1", KERNEL=="eth*", NAME="eth1"\n\n'
            f'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{{address}}=="{TWO}", '
            'ATTR{type}=="1", KERNEL=="eth*", NAME="eth0"\n'
        ),
        "etc/sysconfig/network-scripts/ifcfg-eth0": text(
            f"DEVICE=eth0\nHWADDR={TWO.upper()}\nBOOTPROTO=static\nONBOOT=yes\n"
            "IPADDR=192.0.2.11\nNETMASK=255.255.255.0\n"
        ),
        "etc/sysconfig/network-scripts/ifcfg-eth1": (
            b"DEVICE=eth1\nBOOTPROTO=static\nONBOOT=yes\nIPADDR=192.0.2.10\nNETMASK=255.255.255.0\n"
        ),
        "etc/rc.d/init.d/vmware-tools": b"#!/bin/sh\n# chkconfig: 235 03 99\n",
        "etc/rc.d/init.d/qemu-ga": b"#!/bin/sh\n# chkconfig: 345 85 15\n# processname: qemu-ga\n",
        "etc/rc.d/init.d/network": b"#!/bin/sh\n# chkconfig: 2345 10 90\n",
        "etc/init.d": b"-> rc.d/init.d",
        **{f"etc/rc.d/rc{level}.d/": b"" for level in range(7)},
        **{f"etc/rc{level}.d": text(f"-> rc.d/rc{level}.d") for level in range(7)},
        "etc/rc.d/rc3.d/S10network": b"-> ../init.d/network",
        "etc/rc.d/rc3.d/S03vmware-tools": b"-> ../init.d/vmware-tools",
        "etc/rc.d/rc5.d/S03vmware-tools": b"-> ../init.d/vmware-tools",
        "etc/init/vmware-tools.conf": b"start on runlevel [235]\nexec /etc/vmware-tools/services.sh start\n",
        "etc/init/rc.conf": b"start on runlevel [0123456]\n",
        "etc/vmware-tools/locations": b"answer BINDIR /usr/bin\n",
        "etc/vmware-tools/services.sh": b"#!/bin/sh\n",
        "etc/udev/rules.d/99-vmware-scsi-udev.rules": (
            b'ACTION=="add", SUBSYSTEMS=="scsi", ATTRS{vendor}=="VMware*", RUN+="/bin/sh -c true"\n'
        ),
        "etc/modprobe.d/vmware-tools.conf": b"install vmxnet /sbin/modprobe --ignore-install vmxnet\n",
        "etc/pam.d/vmtoolsd": b"auth required pam_unix.so\n",
        "etc/X11/xorg.conf": (
            b'Section "Device"\n\tIdentifier "Videocard0"\n\tDriver "vmware"\n\tBusID "PCI:0:15:0"\n'
            b"EndSection\n"
        ),
        "usr/lib64/xorg/modules/drivers/vesa_drv.so": b"",
        "etc/yum.repos.d/vmware-tools.repo": (
            b"[vmware-tools]\nname=VMware Tools\n"
            b"baseurl=http://packages.vmware.com/tools/esx/latest/rhel6/x86_64\nenabled=1\ngpgcheck=1\n"
        ),
        "etc/yum.repos.d/CentOS-Base.repo": (
            b"[base]\nname=CentOS-6 - Base\nbaseurl=http://mirror.example.com/6\nenabled=1\n"
        ),
    },
)

CENTOS7_KERNEL = "3.10.0-1160.el7.x86_64"
CENTOS7 = Family(
    name="centos7",
    size_mib=720,
    lay_out=boot_and_root("xfs", 330),
    kernels=(CENTOS7_KERNEL,),
    initramfs="boot/initramfs-{}.img",
    suffix=".ko.xz",
    tree={
        **usr_merged(),
        **OPEN_VM_TOOLS,
        # SELinux is on, and the policy's package has lost its contexts.
        "etc/selinux/config": b"SELINUX=permissive\nSELINUXTYPE=targeted\n",
        "etc/selinux/targeted/policy/policy.31": b"binary",
        "etc/centos-release": b"CentOS Linux release 7.9.2009 (Core)\n",
        "etc/redhat-release": b"-> centos-release",
        "etc/os-release": (
            b'NAME="CentOS Linux"\nVERSION="7 (Core)"\nID="centos"\nID_LIKE="rhel fedora"\n'
            b'VERSION_ID="7"\nPRETTY_NAME="CentOS Linux 7 (Core)"\n'
        ),
        "etc/fstab": (
            b"/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part2 / xfs defaults 0 0\n"
            b"/dev/sda1 /boot xfs defaults 0 0\n"
        ),
        "etc/default/grub": (
            b"GRUB_TIMEOUT=5\nGRUB_DEFAULT=saved\nGRUB_DISABLE_LINUX_UUID=true\n"
            b'GRUB_CMDLINE_LINUX="crashkernel=auto rhgb quiet rdblacklist=virtio_blk"\n'
        ),
        "boot/grub2/grub.cfg": text(
            'set default="${saved_entry}"\n### BEGIN /etc/grub.d/10_linux ###\n'
            "menuentry 'CentOS Linux 7 (Core)' --class centos --unrestricted $menuentry_id_option "
            f"'gnulinux-{CENTOS7_KERNEL}-advanced-{ROOT_UUID}' {{\n"
            f"\tlinux16 /vmlinuz-{CENTOS7_KERNEL} root=/dev/sda2 ro crashkernel=auto rhgb quiet "
            "rdblacklist=virtio_blk\n"
            f"\tinitrd16 /initramfs-{CENTOS7_KERNEL}.img\n}}\n"
        ),
        "boot/grub2/grubenv": environment("saved_entry=CentOS Linux 7 (Core)"),
        "boot/grub2/device.map": b"(hd0)      /dev/sda\n",
        "usr/sbin/dracut": b"#!/bin/sh\nexit 1\n",
        **SYSTEMD,
        "usr/lib/udev/rules.d/80-net-setup-link.rules": b"",
        "etc/udev/rules.d/": b"",
        "etc/sysconfig/network-scripts/ifcfg-bond0": (
            b'DEVICE=bond0\nTYPE=Bond\nBONDING_MASTER=yes\nBONDING_OPTS="mode=1 miimon=100"\n'
            b"BOOTPROTO=none\nONBOOT=yes\nNM_CONTROLLED=no\n"
        ),
        **{
            f"etc/sysconfig/network-scripts/ifcfg-{name}": text(
                f"DEVICE={name}\nMASTER=bond0\nSLAVE=yes\nONBOOT=yes\nNM_CONTROLLED=no\n"
            )
            for name in ("ens192", "ens224")
        },
        "etc/sysconfig/network-scripts/ifcfg-bond0.20": (
            b"DEVICE=bond0.20\nVLAN=yes\nBOOTPROTO=none\nIPADDR=192.0.2.37\nPREFIX=24\nONBOOT=yes\n"
        ),
        "usr/lib/systemd/system/qemu-guest-agent.service": (
            b"[Service]\nExecStart=/usr/bin/qemu-ga\n"
            b"[Install]\nWantedBy=dev-virtio\\x2dports-org.qemu.guest_agent.0.device\n"
        ),
        "etc/systemd/system/dev-virtio\\x2dports-org.qemu.guest_agent.0.device.wants/"
        "qemu-guest-agent.service": b"-> /usr/lib/systemd/system/qemu-guest-agent.service",
    },
)

UBUNTU22_KERNEL = "5.15.0-119-generic"
UBUNTU22 = Family(
    name="ubuntu22",
    size_mib=320,
    lay_out=boot_swap_volume("ext4", "ubuntu-vg", "ubuntu-lv", "ext4", 96),
    kernels=(UBUNTU22_KERNEL,),
    initramfs="boot/initrd.img-{}",
    tree={
        **usr_merged(),
        "etc/os-release": (
            b'NAME="Ubuntu"\nVERSION_ID="22.04"\nID=ubuntu\nID_LIKE=debian\n'
            b'PRETTY_NAME="Ubuntu 22.04.4 LTS"\n'
        ),
        "etc/lsb-release": b"DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=22.04\nDISTRIB_CODENAME=jammy\n",
        "etc/debian_version": b"bookworm/sid\n",
        "etc/fstab": text(
            "/dev/disk/by-id/dm-uuid-LVM-abcdef / ext4 defaults 0 1\n"
            f"/dev/disk/by-uuid/{BOOT_UUID} /boot ext4 defaults 0 1\n/swap.img none swap sw 0 0\n"
        ),
        "etc/default/grub": b'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT=""\nGRUB_CMDLINE_LINUX=""\n',
        "boot/grub/grub.cfg": text(
            "set default=\"0\"\nmenuentry 'Ubuntu' $menuentry_id_option 'gnulinux-simple' {\n"
            f"\tlinux /vmlinuz-{UBUNTU22_KERNEL} root=/dev/mapper/ubuntu--vg-ubuntu--lv ro\n"
            f"\tinitrd /initrd.img-{UBUNTU22_KERNEL}\n}}\n"
        ),
        "boot/vmlinuz": text(f"-> vmlinuz-{UBUNTU22_KERNEL}"),
        "boot/initrd.img": text(f"-> initrd.img-{UBUNTU22_KERNEL}"),
        "usr/sbin/update-initramfs": b"#!/bin/sh\nexit 1\n",
        "etc/initramfs-tools/modules": b"# List of modules\n",
        "etc/initramfs-tools/initramfs.conf": b"MODULES=dep\n",
        **SYSTEMD,
        "usr/lib/systemd/libsystemd-shared-249.so": b"",
        "usr/lib/udev/rules.d/80-net-setup-link.rules": b"",
        "etc/systemd/network/": b"",
        "etc/netplan/00-installer-config.yaml": text(
            "# This is the network config written by 'subiquity'\nnetwork:\n  version: 2\n  ethernets:\n"
            "    ens160:\n      addresses: [192.0.2.38/24]\n      routes: [{to: default, via: 192.0.2.1}]\n"
            f"    storage:\n      match:\n        macaddress: {TWO}\n        driver: vmxnet3\n"
            "      set-name: storage0\n      mtu: 9000\n"
        ),
        "usr/lib/systemd/system/open-vm-tools.service": b"[Install]\nWantedBy=multi-user.target\n",
        "usr/lib/systemd/system/vgauth.service": b"[Unit]\n",
        "etc/systemd/system/multi-user.target.wants/open-vm-tools.service": (
            b"-> /lib/systemd/system/open-vm-tools.service"
        ),
        "usr/lib/systemd/system/qemu-guest-agent.service": (
            b"[Unit]\nBindsTo=dev-virtio\\x2dports-org.qemu.guest_agent.0.device\n"
            b"[Install]\nWantedBy=multi-user.target\n"
        ),
    },
)

FAMILIES = {family.name: family for family in (RHEL8, CENTOS6, CENTOS7, SLES15, SLES11, UBUNTU22)}
