"""What is shown of a migration: the events are pure, and both screens say the same."""

import io
import re
import shlex
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from hyperctl.client.config import Ui
from hyperctl.client.render.ending import Ending, failure, success, virt_install
from hyperctl.client.render.events import DisksMoved, Line, Mark, Stage, StageBegun
from hyperctl.client.render.live import LiveScreen
from hyperctl.client.render.plain import QUIET_SECONDS, PlainScreen, percent_of
from hyperctl.client.render.screen import Screen, Silence, choose_screen, make_console
from hyperctl.client.render.story import proof_lines
from hyperctl.client.render.teller import Teller
from hyperctl.client.render.text import duration, safe, size
from hyperctl.workflows.disk import VerifiedDisk
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.guest import Comparison, MountReport, NicReport, Step
from hyperctl.workflows.request import Priority
from hyperctl.workflows.source import PreparedSource, Snapshot
from hyperctl.workflows.status import (
    JobStatus,
    MigrationStatus,
    Phase,
    PhaseState,
    Progress,
    RetryWait,
    SpaceWait,
)
from tests.unit import statuses
from tests.unit.machines import GIB, machine, nic

REFUSED = Failure(code=ErrorCode.VM_POWERED_ON, message="web-server-01 is on", hint="Shut it down.")


def _texts(teller: Teller, status: MigrationStatus) -> list[str]:
    return [event.text for event in teller.tell(status) if isinstance(event, Line)]


def _stages(teller: Teller, status: MigrationStatus) -> list[Stage]:
    return [event.stage for event in teller.tell(status) if isinstance(event, StageBegun)]


def test_a_whole_migration_seen_only_at_its_end_is_told_in_the_seeds_order() -> None:
    assert _stages(Teller(), statuses.completed()) == [
        Stage.CONNECT,
        Stage.EXPORT,
        Stage.QUEUE,
        Stage.CONVERT,
        Stage.CLEANUP,
    ]
    said = _texts(Teller(), statuses.completed(domain="web-server-01"))
    wanted = [
        "Connected to vcenter.example.com",
        "Found VM: web-server-01 (2 disks, 8.0 GiB total)",
        "Downloading disk 1/2: web-server-01_1.vmdk",
        "Disk 1 downloaded (4.0 GiB)",
        "Disk 2 downloaded (4.0 GiB)",
        "Verified (10s): every byte is the one that arrived",
        "Conversion started",
        "Detected: Debian GNU/Linux 12 (bookworm)",
        "Injecting VirtIO drivers...",
        "VirtIO drivers injected: initramfs of 6.1.0-18-amd64",
        "no serial console",
        "Network configuration: no NIC is configured",
        "fstab: left out, as asked",
        "Conversion complete (10s)",
        "Booted to multi-user in 12s with KVM, Linux 6.1.0-18-amd64",
        "ens192 (00:50:56:aa:bb:01): 192.0.2.10/24",
        f"Images in {statuses.OUTPUT}",
        "Defined in libvirt: web-server-01",
        "Cleanup complete",
    ]
    positions = [said.index(text) for text in wanted]
    assert positions == sorted(positions)


def test_seen_in_steps_it_is_the_same_story_and_nothing_is_said_twice() -> None:
    teller = Teller()
    seen = [statuses.at(Phase.PLAN), statuses.copying(0), statuses.copying(GIB)]
    seen += [statuses.copying(4 * GIB, finished=True), statuses.at(Phase.VERIFY, landed=statuses.LANDED)]
    seen += [statuses.at(Phase.CONVERT, landed=statuses.LANDED), statuses.completed()]
    in_steps = [text for status in seen for text in _texts(teller, status)]
    assert len(in_steps) == len(set(in_steps))
    at_once = _texts(Teller(), statuses.completed())
    assert set(at_once) <= set(in_steps) | {"Downloading disk 1/2: web-server-01_1.vmdk"}


def test_the_queue_is_waited_in_until_a_worker_begins() -> None:
    teller = Teller()
    waiting = statuses.at(Phase.CONVERT, landed=statuses.LANDED)
    assert Stage.QUEUE in _stages(teller, waiting)
    begun = waiting.model_copy(update={"progress": Progress(phase=Phase.CONVERT, current_step=Step.VIRTIO)})
    events = teller.tell(begun)
    assert [event.stage for event in events if isinstance(event, StageBegun)] == [Stage.CONVERT]
    said = [event.text for event in events if isinstance(event, Line)]
    assert said == ["Conversion started", "Injecting VirtIO drivers..."]


