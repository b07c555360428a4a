"""What trees of files lie on: partitions, filesystems, volumes, and what all trees have."""

from collections.abc import Callable

import guestfs

from hyperctl.activities.convert.linux.grub_environment import BYTES, HEAD
from tests.integration.guests.bench import in_appliance
from tests.integration.guests.families import Tree

ONE, TWO, THREE = (f"00:50:56:aa:bb:0{number}" for number in (1, 2, 3))
BOOT_UUID = "11111111-2222-4333-8444-555555555501"
ROOT_UUID = "11111111-2222-4333-8444-555555555502"
SNAPPER_UUID = "11111111-2222-4333-8444-555555555504"
"""Of its own: all are made in one appliance, and btrfs takes no UUID that another filesystem has there."""
SWAP_UUID = "11111111-2222-4333-8444-555555555503"
MACHINE_ID = "0123456789abcdef0123456789abcdef"


def text(content: str) -> bytes:
    return content.encode()


def part(guest: guestfs.GuestFS, device: str, table: str, *sizes_mib: int) -> list[str]:
    """Partitions one behind the other; the last takes what is left. Returns their devices."""
    guest.part_init(device, table)
    start = 1 << 11
    for size in sizes_mib:
        guest.part_add(device, "p", start, start + (size << 11) - 1)
        start += size << 11
    guest.part_add(device, "p", start, -(1 << 11))
    return [f"{device}{number}" for number in range(1, len(sizes_mib) + 2)]


def filesystem(guest: guestfs.GuestFS, kind: str, device: str, uuid: str) -> None:
    guest.mkfs(kind, device)
    guest.set_uuid(device, uuid)


def mount(guest: guestfs.GuestFS, **places: str) -> None:
    """`root`, and `boot` where it has a filesystem of its own."""
    guest.mount(places.pop("root"), "/")
    for name, device in places.items():
        guest.mkdir_p(f"/{name}")
        guest.mount(device, f"/{name}")


LayOut = Callable[[guestfs.GuestFS, str], None]


def boot_swap_volume(kind: str, group: str, volume: str, boot_kind: str, boot_mib: int = 330) -> LayOut:
    def lay_out(guest: guestfs.GuestFS, device: str) -> None:
        boot, swap, physical = part(guest, device, "msdos", boot_mib, 16)
        filesystem(guest, boot_kind, boot, BOOT_UUID)
        guest.mkswap(swap, uuid=SWAP_UUID)
        guest.pvcreate(physical)
        guest.vgcreate(group, [physical])
        guest.lvcreate_free(volume, group, 100)
        filesystem(guest, kind, f"/dev/{group}/{volume}", ROOT_UUID)
        mount(guest, root=f"/dev/{group}/{volume}", boot=boot)

    return lay_out


def boot_and_root(kind: str, boot_mib: int) -> LayOut:
    def lay_out(guest: guestfs.GuestFS, device: str) -> None:
        boot, root = part(guest, device, "msdos", boot_mib)
        filesystem(guest, kind, boot, BOOT_UUID)
        filesystem(guest, kind, root, ROOT_UUID)
        mount(guest, root=root, boot=boot)

    return lay_out


def swap_and_root(kind: str) -> LayOut:
    def lay_out(guest: guestfs.GuestFS, device: str) -> None:
        swap, root = part(guest, device, "msdos", 16)
        guest.mkswap(swap, uuid=SWAP_UUID)
        filesystem(guest, kind, root, ROOT_UUID)
        mount(guest, root=root)

    return lay_out


def snapper(guest: guestfs.GuestFS, device: str) -> None:
    """As SUSE's installer has it: the root is a snapshot, which is the default subvolume."""
    root, swap = part(guest, device, "msdos", 480)
    guest.debug("sh", [f"mkfs.btrfs -f -U {SNAPPER_UUID} {in_appliance(root)} 2>&1"])
    assert guest.vfs_uuid(root) == SNAPPER_UUID
    guest.mkswap(swap, uuid=SWAP_UUID)
    guest.mount(root, "/")
    for name in ("@", "@/.snapshots", "@/var", "@/boot"):
        (guest.mkdir if name == "@/boot" else guest.btrfs_subvolume_create)(f"/{name}")
    guest.mkdir("/@/boot/grub2")
    guest.btrfs_subvolume_create("/@/boot/grub2/i386-pc")
    guest.mkdir("/@/.snapshots/1")
    guest.btrfs_subvolume_create("/@/.snapshots/1/snapshot")
    found = {one["btrfssubvolume_path"]: one["btrfssubvolume_id"] for one in guest.btrfs_subvolume_list("/")}
    guest.btrfs_subvolume_set_default(found["@/.snapshots/1/snapshot"], "/")
    guest.umount("/")
    guest.mount(root, "/")
    for place in ("/var", "/boot/grub2/i386-pc", "/.snapshots"):
        guest.mkdir_p(place)
        guest.mount_options(f"subvol=@{place}", root, place)


def environment(*lines: str) -> bytes:
    """GRUB's environment block."""
    block = "".join([HEAD, *(f"{line}\n" for line in lines)])
    return block.ljust(BYTES, "#").encode()


def usr_merged() -> Tree:
    return {
        **{name: text(f"-> usr/{name}") for name in ("bin", "sbin", "lib", "lib64")},
        **{f"usr/{name}/": b"" for name in ("bin", "sbin", "lib", "lib64")},
        **{f"{name}/": b"" for name in ("var/tmp", "tmp", "proc", "sys", "dev", "etc", "boot")},
    }


SYSTEMD: Tree = {"usr/lib/systemd/systemd": b"", "usr/sbin/init": b"-> ../lib/systemd/systemd"}
