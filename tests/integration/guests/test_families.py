"""Guests of families that cannot be installed here, converted and looked at file by file.

`make test` has the first two, `make test-guests` all. None boots: there is no more of them than their files.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.dev.artifact import keep
from deploy.dev.layout import digest
from hyperctl.activities.acceleration import probe_acceleration
from hyperctl.activities.appliance import appliance_environment
from hyperctl.activities.convert.activity import convert_guest
from hyperctl.activities.convert.linux.cpio import read_archive
from hyperctl.activities.convert.order import Order
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import ConvertInput, ConvertResult
from hyperctl.workflows.guest import Outcome, Step, StepOutcome
from hyperctl.workflows.machine import MachineNic
from hyperctl.workflows.request import Fixers
from tests.found_out import AGAIN
from tests.integration.guests import families, family_trees
from tests.integration.guests.arrival import attempt, landed_disk
from tests.integration.guests.families import files_in
from tests.integration.guests.family_disks import BOOT_UUID, ONE, ROOT_UUID, SWAP_UUID, THREE, TWO
from tests.integration.guests.family_trees import (
    CENTOS6_KERNEL,
    CENTOS7_KERNEL,
    FAMILIES,
    KERNEL_OPTIONS,
    RHEL8_KERNELS,
    UBUNTU22_KERNEL,
)
from tests.integration.guests.suse_trees import SLES11_KERNEL, SLES15_KERNEL
from tests.unit.machines import disk, machine, nic

FAST = ("rhel8",)
WANTED = tuple(FAMILIES) if AGAIN else FAST
SNAPSHOTS = ".snapshots/"
"""Of a root that is one itself, where all its files are once more."""
LOOKED_AT_AGAIN = """
import json, sys
from hyperctl.activities.convert.child import FIXERS, run_fixer
from hyperctl.activities.convert.inspect import opened_guest
from hyperctl.activities.convert.linux.selinux import every_path
from hyperctl.activities.convert.order import Order
order = Order.model_validate_json(sys.stdin.read())
with opened_guest(order) as inspected:
    guest = inspected.files.guest
    guest.tar_out("/", sys.argv[1])
    paths = list(every_path(inspected.files))
    labels = {
        path: one["attrval"].decode().rstrip("\\0")
        for path in paths for one in guest.lgetxattrs(path) if one["attrname"] == "security.selinux"
    }
    steps = [run_fixer(fixer, inspected, order.fix).model_dump(mode="json") for fixer in FIXERS]
print(json.dumps({"paths": paths, "labels": labels, "steps": steps}))
"""

every = pytest.mark.skipif(not AGAIN, reason="one of `make test-guests`")
pytestmark = pytest.mark.timeout(1800)


@dataclass(frozen=True)
class Converted:
    result: ConvertResult
    before: Mapping[str, bytes]
    """The guest's files by their paths; a link is `-> TARGET`."""
    after: Mapping[str, bytes]
    paths: tuple[str, ...]
    labels: Mapping[str, str]
    """SELinux', by path."""
    again: tuple[StepOutcome, ...]

    @property
    def steps(self) -> dict[Step, StepOutcome]:
        return {step.step: step for step in self.result.steps}

    @property
    def changed(self) -> set[str]:
        everything = self.before.keys() | self.after.keys()
        return {path for path in everything if self.before.get(path) != self.after.get(path)}

    def text(self, path: str) -> str:
        return self.after[path].decode()


@pytest.fixture(scope="module")
def images() -> Path:
    """Made once of the same code and modules of this host; nothing writes to them."""

    def build(folder: Path) -> None:
        argv = [sys.executable, "-m", families.__name__, str(folder), *WANTED]
        with appliance_environment(probe_acceleration()) as environment:
            subprocess.run(argv, check=True, env={**os.environ, **environment}, timeout=900)

    code = [Path(str(module.__file__)) for module in (families, family_trees)]
    modules = sorted(path.name for path in Path("/lib/modules").iterdir())
    return keep(digest(code, *modules, *WANTED), build, "families")


TWO_NICS = (nic(1, mac=ONE), nic(2, mac=TWO))