def test_a_wait_for_the_next_try_says_when_why_and_how_to_end_it() -> None:
    teller = Teller()
    teller.tell(statuses.copying(GIB))
    failed = Failure(code=ErrorCode.VCENTER_UNREACHABLE, message="vcenter does not answer")
    retry = RetryWait(
        retry=1, max_retries=3, next_attempt_at=datetime.now(UTC) + timedelta(seconds=1), failure=failed
    )
    waiting = statuses.at(Phase.EXPORT, retry=retry)
    said = _texts(teller, waiting)
    assert said[0] == "vcenter does not answer"
    assert re.fullmatch(
        rf"Next attempt at [\d :-]+ \(1 of 3\); at once: hyperctl retry-now --job {statuses.JOB}", said[1]
    )
    assert _texts(teller, waiting) == []
    assert _texts(teller, statuses.at(Phase.EXPORT)) == ["Trying again"]


def test_what_comes_and_goes_is_told_each_time() -> None:
    teller = Teller()
    note = "waiting for a worker on queue export; start one with: hyperctl worker --role export"
    assert note in _texts(teller, statuses.at(Phase.PLAN, notes=(note,)))
    assert note not in _texts(teller, statuses.at(Phase.PLAN, notes=(note,)))
    assert _texts(teller, statuses.at(Phase.PLAN)) == []
    assert note in _texts(teller, statuses.at(Phase.PLAN, notes=(note,)))
    paused = statuses.at(Phase.PLAN, paused=True, priority=Priority.HIGH)
    said = _texts(teller, paused)
    assert f"Paused; to go on: hyperctl resume --job {statuses.JOB}" in said
    assert "Priority is high now" in said
    assert "Resumed" in _texts(teller, statuses.at(Phase.PLAN, priority=Priority.HIGH))


def test_a_host_without_room_is_told_with_the_way_out_and_not_as_a_pause_on_request() -> None:
    teller = Teller()
    failure = Failure(
        code=ErrorCode.NO_SPACE, message="no space left in /images: 3.0 GiB are missing", hint="Free it."
    )
    wait = SpaceWait(failure=failure, since=statuses.BEGAN, tries=0, next_attempt_at=statuses.BEGAN)
    paused = statuses.at(Phase.EXPORT, status=JobStatus.PAUSED, paused=True, space_wait=wait)
    told = _texts(teller, paused)
    assert "Paused: no space left in /images: 3.0 GiB are missing" in told
    assert "Free it." in told
    assert any(f"at once: hyperctl resume --job {statuses.JOB}" in text for text in told)
    assert not any(text.startswith("Paused; to go on") for text in told)
    later = wait.model_copy(update={"tries": 1, "next_attempt_at": statuses.BEGAN + timedelta(minutes=5)})
    again = _texts(teller, paused.model_copy(update={"space_wait": later}))
    assert [text for text in again if "Looks again at" in text]
    assert not [text for text in again if text.startswith("Paused: ")]
    assert "Resumed" in _texts(teller, statuses.at(Phase.EXPORT))


def test_a_change_of_the_bandwidth_is_told() -> None:
    teller = Teller()
    teller.tell(statuses.at(Phase.EXPORT))
    capped = statuses.at(Phase.EXPORT, bandwidth_bytes_per_second=200 << 20)
    assert "Bandwidth is 200.0 MiB/s at most now" in _texts(teller, capped)
    assert "Bandwidth has no cap any more" in _texts(teller, statuses.at(Phase.EXPORT))


def test_the_summary_says_of_each_disk_what_was_proved_and_by_what() -> None:
    facts = {
        "index": 1,
        "source_name": "vm.vmdk",
        "mode": "full",
        "blocks": 1024,
        "zero_blocks": 1000,
        "blocks_read": 24,
        "structure": "size of the raw image",
        "digest_algorithm": "blake3",
        "root_digest": "ab" * 32,
        "source_checksum": "sha1:cd",
        "statement": "",
    }
    full = VerifiedDisk.model_validate(facts)
    sample = VerifiedDisk.model_validate(facts | {"index": 2, "mode": "sample", "blocks_read": 20})
    rows = dict(success(statuses.result(verified=(full, sample)), statuses.completed(), {}).rows)
    assert rows["Disk 1 verified"] == "all 1024 blocks by blake3; size of the raw image, source's sha1"
    assert rows["Disk 2 verified"].startswith("a sample, 20 of 24 blocks with data, all zeroes by blake3")
    told = _texts(Teller(), statuses.completed(verified=(full, sample)))
    assert not any("every byte" in text for text in told)


