"""The boot proof without a boot: reading reports, judging them, diagnosing consoles, pictures."""

import struct
import subprocess
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperctl.activities.prove.console import diagnose, readable
from hyperctl.activities.prove.dead_end import dead_ends
from hyperctl.activities.prove.inject import edit_for_trial, for_trial
from hyperctl.activities.prove.report import GuestReport, parse_fstab, reports_in
from hyperctl.activities.prove.reporter import PORT_NAME, SCRIPT
from hyperctl.activities.prove.screen import png_from_ppm, png_of, text_from_vga
from hyperctl.activities.prove.verdict import judge, proof_of
from hyperctl.workflows.request import ProveMode
from tests.unit.machines import machine, nic
from tests.unit.tree import tree

NOW = 1_800_000_000
REPORT = f"""HYPERCTL-PROOF-BEGIN full
@ state
running
@ units
active
active
inactive
inactive
@ failed
@ jobs
@ kernel
6.1.0-1-amd64
@ uptime
41.07 60.21
@ clock
{NOW + 3}
@ mounts
/dev/vda2 / ext4 rw,relatime 0 0
/dev/vda1 /boot ext4 rw 0 0
/dev/mapper/vg--data-srv /srv/my\\040files xfs rw 0 0
@ fstab
# <source> <target>
UUID=aaaa / ext4 errors=remount-ro 0 1
UUID=bbbb /boot ext4 defaults 0 2
/dev/vg-data/srv /srv/my\\040files xfs defaults 0 0
LABEL=swap none swap sw 0 0
nas:/export /mnt/nas nfs defaults 0 0
/dev/sdb1 /mnt/usb ext4 nofail 0 0
@ swaps
Filename				Type		Size		Used		Priority
/dev/vda3                               partition	262140		0		-2
@ names
/dev/disk/by-uuid/aaaa /dev/vda2
/dev/disk/by-label/swap /dev/vda3
/dev/mapper/vg--data-srv /dev/dm-0
@ links
lo|00:00:00:00:00:00||0|
ens192|00:50:56:aa:bb:01||1|
ens224|00:50:56:aa:bb:02|00:50:56:aa:bb:02|1|
bond0|00:50:56:aa:bb:02||0|ens224
bond0.7|00:50:56:aa:bb:02||0|bond0
@ addresses
1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever
2: ens192    inet 192.0.2.10/24 brd 192.0.2.255 scope global ens192\\       valid_lft forever
2: ens192    inet6 2001:db8::0010/64 scope global \\       valid_lft forever
2: ens192    inet6 fe80::250:56ff:feaa:bb01/64 scope link \\       valid_lft forever
2: ens192    inet6 2001:db8::99/64 scope global tentative \\       valid_lft forever
5: bond0.7@bond0    inet 192.0.2.11/24 scope global bond0.7\\       valid_lft forever
@ routes
default via 192.0.2.1 dev ens192 onlink
192.0.2.0/24 dev ens192 proto kernel scope link src 192.0.2.10
@ network
static address 192.0.2.10/24
static address 192.0.2.11/24
HYPERCTL-PROOF-END
"""
TWO_NICS = machine(nics=(nic(1, addresses=("192.0.2.10/24", "2001:db8::10/64")), nic(2)))


def report() -> GuestReport:
    return reports_in(REPORT)[-1]


def changed(old: str, new: str) -> GuestReport:
    assert old in REPORT
    return reports_in(REPORT.replace(old, new))[-1]


def problems(of: GuestReport, mode: ProveMode = ProveMode.FULL) -> str:
    return "; ".join(judge(of, TWO_NICS, mode, NOW).problems)


def test_a_healthy_guest_passes() -> None:
    found = report()
    judgement = judge(found, TWO_NICS, ProveMode.FULL, NOW)
    assert judgement.problems == ()
    assert judgement.warnings == ()
    assert judgement.multi_user
    assert found.kernel == "6.1.0-1-amd64"
    assert found.default_routes == ("default via 192.0.2.1 dev ens192 onlink",)