def convert(
    name: str, folder: Path, images: Path, nics: tuple[MachineNic, ...] = TWO_NICS, **asked: object
) -> Converted:
    """The guest's files before, and after a conversion and the beginning of a second one."""
    Staging(folder, f"job-{name}").create()
    image = images / f"{name}.raw"
    about = machine(name=name, disks=(disk(),), nics=nics)
    argument = ConvertInput(
        job_id=f"job-{name}",
        output_dir=str(folder),
        machine=about,
        disks=(landed_disk(1, image),),
        fix=Fixers(),
    ).model_copy(update=asked)
    result = convert_guest(argument, attempt())
    order = Order(machine=about, overlays=(result.disks[0].overlay,), fix=Fixers())
    tree = folder / "after.tar"
    with appliance_environment(probe_acceleration()) as environment:
        done = subprocess.run(
            [sys.executable, "-c", LOOKED_AT_AGAIN, str(tree)],
            input=order.model_dump_json().encode(),
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            timeout=600,
            check=True,
        )
    seen = json.loads(done.stdout)
    return Converted(
        result,
        files_in(images / f"{name}.tar"),
        {path: content for path, content in files_in(tree).items() if not path.startswith(SNAPSHOTS)},
        tuple(seen["paths"]),
        seen["labels"],
        tuple(StepOutcome.model_validate(step) for step in seen["steps"]),
    )


def assert_nothing_again(converted: Converted) -> None:
    assert {(step.step, step.outcome, step.changed) for step in converted.again} == {
        (step.step, Outcome.NOT_NEEDED, ()) for step in converted.again
    }


def assert_every_label(converted: Converted, kinds: Mapping[str, str]) -> None:
    """What was made has the policy's label, what was written over its own, and nothing has none."""
    bare = set(converted.paths) - converted.labels.keys() - {"/lost+found", "/boot/lost+found"}
    assert bare == set()
    assert {path: converted.labels[path].split(":")[2] for path in kinds} == dict(kinds)


def agent_link(target: str) -> str:
    return f"etc/systemd/system/{target}.wants/qemu-guest-agent.service"


def modules_in(archive: bytes) -> set[str]:
    names = read_archive(archive).entries
    return {name.rpartition("/")[2].partition(".")[0] for name in names if ".ko" in name}


def test_red_hat_8(tmp_path: Path, images: Path) -> None:
    """xfs on LVM, entries whose arguments are in GRUB's environment, ifcfg, SELinux, open-vm-tools."""
    found = convert("rhel8", tmp_path, images, guest_packages=str(images / "rpms"))
    assert found.result.guest.product_name == "Red Hat Enterprise Linux 8.10 (Ootpa)"
    assert found.result.guest.kernels == RHEL8_KERNELS
    assert found.result.guest.initramfs_tool == "dracut"
    images_of = {f"boot/initramfs-{version}.img" for version in RHEL8_KERNELS}
    masks = {f"etc/systemd/system/{unit}" for unit in ("vmtoolsd.service", "vgauthd.service")}
    masks.add("etc/systemd/system/run-vmblock\\x2dfuse.mount")
    rules = "etc/udev/rules.d/71-hyperctl-nic-names.rules"
    dracut = "etc/dracut.conf.d/50-hyperctl-virtio.conf"
    agent = agent_link("multi-user.target")
    installed = {
        "usr/bin/qemu-ga",
        "usr/lib/systemd/system/qemu-guest-agent.service",
        "usr/share/liburing/library",
    }
    database = {path for path in found.changed if path.startswith("var/lib/rpm/")}
    assert database, "the guest's rpm knows of them"
    assert found.changed - database == images_of | masks | installed | {
        "etc/fstab",
        "etc/default/grub",
        "boot/grub2/grubenv",
        "etc/lvm/lvm.conf",
        "etc/dracut.conf.d/site.conf",
        "etc/xdg/autostart/vmware-user.desktop",
        agent,
        dracut,
        rules,
    }
    assert found.after[agent] == b"-> /usr/lib/systemd/system/qemu-guest-agent.service"
    for path in images_of:
        assert {"virtio_pci", "virtio_blk", "vmw_pvscsi"} <= modules_in(found.after[path])
    swap = f"resume=UUID={SWAP_UUID}"
    block = found.after["boot/grub2/grubenv"]
    assert len(block) == len(found.before["boot/grub2/grubenv"])
    assert f"\nkernelopts={KERNEL_OPTIONS.format(swap)}\n".encode() in block
    assert swap in found.text("etc/default/grub")
    assert f"\nUUID={SWAP_UUID}               none    swap" in found.text("etc/fstab")
    assert (
        found.text("etc/fstab").replace(f"UUID={SWAP_UUID}", "/dev/sda2")
        == found.before["etc/fstab"].decode()
    )
    assert found.text("etc/dracut.conf.d/site.conf") == 'omit_drivers+=" floppy "\n'
    for mac, name in ((ONE, "ens192"), (TWO, "ens224")):
        assert f'ATTR{{address}}=="{mac}", NAME="{name}"' in found.text(rules)
    assert {found.after[mask] for mask in masks} == {b"-> /dev/null"}
    assert "\nHidden=true\n" in found.text("etc/xdg/autostart/vmware-user.desktop")
    assert_every_label(
        found,
        {
            f"/{rules}": "udev_rules_t",
            f"/{dracut}": "etc_t",
            "/usr/bin/qemu-ga": "bin_t",
            f"/{agent}": "systemd_unit_file_t",
            **{f"/{mask}": "systemd_unit_file_t" for mask in masks},
            "/etc/fstab": "etc_t",
            "/boot/grub2/grubenv": "kept_t",
        },
    )
    assert "liburing 2.3-1.el8 installed" in found.steps[Step.AGENT].detail
    assert "qemu-guest-agent 6.2.0-1.el8 installed" in found.steps[Step.AGENT].detail
    assert "labelled by the guest's policy" in found.steps[Step.LABELS].detail
    assert_nothing_again(found)