def test_all_disks_together_have_a_line_of_their_own() -> None:
    progress = statuses.copying(GIB).progress
    assert progress is not None
    whole = progress.disks[0].model_copy(
        update={"index": 0, "total_bytes": 8 * GIB, "total_is_estimate": True, "done_bytes": 2 * GIB}
    )
    plain = io.StringIO()
    PlainScreen(plain).show(DisksMoved(Phase.EXPORT, progress.disks, whole))
    assert "all 2 disks 25% (2.0 GiB of about 8.0 GiB" in plain.getvalue()
    screen, out = _terminal()
    with screen:
        screen.show(DisksMoved(Phase.EXPORT, progress.disks, whole))
        screen._live.refresh()
    assert re.search(r"all .* 25% \(2.0 GiB of about 8.0 GiB\)", _without_codes(out.getvalue()))


def test_as_much_as_was_expected_is_not_the_end() -> None:
    progress = statuses.copying(4 * GIB).progress
    assert progress is not None
    assert percent_of(progress.disks[0]) == 100
    assert percent_of(progress.disks[0].model_copy(update={"total_is_estimate": True})) == 99


def test_a_proof_that_did_not_pass_names_each_thing_that_is_missing() -> None:
    proof = statuses.PROOF.model_copy(
        update={
            "passed": False,
            "failed_units": ("nginx.service",),
            "mounts": (MountReport(target="/srv", source="/dev/sdb1", filesystem="xfs", active=False),),
            "nics": (NicReport(mac="m", name="eth0", addresses=(), expected_addresses=("192.0.2.10/24",)),),
            "problems": ("/srv is not mounted",),
        }
    )
    lines = list(proof_lines(proof))
    failed = [line.text for line in lines if line.mark is Mark.FAILED]
    assert failed == [
        "Not mounted: /srv (xfs, /dev/sdb1)",
        "eth0 (m) has no address; it lacks 192.0.2.10/24",
        "/srv is not mounted",
    ]
    assert "Boot proof passed" not in [line.text for line in lines]


def test_a_comparison_says_what_failed_before_and_that_nothing_new_does() -> None:
    compared = Comparison(
        hardware="pvscsi, vmxnet3", boot_seconds=41, failed_units=("motd.service",), differences=()
    )
    proof = statuses.PROOF.model_copy(update={"mode": "diff", "comparison": compared})
    text = [line.text for line in proof_lines(proof)]
    assert "Failed before the conversion: motd.service" in text
    assert "Nothing that worked before fails now (the unconverted guest on pvscsi, vmxnet3, 41s)" in text
    result = statuses.result(proof=proof)
    rows = dict(success(result, statuses.completed(), {}).rows)
    assert rows["Boot proof"] == "passed, nothing that worked before fails now"
    without = proof.model_copy(update={"comparison": compared.model_copy(update={"obstacle": "no driver"})})
    assert not [line for line in proof_lines(without) if "worked before" in line.text]


def test_the_virt_install_line_is_complete_and_is_shell() -> None:
    plan = statuses.PLAN.model_copy(
        update={"machine": machine(nics=(nic(1), nic(2, network="DMZ; rm -rf /")))}
    )
    status = statuses.completed(plan=plan)
    result = statuses.result(vm_name="web 'server'")
    words = shlex.split(" ".join(virt_install(result, status, {"DMZ; rm -rf /": "bridge:br0"})))
    assert words[:3] == ["virt-install", "--name", "web 'server'"]
    disks = [words[number + 1] for number, word in enumerate(words) if word == "--disk"]
    assert disks == [f"path={statuses.OUTPUT}/disk{n}.raw,format=raw,bus=virtio" for n in (1, 2)]
    assert words[words.index("--memory") + 1] == "16384"
    assert words[words.index("--vcpus") + 1] == "8"
    networks = [words[number + 1] for number, word in enumerate(words) if word == "--network"]
    assert networks == [
        "network=default,model=virtio,mac=00:50:56:aa:bb:01",
        "bridge=br0,model=virtio,mac=00:50:56:aa:bb:02",
    ]
    assert words[words.index("--boot") + 1] == "uefi"
    assert "--import" in words


