"""The shell script that makes a guest's disks bootable, to be run in libguestfs' appliance as root.

It partitions and formats, fills what could not be filled from outside, and installs the boot loader as the
guest itself does: in its own root, with the disks on VMware's controller.
"""

import base64
import shlex
from collections.abc import Mapping

from deploy.dev.guest.guest import Encrypted, Filesystem, Guest, Holds, Initramfs, Layout, Loader

SERIAL = "guest"
"""A disk's serial number is this and its number, counted from 1."""
ROOT = "/sysroot"

_MBR_TYPES = {Holds.DATA: "83", Holds.SWAP: "82", Holds.LVM: "8e", Holds.RAID: "fd", Holds.ESP: "ef"}
_GPT_TYPES = {
    Holds.DATA: "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    Holds.SWAP: "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
    Holds.ESP: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    Holds.BIOS_BOOT: "21686148-6449-6E6F-744E-656564454649",
    Holds.LVM: "E6D6D379-F507-44C2-A23C-238F2A3DF928",
    Holds.RAID: "A19D880F-05FC-4D3B-A006-743F0F84911E",
}
OMITTED_FROM_DRACUT = (
    "virtio virtio_pci virtio_pci_modern_dev virtio_pci_legacy_dev virtio_ring virtio_blk virtio_scsi "
    "virtio_net virtio_console virtio_rng virtio_balloon virtio_input virtiofs virtio_gpu virtio_mmio"
)
"""The appliance has virtio, for its own disk; no machine on VMware has."""


def build_script(guest: Guest, images: Mapping[str, str], tree_has: Mapping[str, str]) -> str:
    """The whole of it. `images` are drives by the mount point whose content they hold, each by its serial
    number; `tree_has` are the files with `@DEVICE@` in them."""
    layout = guest.layout
    parts = [_HEAD]
    parts += [_disks(layout)]
    parts += [_tables(layout)]
    parts += [_storage(layout)]
    parts += [_filesystem(one, layout, images) for one in _in_order(layout)]
    if layout.swap:
        parts += [f"mkswap -q {at(layout, layout.swap)}"]
    parts += [f"install -D -m 600 /tmp/key {ROOT}{one.key_file}" for one in layout.encrypted]
    parts += [
        _uuids(layout, tree_has),
        _CHROOT,
        _initramfs(guest),
        _loader(guest),
        _renamed(layout),
        *_snapshots(layout),
        _TAIL,
    ]
    return "\n".join(part for part in parts if part)


def at(layout: Layout, device: str) -> str:
    """The shell's word for a device: the appliance's kernel has names of its own for the disks."""
    if device.startswith("/dev/sd"):
        return f"${{disk{layout.disk_of(device) + 1}}}{device[len('/dev/sda') :]}"
    return device


_HEAD = """\
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
exec 2>&1
modprobe vmw_pvscsi
udevadm settle
drive() {
    for tries in 1 2 3 4 5 6 7 8 9 10; do
        for link in /dev/disk/by-id/scsi-*_"$1"; do
            if [ -b "$link" ]; then readlink -f "$link"; return; fi
        done
        sleep 1; udevadm settle
    done
    echo "no drive $1" >&2; ls -l /dev/disk/by-id >&2; exit 1
}
"""


def _disks(layout: Layout) -> str:
    return "\n".join(f"disk{n}=$(drive {SERIAL}{n})" for n in range(1, len(layout.disks_mib) + 1))


def _tables(layout: Layout) -> str:
    pieces = []
    for disk in range(len(layout.disks_mib)):
        partitions = layout.partitions_of(disk)
        if not partitions:
            continue
        types = _GPT_TYPES if layout.table == "gpt" else _MBR_TYPES
        lines = [f"label: {'gpt' if layout.table == 'gpt' else 'dos'}"]
        start = 1
        for number, one in enumerate(partitions):
            bootable = ", bootable" if number == 0 and layout.table == "mbr" else ""
            lines.append(f"start={start}MiB, size={one.size_mib}MiB, type={types[one.holds]}{bootable}")
            start += one.size_mib
        pieces.append(
            f"sfdisk --quiet --wipe never --wipe-partitions never $disk{disk + 1} <<'END'\n"
            + "\n".join(lines)
            + "\nEND"
        )
    return "\n".join([*pieces, "udevadm settle"])