def test_every_fstab_entry_is_told_and_required_ones_count() -> None:
    mounts = {mount.target: mount for mount in judge(report(), TWO_NICS, ProveMode.FULL, NOW).mounts}
    assert {target for target, mount in mounts.items() if mount.active} == {
        "/",
        "/boot",
        "/srv/my files",
        "none",
    }
    assert {target for target, mount in mounts.items() if not mount.required} == {"/mnt/nas", "/mnt/usb"}


def test_a_mount_that_is_missing() -> None:
    assert "/boot (ext4) of the guest's fstab is not active: UUID=bbbb" in problems(
        changed("/dev/vda1 /boot ext4 rw 0 0\n", "")
    )


def test_a_mount_point_behind_a_link_is_where_the_link_leads() -> None:
    """`/lib/modules` of an fstab, where /lib is a link to /usr/lib."""
    moved = REPORT.replace("vda1 /boot ", "vda1 /usr/boot ")
    assert "/boot (ext4)" in problems(reports_in(moved)[-1])
    assert problems(reports_in(moved.replace("@ swaps", "@ links-to\n/boot /usr/boot\n@ swaps"))[-1]) == ""


def test_swap_is_found_by_its_device() -> None:
    assert "swap of the guest's fstab is not active" in problems(changed("/dev/vda3    ", "/dev/vda4    "))


def test_addresses_on_a_vlan_over_a_bond_belong_to_the_nic_below() -> None:
    nics = judge(report(), TWO_NICS, ProveMode.FULL, NOW).nics
    assert [(found.name, found.addresses) for found in nics] == [
        ("ens192", ("192.0.2.10/24", "2001:db8::10/64")),
        ("ens224", ("192.0.2.11/24",)),
    ]


def test_a_static_address_that_is_missing_is_a_problem() -> None:
    found = changed("inet 192.0.2.10/24", "inet 192.0.2.110/24")
    assert "ens192 (00:50:56:aa:bb:01) lacks 192.0.2.10/24" in problems(found)
    asks = changed("static address 192.0.2.11/24\n", "dynamic iface ens224 inet dhcp\n")
    assert problems(asks) == "", "asking for addresses is no fault"


def test_an_address_that_only_a_network_can_give_is_a_warning() -> None:
    text = REPORT.replace("5: bond0.7@bond0    inet 192.0.2.11/24", "5: bond0.7@bond0    inet 169.254.1.1/16")
    text = text.replace("static address 192.0.2.11/24\n", "dynamic iface bond0.7 inet dhcp\n")
    text = text.replace("@ failed\n", "@ failed\nnetworking.service loaded failed failed Raise interfaces\n")
    judgement = judge(reports_in(text)[-1], TWO_NICS, ProveMode.FULL, NOW)
    assert judgement.problems == ()
    assert "ens224 (00:50:56:aa:bb:02) lacks 192.0.2.11/24" in judgement.warnings[0]
    static = text.replace("dynamic iface", "static address 192.0.2.11/24\ndynamic iface")
    assert "lacks 192.0.2.11/24" in problems(reports_in(static)[-1]), "it stands in the configuration"


def test_an_address_that_a_router_announces_is_a_warning_and_one_of_the_configuration_a_problem() -> None:
    knew = machine(nics=(nic(1, addresses=("192.0.2.10/24", "2001:db8:5::1/64")), nic(2, addresses=())))
    judgement = judge(report(), knew, ProveMode.FULL, NOW)
    assert judgement.problems == ()
    assert "lacks 2001:db8:5::1/64: the guest asks a network for it" in judgement.warnings[0]
    spelled = changed("static address 192.0.2.11/24", "static address 2001:DB8:5:0::1/64")
    assert "lacks 2001:db8:5::1/64" in "".join(judge(spelled, knew, ProveMode.FULL, NOW).problems)