def test_the_next_step_is_the_import_unless_it_is_done() -> None:
    without = success(statuses.result(), statuses.completed(), {})
    assert without.next_steps[0].command == (f"hyperctl import --job {statuses.JOB}",)
    defined = success(statuses.result(domain="web server"), statuses.completed(), {})
    assert defined.next_steps[0].command == ("virsh start 'web server'",)


def test_a_failure_before_the_copy_says_that_nothing_is_left() -> None:
    ended = failure(
        statuses.at(Phase.PLAN, PhaseState.FAILED, status=JobStatus.FAILED, failures=(REFUSED,), host="")
    )
    (remark,) = ended.remarks
    assert "had not begun to copy" in remark
    assert [(problem.message, problem.hint) for problem in ended.problems] == [
        ("web-server-01 is on", "Shut it down.")
    ]


def test_a_failure_says_what_could_not_be_undone() -> None:
    status = statuses.at(Phase.IMPORT, PhaseState.FAILED, status=JobStatus.FAILED, not_undone=("the domain",))
    assert "Could not be undone: the domain" in failure(status).remarks


HOSTILE = "evil\x1b[2J\x9b31m\r\n\u202e[bold]x[/bold]:smile:\x07"


def test_hostile_text_is_made_visible() -> None:
    assert safe(HOSTILE) == r"evil\x1b[2J\x9b31m\x0d\x0a\u202e[bold]x[/bold]:smile:\x07"
    assert safe("Größe  日本\u00a0x") == "Größe  日本 x"


def _terminal(width: int = 100) -> tuple[LiveScreen, io.StringIO]:
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, width=width, height=30, markup=False, emoji=False, highlight=False
    )
    return LiveScreen(console), out


def _play(screen: Screen, hostile: str) -> None:
    with screen:
        screen.say(hostile)
        teller = Teller()
        machine_name = statuses.PLAN.machine.model_copy(update={"name": hostile})
        plan = statuses.PLAN.model_copy(update={"machine": machine_name, "warnings": (hostile,)})
        for status in (statuses.copying(GIB, name=hostile), statuses.copying(2 * GIB, name=hostile)):
            for event in teller.tell(status.model_copy(update={"plan": plan, "notes": (hostile,)})):
                screen.show(event)
        failures = (REFUSED.model_copy(update={"message": hostile, "hint": hostile}),)
        screen.end(failure(statuses.at(Phase.EXPORT, vm_name=hostile, status="failed", failures=failures)))
        screen.end(success(statuses.result(vm_name=hostile, warnings=(hostile,)), statuses.completed(), {}))


@pytest.mark.parametrize("kind", ["plain", "live"])
def test_no_screen_lets_hostile_text_through(kind: str) -> None:
    if kind == "plain":
        out = io.StringIO()
        _play(PlainScreen(out), HOSTILE)
        assert "\x1b" not in out.getvalue()
    else:
        screen, out = _terminal()
        _play(screen, HOSTILE)
        assert "\x1b[2J" not in out.getvalue()
    for forbidden in ("\x9b", "\x07", "\u202e", "😄"):
        assert forbidden not in out.getvalue()
    assert "[bold]x[/bold]" in out.getvalue()


def _without_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_both_screens_say_the_same() -> None:
    plain_out = io.StringIO()
    live, live_out = _terminal(300)
    ending = success(statuses.result(domain="web-server-01"), statuses.completed(), {})
    for screen in (PlainScreen(plain_out), live):
        with screen:
            for event in Teller().tell(statuses.completed()):
                screen.show(event)
            screen.end(ending)
    shown = _without_codes(live_out.getvalue())
    for event in Teller().tell(statuses.completed()):
        if isinstance(event, Line):
            assert event.text in plain_out.getvalue()
            assert event.text in shown
    for label, value in ending.rows:
        assert re.search(rf"{re.escape(label)}: +{re.escape(value)}", plain_out.getvalue())
        assert value in shown


def test_a_bar_shows_share_rate_and_eta() -> None:
    screen, out = _terminal()
    with screen:
        for event in Teller().tell(statuses.copying(GIB)):
            screen.show(event)
        screen._live.refresh()
    shown = _without_codes(out.getvalue())
    assert "[████████░" in shown
    assert "25% (1.0 GiB of 4.0 GiB)" in shown
    assert "100.0 MiB/s ETA: 31s" in shown


