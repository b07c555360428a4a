"""What worked before a conversion and does not after it, by the real reports of a guest."""

from pathlib import Path

import pytest

from hyperctl.activities.prove.compare import compare
from hyperctl.activities.prove.report import GuestReport, reports_in
from hyperctl.activities.prove.unconverted import UnconvertedBoot
from hyperctl.activities.prove.verdict import judge
from hyperctl.workflows.guest import Difference, Kind
from hyperctl.workflows.request import ProveMode
from tests.unit.machines import machine, nic

REPORTS = Path(__file__).parent / "reports"
MACHINE = machine()
BEFORE = (REPORTS / "vmware.txt").read_text()
"""Of the demo's guest as it came, on a pvscsi controller and a vmxnet3."""
AFTER = (REPORTS / "virtio.txt").read_text()
"""Of the same guest converted, on virtio."""


def read(text: str) -> GuestReport:
    (found,) = reports_in(text)
    return found


def changed(text: str, *changes: tuple[str, str]) -> GuestReport:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return read(text)


def lost(before: GuestReport, after: GuestReport) -> list[tuple[Kind, str]]:
    return [(one.kind, one.what) for one in compare(before, after, MACHINE)]


def test_the_real_guest_has_lost_nothing() -> None:
    assert lost(read(BEFORE), read(AFTER)) == []
    assert read(BEFORE).listening == {"tcp 0.0.0.0:22", "tcp 0.0.0.0:80", "tcp [::]:22"}


def test_a_mount_behind_a_link_is_where_the_link_leads() -> None:
    linked = [
        changed(text, (" /srv ", " /vol/srv "), ("@ swaps\n", "@ links-to\n/srv /vol/srv\n@ swaps\n"))
        for text in (BEFORE, AFTER)
    ]
    linked = [
        read(one.text.replace("@ fstab\n", "@ fstab\n/dev/sdb /srv ext4 defaults 0 2\n")) for one in linked
    ]
    assert lost(*linked) == []


@pytest.mark.parametrize(
    ("old", "new", "kind", "what"),
    [
        ("@ failed\n", "@ failed\ncron.service loaded failed failed Cron\n", Kind.UNIT, "cron.service"),
        ("/dev/vda4 /srv ext4", "tmpfs /srv/elsewhere tmpfs", Kind.MOUNT, "/srv"),
        ("/dev/vda3      ", "", Kind.MOUNT, "swap (1 of 1)"),
        ("inet 192.0.2.10/24", "inet 192.0.2.11/24", Kind.ADDRESS, "192.0.2.10/24 on ens192"),
        ("via 192.0.2.1 dev", "via 192.0.2.2 dev", Kind.ROUTE, "default via 192.0.2.1 dev ens192 onlink"),
        ("tcp 00000000:0050\n", "", Kind.SOCKET, "tcp 0.0.0.0:80"),
        ("tcp6 00000000000000000000000000000000:0016\n", "", Kind.SOCKET, "tcp [::]:22"),
    ],
)
def test_what_is_lost_is_named_and_is_why_a_proof_fails(old: str, new: str, kind: Kind, what: str) -> None:
    if what.startswith("swap"):
        after = read("\n".join(line for line in AFTER.split("\n") if not line.startswith("/dev/vda3 ")))
    else:
        after = changed(AFTER, (old, new))
    differences = compare(read(BEFORE), after, MACHINE)
    assert [(one.kind, one.what) for one in differences] == [(kind, what)]
    (problem,) = judge(after, MACHINE, ProveMode.DIFF, differences=differences).problems
    assert what in problem


def test_what_had_failed_before_is_no_fault_of_the_conversion() -> None:
    """Though a full proof would not pass it."""
    failed = ("@ failed\n", "@ failed\nnetworking.service loaded failed failed Raise interfaces\n")
    before = changed(BEFORE, failed, ("/dev/sda4 /srv ext4", "tmpfs /run/x tmpfs"))
    after = changed(AFTER, failed, ("/dev/vda4 /srv ext4", "tmpfs /run/x tmpfs"))
    assert lost(before, after) == []
    judgement = judge(after, MACHINE, ProveMode.DIFF, differences=())
    assert judgement.problems == ()
    assert any("networking.service" in warning for warning in judgement.warnings)
    assert len(judge(after, MACHINE, ProveMode.FULL).problems) == 2
    assert judge(after, MACHINE, ProveMode.DIFF).problems == judge(after, MACHINE, ProveMode.FULL).problems


def test_what_is_new_is_no_loss() -> None:
    address = "2: ens192    inet 192.0.2.10/24 brd"
    before = changed(BEFORE, (address, address.replace("inet", "mark")), ("tcp 00000000:0050\n", ""))
    assert lost(before, read(AFTER)) == []


def test_emergency_mode_is_a_problem_whatever_was_before() -> None:
    after = changed(AFTER, ("active\nactive\ninactive\ninactive", "inactive\ninactive\nactive\ninactive"))
    (problem,) = judge(after, MACHINE, ProveMode.DIFF, differences=()).problems
    assert "emergency mode" in problem


def test_addresses_of_others_than_nics_go_by_their_interface() -> None:
    docker = "@ routes\n"
    line = "5: docker0    inet 172.17.0.1/16 scope global docker0\\  valid_lft forever\n"
    before = changed(BEFORE, (docker, line + docker))
    assert lost(before, read(AFTER)) == [(Kind.ADDRESS, "172.17.0.1/16 on docker0")]
    assert lost(before, changed(AFTER, (docker, line + docker))) == []


def test_an_address_that_moved_to_another_nic_is_lost() -> None:
    two = machine(nics=(nic(1), nic(2)))
    before = read(BEFORE)
    after = changed(
        AFTER,
        ("ens192|00:50:56:aa:bb:01||1|\n", "ens192|00:50:56:aa:bb:02||1|\nens224|00:50:56:aa:bb:01||1|\n"),
    )
    assert [one.what for one in compare(before, after, two)] == ["192.0.2.10/24 on ens192"]


def test_a_guest_cannot_make_the_list_endless() -> None:
    many = "".join(f"unit{number}.service loaded failed failed x\n" for number in range(5000))
    assert len(lost(read(BEFORE), changed(AFTER, ("@ failed\n", "@ failed\n" + many)))) == 100


def test_without_a_boot_that_says_something_there_is_nothing_to_compare() -> None:
    found = UnconvertedBoot(hardware="pvscsi", obstacle="it does not boot", report_text=BEFORE)
    assert found.report is None
    assert found.comparison(()).obstacle == "it does not boot"
    told = UnconvertedBoot(hardware="pvscsi, vmxnet3", report_text=BEFORE, boot_seconds=41.23)
    assert told.report is not None
    comparison = told.comparison((Difference(kind=Kind.UNIT, what="cron.service"),))
    assert (comparison.kernel, comparison.boot_seconds) == ("6.1.0-56-amd64", 41.2)