def test_a_default_route_that_is_lost_is_a_problem_where_it_is_spelled_out() -> None:
    knew = TWO_NICS.model_copy(update={"gateways": ("192.0.2.1",)})
    assert judge(report(), knew, ProveMode.FULL, NOW).problems == ()
    lost = changed("default via 192.0.2.1 dev ens192 onlink\n", "")
    judgement = judge(lost, knew, ProveMode.FULL, NOW)
    assert judgement.problems == ()
    assert "no default route by 192.0.2.1" in "".join(judgement.warnings), "somebody else had given it"
    spelled = lost.text.replace(
        "static address 192.0.2.11/24", "static address 192.0.2.11\nstatic gateway 192.0.2.1"
    )
    (problem,) = judge(reports_in(spelled)[-1], knew, ProveMode.FULL, NOW).problems
    assert "no default route by 192.0.2.1" in problem
    several = spelled.replace(
        "192.0.2.0/24 dev", "default proto static\n\tnexthop via 192.0.2.1\n192.0.2.0/24 dev"
    )
    assert judge(reports_in(several)[-1], knew, ProveMode.FULL, NOW).problems == ()


def test_a_gateway_that_is_spelled_out_as_a_name_server_is_the_networks_to_give() -> None:
    knew = machine(nics=(nic(1), nic(2)), gateways=("192.0.2.1",))
    text = REPORT.replace("default via 192.0.2.1 dev ens192 onlink\n", "").replace(
        "inet 192.0.2.1", "inet 127.0.0.1"
    )
    named = "dynamic dhcp4: true\nstatic nameservers: {addresses: [192.0.2.1]}\n"
    judgement = judge(
        reports_in(f"{text[: text.index('static address')]}{named}HYPERCTL-PROOF-END\n")[-1],
        knew,
        ProveMode.FULL,
        NOW,
    )
    assert judgement.problems == ()
    assert "no default route by 192.0.2.1" in "".join(judgement.warnings)


def test_units_that_only_wait_for_a_network_are_warnings() -> None:
    failed = "@ failed\nsystemd-networkd-wait-online.service x\n"
    assert problems(changed("@ failed\n", failed)) == ""
    silent = machine(nics=(nic(1, addresses=()), nic(2, addresses=()), nic(3, addresses=())))
    text = REPORT.replace("@ failed\n", "@ failed\nnetworking.service loaded failed failed Raise\n")
    text = text.replace("ens224|", "ens256|00:50:56:aa:bb:03||1|\nens224|", 1)
    asks = reports_in(text.replace("static address 192.0.2.11/24\n", "dynamic iface ens256 inet dhcp\n"))[-1]
    assert judge(asks, silent, ProveMode.FULL, NOW).problems == (), "vSphere need not know an address"
    (problem,) = judge(reports_in(text)[-1], silent, ProveMode.FULL, NOW).problems
    assert "networking.service" in problem


def test_a_mount_unit_of_a_network_filesystem_is_excused() -> None:
    failed = "@ failed\nmnt-nas.mount x\nmnt-cifs.mount x\nmnt-usb.mount x\nmnt-data.mount x\n"
    kinds = "@ network-mounts\nmnt-nas.mount Type=nfs4 What=nas:/x\nmnt-cifs.mount What=//nas/x Type=\n"
    kinds += "mnt-data.mount Where=/mnt/data What=/dev/x Type=ext4"
    (problem,) = judge(changed("@ failed\n", f"{failed}{kinds}\n"), TWO_NICS, ProveMode.FULL, NOW).problems
    assert "mnt-data.mount" in problem
    odd = changed("/mnt/usb ext4", "/mnt/.a\\040b-c ext4")
    named = reports_in(odd.text.replace("@ failed\n", "@ failed\nmnt-.a\\x20b\\x2dc.mount x\n"))[-1]
    assert problems(named) == ""
    linked = "@ links-to\n/mnt/usb /media/usb\n@ failed\nmedia-usb.mount x\n"
    assert problems(changed("@ failed\n", linked)) == "", "systemd calls it as the link leads"