def test_more_disks_than_lines_do_not_break_the_screen() -> None:
    screen, out = _terminal()
    (first, second) = (statuses.copying(GIB).progress or pytest.fail("no progress")).disks
    many = tuple(first.model_copy(update={"index": number}) for number in range(1, 61))
    with screen:
        screen.show(DisksMoved(Phase.EXPORT, (*many, second)))
        screen._live.refresh()
    assert "and 35 more" in _without_codes(out.getvalue())


def test_plain_lines_tell_each_tenth_once_and_leave_no_minute_silent() -> None:
    out = io.StringIO()
    now = [0.0]
    screen = PlainScreen(out, lambda: now[0])
    teller = Teller()
    for percent in range(0, 101, 2):
        for event in teller.tell(statuses.copying(-(-4 * GIB * percent // 100))):
            screen.show(event)
    told = re.findall(r"disk 1/2 (\d+)%", out.getvalue())
    assert told == [str(tenth) for tenth in range(10, 101, 10)]
    before = out.getvalue()
    for _ in range(60):
        now[0] += 1.0
        for event in teller.tell(statuses.copying(4 * GIB)):
            screen.show(event)
    quiet = out.getvalue().removeprefix(before).splitlines()
    assert len(quiet) == 60 // QUIET_SECONDS
    assert all(line.split() == ["waiting", "copying"] for line in quiet)


def test_plain_lines_survive_an_encoding_that_has_not_everything() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    screen = PlainScreen(out)
    screen.say("🚀 Größe")
    assert raw.getvalue() == b"\\U0001f680 Gr\\xf6\\xdfe\n"


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_who_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(choose_screen(Ui(), stream=_Tty()), LiveScreen)
    assert isinstance(choose_screen(Ui(), stream=io.StringIO()), PlainScreen)
    assert isinstance(choose_screen(Ui(show_progress=False), stream=_Tty()), PlainScreen)
    assert isinstance(choose_screen(Ui(), silent=True, stream=_Tty()), Silence)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(choose_screen(Ui(), stream=_Tty()), PlainScreen)


@pytest.mark.parametrize("by", ["NO_COLOR", "ui.color"])
def test_colour_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if by == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    assert make_console(Ui(color=by != "ui.color"), _Tty()).no_color
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert not make_console(Ui(), _Tty()).no_color


def test_sizes_and_times_as_people_read_them() -> None:
    assert [size(n) for n in (0, 1023, 1024, 1023 * 2**20, 250 * GIB, 2**60)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.0 GiB",
        "250.0 GiB",
        "1024.0 PiB",
    ]
    assert [duration(n) for n in (-1, 59.4, 135, 3725)] == ["0s", "59s", "2m 15s", "1h 02m"]


def test_an_ending_without_rows_can_be_shown() -> None:
    out = io.StringIO()
    PlainScreen(out).end(Ending("Done", True, ()))
    assert out.getvalue() == "\nDone\n"


def test_what_is_done_to_a_running_source_is_told() -> None:
    taken = Snapshot(moref="snapshot-1", name="hyperctl-job-1", taken_at=statuses.BEGAN)
    for source, words in (
        (PreparedSource(switched_off=True), ["Shut down: web-server-01"]),
        (PreparedSource(switched_off=True, forced=True), ["Powered off: web-server-01"]),
        (PreparedSource(snapshot=taken), ["Snapshot of", "crash-consistent: hyperctl-job-1"]),
        (PreparedSource(snapshot=taken, copied=True), []),
    ):
        status = statuses.at(Phase.EXPORT).model_copy(
            update={"source": source, "warnings": ("mind the gap",)}
        )
        told = "\n".join(_texts(Teller(), status))
        for text in (*words, "mind the gap"):
            assert text in told
        assert words or "Snapshot" not in told


def test_a_machine_that_is_a_file_is_told_without_a_vcenter() -> None:
    path = "/srv/in/web-server-01.ova"
    status = statuses.completed().model_copy(update={"vcenter": "", "source_file": path})
    assert _stages(Teller(), status)[:2] == [Stage.LOOK, Stage.COPY]
    lines = _texts(Teller(), status)
    assert f"Source: {path}" in lines
    assert not any("vSphere" in line or "Connected" in line or "ownload" in line for line in lines)
    rows = dict(success(statuses.result(), status, {}).rows)
    assert rows["Source VM"] == f"web-server-01 ({path})"
    failed = dict(failure(status).rows)
    assert failed["Source VM"] == f"web-server-01 ({path})"