def _storage(layout: Layout) -> str:
    pieces = []
    for mirror in layout.mirrors:
        members = " ".join(at(layout, member) for member in mirror.members)
        pieces.append(
            f"mdadm --create {mirror.device} --run --quiet --assume-clean --level=1 --metadata=1.2 "
            f"--homehost=any --uuid={mirror.uuid} --raid-devices={len(mirror.members)} {members}"
        )
    if layout.encrypted:  # cryptsetup's hook looks up what crypttab names
        pieces += [
            f"[ -b {one.device} ] || ln -s {at(layout, one.device)} {one.device}" for one in layout.partitions
        ]
    pieces += [_encrypted(one, layout) for one in layout.encrypted]
    if group := layout.group:
        physical = " ".join(at(layout, device) for device in group.physical)
        pieces += [f"pvcreate -q -y {physical}", f"vgcreate -q -y {group.name} {physical}"]
        for name, size in group.volumes:
            pieces.append(f"lvcreate -q -y -Wy -n {name} -L {size}m {group.name}")
    return "\n".join([*pieces, "udevadm settle"]) if pieces else ""


def _encrypted(one: Encrypted, layout: Layout) -> str:
    """A cheap key derivation: the guest is opened many times without an acceleration of any kind."""
    device = at(layout, one.device)
    return f"""\
printf %s {shlex.quote(one.passphrase)} >/tmp/passphrase
echo {base64.b64encode(one.key).decode()} | base64 -d >/tmp/key
cryptsetup -q luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {device} /tmp/passphrase
cryptsetup -q luksAddKey --pbkdf pbkdf2 --pbkdf-force-iterations 1000 -d /tmp/passphrase {device} /tmp/key
cryptsetup luksOpen -d /tmp/key {device} {one.name}"""


def _in_order(layout: Layout) -> list[Filesystem]:
    return sorted(layout.filesystems, key=lambda one: (len(one.mount_point.rstrip("/")), one.mount_point))


def _filesystem(one: Filesystem, layout: Layout, images: Mapping[str, str]) -> str:
    """Make it where it was not made from outside, mount it where the guest has it, and fill it."""
    device, target = at(layout, one.device), f"{ROOT}{one.mount_point}".rstrip("/")
    pieces = [f"mkdir -p {target}"]
    first = next(other for other in _in_order(layout) if other.device == one.device)
    made = images.get(one.mount_point) == ""
    if not made and one == first:
        label = f"{'-n' if one.kind == 'vfat' else '-L'} {one.label}" if one.label else ""
        make = {
            "ext4": f"mke2fs -q -F -t ext4 {label}",
            "xfs": f"mkfs.xfs -q -f {label}",
            "btrfs": f"mkfs.btrfs -q -f {label}",
            "vfat": f"mkfs.vfat -F 32 {label}",
        }[one.kind]
        pieces.append(f"{make} {device}")
    elif made and one.label:
        pieces.append(f"tune2fs -L {one.label} {device}")
    if one.subvolume:
        pieces += [
            "mkdir -p /tmp/top",
            f"mount -t btrfs {device} /tmp/top",
            f"btrfs -q subvolume create /tmp/top/{one.subvolume}",
            "umount /tmp/top",
        ]
    options = f"-o subvol={one.subvolume}" if one.subvolume else ""
    pieces.append(f"mount -t {one.kind} {options} {device} {target}")
    if serial := images.get(one.mount_point):
        pieces += [
            "mkdir -p /tmp/from",
            f"mount -t ext4 -o ro,noload $(drive {serial}) /tmp/from",
            f"cp -a /tmp/from/. {target}/",
            "umount /tmp/from",
            f"rmdir {target}/lost+found 2>/dev/null || :",
        ]
    return "\n".join(pieces)


def _uuids(layout: Layout, files: Mapping[str, str]) -> str:
    """UUIDs in the place of `@DEVICE@`."""
    devices = {one.device for one in layout.filesystems} | {one.device for one in layout.encrypted}
    devices |= {layout.swap} if layout.swap else set()
    devices |= {partition.device for partition in layout.partitions}
    pieces = []
    for device in sorted(devices):
        named = [name for name, content in files.items() if f"@{device}@" in content]
        if named:
            paths = " ".join(f"{ROOT}{name}" for name in named)
            pieces.append(
                f'sed -i "s|@{device}@|$(blkid -p -s UUID -o value {at(layout, device)})|g" {paths}'
            )
    return "\n".join(pieces)