def test_a_mount_that_cannot_be_written_to_and_should() -> None:
    assert "/ of the guest's fstab is mounted read-only" in problems(changed("ext4 rw,rel", "ext4 ro,rel"))
    asked = REPORT.replace("ext4 rw,rel", "ext4 ro,rel").replace("/ ext4 errors", "/ ext4 ro,errors")
    assert problems(reports_in(asked)[-1]) == ""
    disc = REPORT.replace(
        "@ fstab\n", "/dev/loop0 /srv/dvd iso9660 ro 0 0\n@ fstab\n/srv/dvd.iso /srv/dvd auto loop 0 0\n"
    )
    assert problems(reports_in(disc)[-1]) == "", "nobody can write to it"


def test_a_nic_that_has_another_mac_is_known_by_its_own() -> None:
    other = REPORT.replace("ens192|00:50:56:aa:bb:01|", "ens192|02:00:00:00:00:01|")
    own = "@ permanent\n2: ens192: <UP> mtu 1500 link/ether 02:00:00:00:00:01 permaddr 00:50:56:aa:bb:01\n"
    assert problems(reports_in(other.replace("@ addresses", f"{own}@ addresses"))[-1]) == ""
    assert problems(reports_in(other)[-1]) == "", "the only one that is left"
    elsewhere = own.replace("bb:01", "bb:09")
    assert "no network interface" in problems(reports_in(other.replace("@ add", f"{elsewhere}@ add"))[-1])


def test_addresses_on_a_virtual_switch_are_its_nics() -> None:
    text = REPORT.replace("ens192|", "br-ovs|00:50:56:aa:bb:01||0|\nens192|", 1)
    found = reports_in(text.replace("2: ens192    inet 192", "7: br-ovs    inet 192"))[-1]
    assert problems(found) == ""


def test_a_guest_that_says_very_much_is_judged_at_once_and_in_few_words() -> None:
    links = "".join(f"l{number}|00:50:56:aa:bb:01||0|l{number - 1}\n" for number in range(10_000))
    text = REPORT.replace("ens192|", f"{links}ens192|", 1).replace("192.0.2.10/24 brd", "192.0.2.1/24 brd")
    text = text.replace("@ network\n", "@ network\n" + f"static {'a' * 4000}\n" * 100)
    began = time.monotonic()
    judge(reports_in(text)[-1], TWO_NICS, ProveMode.FULL, NOW)
    assert time.monotonic() - began < 20, "quadratic, it takes hours"
    many = REPORT.replace("# <source> <target>\n", "a /b c\n" * 100_000)
    many = many.replace("@ failed\n", "@ failed\n" + "x.mount\n" * 30_000)
    found = reports_in(many)[-1]
    judgement = judge(found, TWO_NICS, ProveMode.FULL, NOW)
    proof = proof_of(judgement, found, ProveMode.FULL, acceleration="kvm", boot_seconds=1)
    assert not proof.passed
    assert len(proof.model_dump_json()) < 100_000