@every
def test_centos_6(tmp_path: Path, images: Path) -> None:
    """GRUB legacy, names by 70-persistent-net.rules, scripts and Upstart, VMware's tarball, SELinux."""
    found = convert("centos6", tmp_path, images)
    assert found.result.guest.product_name.startswith("CentOS release 6.10")
    assert found.result.guest.kernels == (CENTOS6_KERNEL,)
    retired = {
        "etc/init/vmware-tools.conf",
        "etc/udev/rules.d/99-vmware-scsi-udev.rules",
        "etc/udev/rules.d/70-persistent-net.rules",
        "etc/modprobe.d/vmware-tools.conf",
        "etc/pam.d/vmtoolsd",
    }
    for path in retired:
        assert found.after[f"{path}.before-hyperctl"] == found.before[path]
    scripts = {f"etc/rc.d/rc{level}.d/{name}vmware-tools" for level in "35" for name in ("S03", "K01")}
    scripts |= {f"etc/rc.d/rc{level}.d/{'S85' if level in '345' else 'K15'}qemu-ga" for level in "0123456"}
    rules = "etc/udev/rules.d/71-hyperctl-nic-names.rules"
    initramfs = f"boot/initramfs-{CENTOS6_KERNEL}.img"
    dracut = "etc/dracut.conf.d/50-hyperctl-virtio.conf"
    assert found.changed == retired | {f"{path}.before-hyperctl" for path in retired} | scripts | {
        initramfs,
        rules,
        dracut,
        "etc/fstab",
        "boot/grub/grub.conf",
        "boot/grub/device.map",
        "etc/X11/xorg.conf",
        "etc/yum.repos.d/vmware-tools.repo",
    }
    assert {"virtio_pci", "virtio_blk", "vmw_pvscsi"} <= modules_in(found.after[initramfs])
    assert found.before["boot/grub/grub.conf"].decode().replace(
        "/dev/sda2", f"UUID={ROOT_UUID}"
    ) == found.text("boot/grub/grub.conf")
    assert found.after["boot/grub/menu.lst"] == b"-> ./grub.conf"
    assert found.text("boot/grub/device.map").endswith("(hd0)     /dev/vda\n")
    lines = found.text("etc/fstab").splitlines()
    assert lines[0] == f"UUID={ROOT_UUID}               /       ext4    defaults        1 1"
    assert lines[1].startswith(f"UUID={BOOT_UUID} ")
    assert [line[0] for line in lines] == ["U", "U", "t", "#", "/", "#"]
    for mac, name in ((ONE, "eth1"), (TWO, "eth0")):
        assert f'ATTR{{address}}=="{mac}", NAME="{name}"' in found.text(rules)
    assert found.result.guest.nic_order == (TWO, ONE), "as a kernel must find eth0 and eth1"
    assert 'Driver "vesa"\n\t# BusID' in found.text("etc/X11/xorg.conf")
    assert "enabled=0" in found.text("etc/yum.repos.d/vmware-tools.repo")
    assert_every_label(
        found,
        {
            f"/{rules}": "udev_rules_t",
            "/etc/dracut.conf.d": "etc_t",
            f"/{dracut}": "etc_t",
            "/etc/fstab": "etc_t",
            f"/{initramfs}": "kept_t",
        },
    )
    assert_nothing_again(found)