_CHROOT = f"""\
for folder in dev proc sys run; do
    mkdir -p {ROOT}/$folder
    mount --bind /$folder {ROOT}/$folder
done
in_guest() {{
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C SYSTEMD_RELAX_ESP_CHECKS=1 chroot {ROOT} "$@"
}}
"""


def _initramfs(guest: Guest) -> str:
    """What looks at the hardware is built where the hardware is."""
    if guest.initramfs is Initramfs.DRACUT:
        return f"""\
for folder in {ROOT}/lib/modules/*; do
    version=${{folder##*/}}
    rm -f {ROOT}/boot/initrd.img-$version
    in_guest dracut --force --quiet --hostonly --omit-drivers "{OMITTED_FROM_DRACUT}" \\
        --kver $version /boot/initrd.img-$version
done"""
    if guest.initramfs is Initramfs.DEP or guest.layout.encrypted:
        return "in_guest update-initramfs -c -k all"
    return ""


def _loader(guest: Guest) -> str:
    if guest.loader is Loader.SYSTEMD_BOOT:
        has_entries = "layout=uki" not in guest.files["/etc/kernel/install.conf"]
        unused = f"{ROOT}/boot/efi/EFI/BOOT" + (f" {ROOT}/boot/efi/EFI/Linux" if has_entries else "")
        folder = "yes" if has_entries else "no"
        remove = "" if guest.fallback else f"rm -rf {unused}\n"
        return f"""\
in_guest bootctl --no-variables --esp-path=/boot/efi --make-entry-directory={folder} install
for folder in {ROOT}/lib/modules/*; do
    version=${{folder##*/}}
    in_guest env BOOT_ROOT=/boot/efi \\
        kernel-install add $version /boot/vmlinuz-$version /boot/initrd.img-$version
done
{remove}find {ROOT}/boot/efi"""
    if guest.loader is Loader.EXTLINUX:
        return f"""\
cp -L {ROOT}/vmlinuz {ROOT}/boot/bzImage
cp -L {ROOT}/initrd.img {ROOT}/boot/ramdisk.gz
in_guest extlinux --install /boot/extlinux
dd if={ROOT}/usr/lib/EXTLINUX/mbr.bin of=$disk1 bs=440 count=1 conv=notrunc status=none"""
    if guest.uefi:
        extra = "--force-extra-removable" if guest.fallback else ""
        return f"""\
in_guest grub-install --target=x86_64-efi --no-nvram --efi-directory=/boot/efi --bootloader-id=debian {extra}
in_guest update-grub
find {ROOT}/boot/efi"""
    disks = {
        guest.layout.disk_of(one.device) for one in guest.layout.partitions if one.holds is not Holds.LVM
    }
    on = sorted(disks if guest.layout.mirrors else {0})
    install = [f"in_guest grub-install --target=i386-pc $disk{disk + 1}" for disk in on]
    return "\n".join([_HIDE_MAP, *install, "in_guest update-grub", _SHOW_MAP])


_MAP = f"{ROOT}/boot/grub/device.map"
_HIDE_MAP = f"if [ -f {_MAP} ]; then mv {_MAP} /tmp/device.map; fi"
"""GRUB's tools would believe it, and the appliance's disks have other names."""
_SHOW_MAP = f"if [ -f /tmp/device.map ]; then mv /tmp/device.map {_MAP}; fi"


def _renamed(layout: Layout) -> str:
    """The guest's names of the disks where its tools wrote the appliance's."""
    count = len(layout.disks_mib)
    marks = " ".join(f'-e "s|$disk{n}\\([0-9]*\\)\\b|/dev/@{n}\\1|g"' for n in range(1, count + 1))
    names = " ".join(f'-e "s|/dev/@{n}|/dev/sd{chr(96 + n)}|g"' for n in range(1, count + 1))
    return f"""\
for file in {ROOT}/boot/grub/grub.cfg {ROOT}/boot/efi/loader/entries/*.conf; do
    if [ -f "$file" ]; then
        sed -i {marks} {names} "$file"
        grep -E '^\\s*(linux|initrd|options)\\s' "$file" | sort -u
    fi
done"""


def _snapshots(layout: Layout) -> list[str]:
    return [
        f"""\
mkdir -p /tmp/top
mount -t btrfs {at(layout, one.device)} /tmp/top
btrfs -q subvolume snapshot -r /tmp/top/{one.subvolume} /tmp/top/{one.snapshot}
umount /tmp/top"""
        for one in layout.filesystems
        if one.snapshot
    ]


_TAIL = f"""\
umount -R {ROOT}
sync
"""