def test_mount_points_behind_links_are_read_from_the_guest(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    fstab = tmp_path / "fstab"
    fstab.write_text(
        f"# {tmp_path}/link/no x\ntmpfs {tmp_path}/link/a tmpfs\nx {tmp_path}/real ext4\n"
        f"nas:/x {tmp_path}/link/b nfs\nx {tmp_path}/link/c ext4 noauto,x-systemd.automount\nx none swap\n"
        f"y {tmp_path}/link/d ext4"
    )
    function = SCRIPT[SCRIPT.index("followed() {") :].partition("\n}\n")[0].replace("/etc/fstab", str(fstab))
    done = subprocess.run(
        ["sh", "-c", f"cd /; {function}\n}}\nfollowed"],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    found = [line.split() for line in done.stdout.splitlines() if str(tmp_path) in line]
    assert found == [[f"{tmp_path}/link/{one}", f"{tmp_path}/real/{one}"] for one in "ad"]


def test_what_asks_a_network_and_what_is_spelled_out_is_read_from_the_guests_files(tmp_path: Path) -> None:
    for name, text in {
        "netplan/1.yaml": "ethernets: {a: {dhcp4: true, addresses: [192.0.2.10/24]}, b: {dhcp6: false}}",
        "systemd/network/1.network": "[Network]\nDHCP = yes\nAddress=192.0.2.11/24",
        "systemd/network/1.network.d/b.conf": "[Network]\nGateway=192.0.2.1\n",
        "systemd/network/2.network": "[Network]\nDHCP=no\nDHCPServer=yes\n",
        "sysconfig/network/ifcfg-eth0": "DHCP_HOSTNAME=web\n",
        "network/interfaces": "#iface ens9 inet dhcp\niface ens192 inet dhcp\n  address 2001:db8::1\n",
    }.items():
        path = tmp_path / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    functions = SCRIPT[SCRIPT.index("network_files()") : SCRIPT.index("sockets()")].replace(
        " /etc/", f" {tmp_path}/etc/"
    )
    done = subprocess.run(
        ["sh", "-c", f"{functions}\nnetwork_lines"], capture_output=True, text=True, check=False, timeout=10
    )
    lines = done.stdout.splitlines()
    assert [line for line in lines if "dynamic" in line and ".service" not in line] == [
        "dynamic iface ens192 inet dhcp",
        "dynamic ethernets: {a: {dhcp4: true, addresses: [192.0.2.10/24]}, b: {dhcp6: false}}",
        "dynamic DHCP = yes",
    ]
    assert [line.partition(" ")[0] for line in lines if "192.0.2.1" in line or "2001" in line].count(
        "static"
    ) == 4


def test_a_nic_that_the_guest_does_not_have() -> None:
    assert "no network interface for the NIC 00:50:56:aa:bb:01" in problems(
        changed("ens192|00:50:56:aa:bb:01||1|\n", "")
    )


def test_failed_units_of_boot_storage_and_network_count() -> None:
    unit = "● {} loaded failed failed Something"
    for name in ("networking.service", "srv.mount", "systemd-modules-load.service", "lvm2-monitor.service"):
        assert f"the unit {name} has failed" in problems(
            changed("@ failed\n", f"@ failed\n{unit.format(name)}\n")
        )
    found = changed("@ failed\n", "@ failed\nntpsec.service loaded failed failed Time\nmnt-nas.mount x\n")
    judgement = judge(found, TWO_NICS, ProveMode.FULL, NOW)
    assert judgement.problems == ()
    assert len(judgement.warnings) == 2
    assert found.failed_units == ("ntpsec.service", "mnt-nas.mount")


def test_emergency_mode_names_what_failed() -> None:
    text = REPORT.replace("active\nactive\ninactive\ninactive", "inactive\ninactive\nactive\ninactive")
    text = text.replace("@ failed\n", "@ failed\nsrv.mount loaded failed failed /srv\n")
    for mode in ProveMode.FULL, ProveMode.BOOT:
        assert "the guest ended in emergency mode (srv.mount)" in problems(reports_in(text)[-1], mode)


def test_mode_boot_asks_for_multi_user_only() -> None:
    broken = changed("/dev/vda1 /boot ext4 rw 0 0\n", "")
    assert problems(broken, ProveMode.BOOT) == ""
    assert judge(broken, TWO_NICS, ProveMode.BOOT, NOW).warnings
    assert problems(changed("active\nactive\n", "activating\ninactive\n"), ProveMode.BOOT)


def test_a_clock_far_off_is_a_warning() -> None:
    (warning,) = judge(report(), TWO_NICS, ProveMode.FULL, NOW - 7200).warnings
    assert "+7203 s off" in warning


def test_only_complete_reports_count() -> None:
    waiting = REPORT.replace("BEGIN full", "BEGIN waiting")
    found = reports_in("noise\n" + waiting + REPORT + REPORT.partition("@ mounts")[0])
    assert [one.full for one in found] == [False, True]
    assert reports_in("") == []


@given(st.text(alphabet=st.sampled_from("@ \n|:=/.\\0189abHN-%é\x00"), max_size=300))
def test_whatever_a_guest_says_is_judged(text: str) -> None:
    names = ("units", "failed", "jobs", "mounts", "fstab", "swaps", "names", "links", "addresses", "clock")
    body = "\n".join(f"@ {name}\n{text}" for name in names)
    for found in reports_in(f"HYPERCTL-PROOF-BEGIN full\n{body}\nHYPERCTL-PROOF-END\n"):
        assert judge(found, TWO_NICS, ProveMode.FULL, NOW).problems


def test_fstab() -> None:
    entries = parse_fstab("#c\n\nUUID=1 / ext4\n/dev/sr0 /media/a\\040b iso9660 ro,noauto 0 0\nshort line\n")
    assert [(entry.target, entry.required) for entry in entries] == [("/", True), ("/media/a b", False)]


def test_the_reporter_is_a_shell_script_for_the_right_port() -> None:
    subprocess.run(["sh", "-n"], input=SCRIPT, text=True, check=True, timeout=10)
    assert f'"{PORT_NAME}"' in SCRIPT


@pytest.mark.parametrize(
    ("said", "words", "final"),
    [
        (
            "ALERT!  /dev/sda2 does not exist.  Dropping to a shell!\n(initramfs) ",
            "waited for /dev/sda2",
            True,
        ),
        ("ALERT!  UUID=11-22 does not exist.", "waited for UUID=11-22", True),
        ("dracut-initqueue[3]: Warning: /dev/sda2 does not exist", "dracut waited for /dev/sda2", True),
        ("[1.0] Kernel panic - not syncing: Attempted to kill init!", "kernel panic: Attempted", True),
        (
            "[1.0] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
            "could not mount the root filesystem on unknown-block(0,0)",
            True,
        ),
        ("error: no such device: 1-2.\nEntering rescue mode...\ngrub rescue> ", "no such device: 1-2", True),
        (
            "Booting from Hard Disk...\nBoot failed: not a bootable disk\n\nNo bootable device.",
            "no bootable",
            True,
        ),
        ("UEFI Interactive Shell v2.2", "opened its shell", True),
        ("You are in emergency mode. After logging in", "emergency mode", False),
        ("[DEPEND] Dependency failed for /srv.", "has failed: /srv", False),
        ("Debian GNU/Linux 12 web ttyS0\n\nweb login: ", "a login prompt appeared", False),
    ],
)
def test_diagnosis_of_a_phrase(said: str, words: str, final: bool) -> None:
    found = diagnose("", said)
    assert found is not None
    assert words in found.words
    assert found.final is final


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        ("ALERT!  UUID=1-2 does not exist.  Dropping to a shell!", True),
        ("Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", True),
        ("ERROR: device 'UUID=1' not found. Skipping fsck.", True),
        ("Kernel panic - not syncing: Attempted to kill init!", False),
        ("grub rescue> ", False),
    ],
)
def test_a_boot_without_its_root_device_is_told_from_others(said: str, missing: bool) -> None:
    found = diagnose(said)
    assert found is not None
    assert found.root_missing is missing