@every
def test_centos_7(tmp_path: Path, images: Path) -> None:
    """xfs, GRUB 2 without entries of its own, a bond and a VLAN, a policy without contexts."""
    found = convert("centos7", tmp_path, images, (*TWO_NICS, nic(3, mac=THREE, pci_slot=256)))
    initramfs = f"boot/initramfs-{CENTOS7_KERNEL}.img"
    rules = "etc/udev/rules.d/71-hyperctl-nic-names.rules"
    masks = {path for path in found.changed if found.after.get(path) == b"-> /dev/null"}
    assert len(masks) == 3
    assert found.changed == masks | {
        initramfs,
        rules,
        "etc/fstab",
        "etc/default/grub",
        "boot/grub2/grub.cfg",
        "boot/grub2/device.map",
        "etc/dracut.conf.d/50-hyperctl-virtio.conf",
        "etc/xdg/autostart/vmware-user.desktop",
    }
    menu = found.text("boot/grub2/grub.cfg")
    assert f"root=UUID={ROOT_UUID} ro crashkernel=auto rhgb quiet\n" in menu
    assert "GRUB_DISABLE_LINUX_UUID=false" in found.text("etc/default/grub")
    assert "rdblacklist" not in menu + found.text("etc/default/grub")
    assert found.text("etc/fstab").splitlines() == [
        f"UUID={ROOT_UUID} / xfs defaults 0 0",
        f"UUID={BOOT_UUID} /boot xfs defaults 0 0",
    ]
    for mac, name in ((ONE, "ens192"), (TWO, "ens224"), (THREE, "ens256")):
        assert f'ATTR{{address}}=="{mac}", NAME="{name}"' in found.text(rules), (
            "a firewall may know the third"
        )
    (warning,) = found.steps[Step.LABELS].warnings
    assert "file_contexts is missing" in warning, "its own tools could not label its files either"
    assert_nothing_again(found)


@every
def test_sles_15(tmp_path: Path, images: Path) -> None:
    """The root is a snapshot of btrfs, the network is wicked's, names of NICs are the kernel's in turns."""
    found = convert("sles15", tmp_path, images)
    assert found.result.guest.product_name == "SUSE Linux Enterprise Server 15 SP5"
    links = {f"etc/systemd/network/10-hyperctl-eth{number}.link" for number in (0, 1)}
    rules = "etc/udev/rules.d/70-persistent-net.rules"
    assert found.changed == links | {
        f"boot/initrd-{SLES15_KERNEL}",
        rules,
        f"{rules}.before-hyperctl",
        "etc/fstab",
        "etc/default/grub",
        "boot/grub2/grub.cfg",
        "etc/dracut.conf.d/50-hyperctl-virtio.conf",
        "etc/systemd/system/vmtoolsd.service",
        "etc/zypp/repos.d/vmware-tools.repo",
    }
    assert found.before["etc/fstab"].decode().replace(
        "/dev/disk/by-id/scsi-36000c29a1b2c3d4e5f60718293a4b5c6-part2", f"UUID={SWAP_UUID}"
    ) == found.text("etc/fstab")
    for path in ("etc/default/grub", "boot/grub2/grub.cfg"):
        assert f"resume=UUID={SWAP_UUID} mitigations=auto" in found.text(path)
    assert f"PermanentMACAddress={TWO}\n\n[Link]\nName=eth0\n" in found.text(
        "etc/systemd/network/10-hyperctl-eth0.link"
    )
    assert found.result.guest.nic_order == (TWO, ONE)
    assert_nothing_again(found)