def test_a_console_that_is_well_has_no_diagnosis() -> None:
    assert diagnose("[    0.0] Linux version 6.1\nbegin: mounting root", "SeaBIOS") is None
    assert diagnose(readable(b"\x1b[0;1;31mYou are in\x1b[0m emergency mode\r\n")) is not None


def test_a_serial_console_is_added_where_none_is_named() -> None:
    before = "menuentry 'x' {\n\tlinux\t/vmlinuz root=UUID=1 ro quiet\n\tinitrd\t/initrd\n}\n"
    after = for_trial(before)
    assert "ro quiet console=tty0 console=ttyS0,115200\n\tinitrd\t/initrd\n" in after
    assert for_trial(after) == after
    kept = "\tlinux /vmlinuz console=ttyS1\n"
    assert for_trial(kept) == kept
    entry = "linux /linux\ninitrd /initrd\noptions root=/dev/vda2\n"
    assert for_trial(entry) == entry[:-1] + " console=tty0 console=ttyS0,115200\n"
    assert for_trial("  linux_gfx_mode=keep\n") == "  linux_gfx_mode=keep\n"
    extlinux = "LABEL a\n  LINUX /vmlinuz\n  APPEND root=UUID=1 ro\n"
    assert for_trial(extlinux) == extlinux[:-1] + " console=tty0 console=ttyS0,115200\n"
    asked = for_trial(kept, is_asked_for_keys=True)
    assert asked == kept.rstrip("\n") + " plymouth.enable=0" + kept[len(kept.rstrip("\n")) :]
    assert for_trial(asked, is_asked_for_keys=True) == asked