@every
def test_sles_11(tmp_path: Path, images: Path) -> None:
    """ext3, GRUB legacy, SUSE's own mkinitrd, a kernel without virtio_scsi, names by udev's rules."""
    found = convert("sles11", tmp_path, images)
    assert found.result.guest.product_name == "SUSE Linux Enterprise Server 11 (x86_64)"
    assert (found.result.guest.kernels, found.result.guest.initramfs_tool) == ((SLES11_KERNEL,), "mkinitrd")
    old, rules = (f"etc/udev/rules.d/{name}.rules" for name in ("70-persistent-net", "71-hyperctl-nic-names"))
    scripts = {f"etc/init.d/rc{level}.d/{name}vmware-tools" for level in "35" for name in ("S01", "K01")}
    initrd = f"boot/initrd-{SLES11_KERNEL}"
    assert found.changed == scripts | {
        *(initrd, rules, old, f"{old}.before-hyperctl"),
        "etc/fstab",
        "etc/sysconfig/kernel",
        "etc/sysconfig/bootloader",
        "boot/grub/menu.lst",
        "boot/grub/device.map",
    }
    settings = 'INITRD_MODULES="vmw_pvscsi sd_mod dm-mod virtio_pci virtio_blk virtio_net"\n'
    assert settings in found.text("etc/sysconfig/kernel"), "of what its kernel has, else mkinitrd fails"
    assert modules_in(found.after[initrd]) >= {"virtio_pci", "virtio_blk", "virtio_net", "vmw_pvscsi"}
    assert found.steps[Step.REBUILD].detail.startswith(f"/{initrd} by mkinitrd: ")
    swap = f"UUID={SWAP_UUID}"
    for path in ("boot/grub/menu.lst", "etc/sysconfig/bootloader"):
        before = found.before[path].decode()
        assert found.text(path) == (
            before.replace("root=/dev/sda2", f"root=UUID={ROOT_UUID}").replace("/dev/sda1", swap)
        )
    assert found.text("boot/grub/device.map") == "(hd0)\t/dev/vda\n"
    fstab = found.before["etc/fstab"].decode().splitlines()
    fstab[0] = f"{swap} swap swap defaults 0 0"
    fstab[1] = fstab[1].replace("/dev/sda2", f"UUID={ROOT_UUID}")
    assert found.text("etc/fstab").splitlines() == fstab
    for mac, name in ((ONE, "eth1"), (TWO, "eth0")):
        assert f'ATTR{{address}}=="{mac}", NAME="{name}"' in found.text(rules)
    assert found.after[f"{old}.before-hyperctl"] == found.before[old]
    assert found.result.guest.nic_order == (TWO, ONE)
    assert_nothing_again(found)


@every
def test_ubuntu_22(tmp_path: Path, images: Path) -> None:
    """netplan by name and by MAC and driver, LVM, open-vm-tools, an agent whose links are in /lib."""
    found = convert("ubuntu22", tmp_path, images)
    netplan, link = "etc/netplan/00-installer-config.yaml", "etc/systemd/network/10-hyperctl-ens160.link"
    masks = {f"etc/systemd/system/{unit}" for unit in ("open-vm-tools.service", "vgauth.service")}
    agent = agent_link("multi-user.target")
    assert found.changed == masks | {
        f"boot/initrd.img-{UBUNTU22_KERNEL}",
        "etc/initramfs-tools/modules",
        netplan,
        link,
        agent,
    }
    assert found.after[agent] == b"-> /lib/systemd/system/qemu-guest-agent.service"
    assert found.text(netplan) == found.before[netplan].decode().replace("vmxnet3", "virtio_net")
    assert f"PermanentMACAddress={ONE}\n" in found.text(link)
    assert_nothing_again(found)