def test_a_menu_that_is_no_file_holds_up_no_other(tmp_path: Path) -> None:
    files = tree(tmp_path, {"/extlinux/extlinux.conf": "label a\nappend ro\n"})
    (tmp_path / "extlinux/old.cfg").symlink_to("gone")
    assert edit_for_trial(files.guest, "/dev/sda1", False) == ["/dev/sda1:/extlinux/extlinux.conf"]


def test_a_menu_does_not_wait_unless_it_would_for_ever() -> None:
    menu = "if x ; then\n  set timeout=30\nelse\n  set timeout_style=menu\n  set timeout=5\nfi\n"
    assert for_trial(menu) == menu.replace("=30", "=0").replace("=5", "=0")
    assert for_trial("set timeout=-1\n") == "set timeout=-1\n"


def test_a_picture_becomes_a_png() -> None:
    pixels = bytes(range(12))
    png = png_from_ppm(b"P6\n# made by qemu\n2 2\n255\n" + pixels)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (2, 2)
    length = struct.unpack(">I", png[33:37])[0]
    assert zlib.decompress(png[41 : 41 + length]) == b"\0" + pixels[:6] + b"\0" + pixels[6:]
    assert png_of(png) == png


@pytest.mark.parametrize(
    "picture",
    [
        b"",
        b"P5\n2 2\n255\n0000",
        b"P6\n2 2\n65535\n" + bytes(24),
        b"P6\n9 9\n255\n" + bytes(12),
        b"P6\n0 2\n255\n",
        b"P6\n-2 2\n255\n" + bytes(12),
        b"P6\n999999999 1\n255\n" + bytes(9),
    ],
)
def test_what_is_no_picture_is_refused(picture: bytes) -> None:
    with pytest.raises(ValueError, match="PPM"):
        png_from_ppm(picture)


def test_the_text_screen_is_read_and_pixels_are_not() -> None:
    cells = bytearray(b" \x07" * 2000)
    for position, character in enumerate(b"grub rescue>"):
        cells[160 + position * 2] = character
    assert text_from_vga(bytes(cells)) == "grub rescue>"
    assert text_from_vga(bytes(4000)) == ""
    assert text_from_vga(bytes(range(256)) * 16) == ""
    assert text_from_vga(b"short") == ""


def test_dead_ends_are_held_on_loopback() -> None:
    with dead_ends(2) as ends:
        first, second = ends
        assert first.sink_address.startswith("127.")
        assert (first.sink_address, first.sink_port) != (second.sink_address, second.sink_port)
        assert first.sink_port != first.local_port
