"""Copies from a datastore over HTTPS: the same bytes, whatever becomes of connections, sessions, workers."""

import itertools
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import CancelledError

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export import datastore, datastore_files, ranges
from hyperctl.activities.export.activity import export_disks
from hyperctl.activities.export.ledger import read_ledger
from hyperctl.activities.plan_source import plan_source
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.activities.vsphere.inventory import read_machine
from hyperctl.activities.vsphere.session import open_session
from hyperctl.workflows.contract import ExportInput, ExportResult
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.request import TransportChoice
from tests.integration.orders import export_input
from tests.moments import SOON_SECONDS, once, until
from tests.simulator import VCenterSimulator, running_vcenter

from .conftest import MIB, PASSWORD, make_guest, sha256
from .exporting import copying_threads, kill, start_export
from .front import Answer, Asked, Front, front_of

VM = "web-server-01"
LARGE = "file-server-01"
ODD = "a+b (old) #1 & ü"
LARGE_BYTES = 128 * MIB + 1024
LOST_BYTES = 64 * MIB
"""What a kill may cost a disk."""


@pytest.fixture
def argument(sim: VCenterSimulator, settings: HostSettings, running: Attempt) -> ExportInput:
    return export_input(sim, settings, running, VM, "datastore")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "FIRST_PAUSE_SECONDS", 0.05)


@pytest.fixture(autouse=True)
def nothing_is_left(sim: VCenterSimulator) -> Iterator[None]:
    yield
    until(lambda: not sim.sessions() and not copying_threads(), copying_threads, SOON_SECONDS)


def assert_right(sim: VCenterSimulator, result: ExportResult, vm: str = VM) -> None:
    for disk in result.disks:
        assert sha256(Path(disk.path)) == sha256(sim.raw_disk(vm, disk.index)), disk.source_name


# --- right, and at once ------------------------------------------------------------------------------


@pytest.mark.parametrize("connections", [1, 4])
def test_a_copy_is_the_source_byte_for_byte(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    connections: int,
) -> None:
    result = export_disks(argument.model_copy(update={"connections": connections}), settings, running)
    assert_right(sim, result)
    assert [disk.received_bytes for disk in result.disks] == [disk.capacity_bytes for disk in result.disks]
    assert all(disk.source_checksum == "" for disk in result.disks), "nothing is claimed of the source"
    assert sim.leases(VM) == [] or not sim.leases(VM)[-1]["active"]


def test_it_gives_the_same_digest_as_an_export_lease(
    settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    by_files = export_disks(argument, settings, running)
    other = argument.model_copy(update={"transport": "nfc", "job_id": "job-other"})
    by_lease = export_disks(other, settings, running)
    assert [d.root_digest for d in by_files.disks] == [d.root_digest for d in by_lease.disks]


@pytest.fixture(scope="module")
def odd_sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenterSimulator]:
    """A vCenter whose names have to be quoted."""
    folder = tmp_path_factory.mktemp("odd")
    make_guest(folder / "guests", ODD, [9 * MIB])
    with running_vcenter(folder / "guests", folder / "state", PASSWORD, datacenter="DC & 100+1") as simulator:
        yield simulator


def test_odd_names_are_found(
    odd_sim: VCenterSimulator, settings: HostSettings, running: Attempt, sim: VCenterSimulator
) -> None:
    result = export_disks(export_input(odd_sim, settings, running, ODD, "datastore"), settings, running)
    assert_right(odd_sim, result, ODD)


def test_finished_disks_are_not_asked_for_again(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    first = export_disks(argument, settings, running)
    before = sim.sent_bytes("folder")
    assert export_disks(argument, settings, running).disks == first.disks
    assert sim.sent_bytes("folder") == before


# --- what passes within one attempt --------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_connection", "after_bytes": 3 * MIB},
        {"kind": "drop_connection", "after_bytes": 0, "times": 3},
        {"kind": "truncate", "after_bytes": 5 * MIB, "times": 2},
        {"kind": "expire_sessions", "after_bytes": 2 * MIB},
        {"kind": "renew_cookie"},
        {"kind": "renew_cookie", "everywhere": True},
        {"kind": "redirect", "status": 307, "times": 4},
        {"kind": "status", "status": 503, "retry_after": 1},
        {"kind": "status", "status": 429, "times": 3},
        {"kind": "status", "status": 500, "times": 2},
    ],
    ids=lambda fault: f"{fault['kind']}-{fault.get('status', '')}-{fault.get('times', 1)}",
)
def test_what_passes_is_survived_within_the_attempt(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    fault: dict[str, Any],
) -> None:
    sim.fault(vm=VM, disk=0, transport="folder", **fault)
    assert_right(sim, export_disks(argument, settings, running))
    (state,) = sim.call("GET", "/faults") or [{"hits": fault.get("times", 1)}]
    assert state["hits"] >= 1, "the fault has struck"


def test_sessions_that_end_again_and_again_are_renewed_by_one_thread_for_all(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    through: ExportInput,
    front: Front,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranges, "CHUNK_BYTES", 4 * MIB)  # so that all connections have something to ask for
    numbers, ends = itertools.count(1), (6, 9, 12)

    def expire(_: Asked) -> None:
        if next(numbers) in ends:
            sim.fault("expire_sessions")

    front.rule = expire
    sim.call("DELETE", "/requests")
    assert_right(sim, export_disks(through, settings, running))
    logins = sim.call("GET", "/requests")["Login"]
    assert 1 < logins <= 1 + len(ends), "not one login for each connection"


def test_a_stalled_connection_is_left_for_another(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    sim.fault("stall", vm=VM, disk=0, after_bytes=MIB)  # for ever
    settings = settings.model_copy(update={"vsphere_timeout_seconds": 3.0})
    assert_right(sim, export_disks(argument, settings, running))


def test_a_connection_that_only_trickles_is_left_for_another(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(datastore_files, "TRICKLE_SECONDS", 2.0)
    sim.fault("slow", vm=VM, disk=0, bytes_per_second=2000)
    with once(lambda: "not even 1024 KiB" in caplog.text, lambda: sim.call("DELETE", "/faults")):
        assert_right(sim, export_disks(argument, settings, running))


def test_a_call_of_the_api_in_an_ended_session_logs_in_anew(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput
) -> None:
    with open_session(argument.source_vcenter, settings, running) as session:
        sim.fault("expire_sessions")
        assert read_machine(session, argument.machine.moref).machine == argument.machine
        sim.fault("expire_sessions")
        assert session.managed(type_of_machine(), argument.machine.moref).name == VM


def type_of_machine() -> Any:
    from pyVmomi import vim

    return vim.VirtualMachine


# --- what ends an attempt, and a retry ends well --------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"kind": "ignore_range", "times": 9}, "200, not 206"),
        ({"kind": "wrong_range", "times": 9}, "the range 'bytes"),
        ({"kind": "change_etag", "after_bytes": 2 * MIB}, "has changed while it was copied"),
    ],
    ids=["ignore_range", "wrong_range", "change_etag"],
)
def test_an_answer_for_something_else_is_never_taken(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    fault: dict[str, Any],
    words: str,
) -> None:
    sim.fault("slow", vm=VM, disk=0, bytes_per_second=8 * MIB)
    sim.fault(vm=VM, disk=0, transport="folder", **fault)
    with pytest.raises(HyperctlError, match=words) as caught:
        export_disks(argument, settings, running)
    assert caught.value.code is ErrorCode.TRANSFER_CORRUPT
    sim.call("DELETE", "/faults")
    assert_right(sim, export_disks(argument, settings, running))


def test_a_file_that_changed_is_copied_from_its_beginning(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    sim.fault("slow", vm=VM, disk=0, bytes_per_second=6 * MIB)
    sim.fault("change_etag", vm=VM, disk=0, after_bytes=22 * MIB)
    with pytest.raises(HyperctlError):
        export_disks(argument.model_copy(update={"connections": 1}), settings, running)
    assert read_ledger(staging.ledger(1)).blocks.known_count > 0
    sim.call("DELETE", "/faults")
    result = export_disks(argument, settings, running)
    assert_right(sim, result)
    assert result.disks[0].received_bytes == result.disks[0].capacity_bytes


def test_a_change_after_the_last_byte_is_seen_before_the_disk_counts_as_whole(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    sim.fault("slow", vm=VM, disk=0, bytes_per_second=20 * MIB)
    capacity = argument.machine.disks[0].capacity_bytes
    sim.fault("change_etag", vm=VM, disk=0, after_bytes=capacity - MIB)  # in the last answer
    with pytest.raises(HyperctlError, match="has changed"):
        export_disks(argument.model_copy(update={"connections": 1}), settings, running)
    assert read_ledger(staging.ledger(1)).finish is None


def test_a_machine_that_is_started_meanwhile_ends_the_copy(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(datastore, "LOOK_SECONDS", 0.5)
    sim.fault("slow", vm=VM, bytes_per_second=MIB // 16)

    def start_and_stop() -> None:
        for state in ("poweredOn", "poweredOff"):
            sim.call("POST", f"/vms/{VM}/power", {"state": state})

    with once(sim.sends("folder"), start_and_stop) as started, pytest.raises(HyperctlError) as caught:
        export_disks(argument, settings, running)
    assert caught.value.code is ErrorCode.VM_POWERED_ON
    assert started.seconds < SOON_SECONDS, "at the next look, not at the end"
    sim.call("DELETE", "/faults")
    assert_right(sim, export_disks(argument, settings, running))


@pytest.mark.parametrize(
    ("status", "expected", "words"),
    [
        (403, ErrorCode.PERMISSION_DENIED, "Datastore.FileManagement"),
        (401, ErrorCode.PERMISSION_DENIED, "Datastore.FileManagement"),
        (404, ErrorCode.IMAGE_INVALID, "Datastore.Browse"),
    ],
)
def test_a_refusal_is_not_tried_again_and_says_what_is_missing(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    argument: ExportInput,
    status: int,
    expected: ErrorCode,
    words: str,
) -> None:
    sim.fault("status", vm=VM, status=status, times=3)
    with pytest.raises(HyperctlError) as caught:
        export_disks(argument, settings, running)
    assert caught.value.code is expected
    assert not caught.value.code.is_transient
    assert words in caught.value.failure.hint
    assert "nfc" in caught.value.failure.hint


@pytest.mark.parametrize("fault", ["slow", "stall"])
def test_a_cancel_stops_it_soon(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, argument: ExportInput, fault: str
) -> None:
    if fault == "slow":
        sim.fault("slow", vm=VM, bytes_per_second=MIB // 16)
    else:
        sim.fault("stall", vm=VM, times=20)
    settings = settings.model_copy(update={"vsphere_timeout_seconds": 60.0})

    def is_reading() -> bool:
        return sends() if fault == "slow" else any(one["hits"] for one in sim.call("GET", "/faults"))

    sends = sim.sends("folder")
    with once(is_reading, running.stop) as stopped, pytest.raises(CancelledError):
        export_disks(argument, settings, running)
    assert stopped.seconds < SOON_SECONDS
    until(
        lambda: all(thread.name != "vsphere-call" for thread in threading.enumerate()),
        "a look at the files has gone on",
        SOON_SECONDS,
    )


def test_a_cancel_during_the_login_leaves_no_login_behind(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, through: ExportInput, front: Front
) -> None:
    """What nobody waits for any more goes through all the same, and is taken back."""
    ended = threading.Event()

    def cancel(body: bytes) -> None:
        if b"<Login " in body:
            running.stop()
            ended.wait(60)

    front.hears = cancel
    sim.call("DELETE", "/requests")
    asked = {"Login": 1, "Logout": 1}
    with pytest.raises(CancelledError):
        export_disks(through, settings.model_copy(update={"vsphere_timeout_seconds": 60.0}), running)
    ended.set()
    until(lambda: asked.items() <= sim.call("GET", "/requests").items())


# --- kill -9 -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(vcenter_sim: VCenterSimulator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guest with a disk of noise that is larger than what may be lost."""
    guest = make_guest(tmp_path_factory.mktemp("large"), LARGE, [9 * MIB])
    with (guest / "disk1.raw").open("r+b") as file:
        file.truncate(LARGE_BYTES)
        source = random.Random(7)
        for offset in range(0, LARGE_BYTES - MIB, MIB):
            file.seek(offset)
            file.write(source.randbytes(MIB))
    (guest / "disk1.vmdk").unlink()
    document = (guest / "guest.json").read_text().replace(', "stream": "disk1.vmdk"', "")
    (guest / "guest.json").write_text(document)
    vcenter_sim.call("POST", "/guests", {"directory": str(guest)})
    return guest


@pytest.mark.parametrize("seed", range(20))
def test_a_worker_that_is_killed_costs_little(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, large: Path, seed: int
) -> None:
    argument = export_input(sim, settings, running, LARGE, "datastore")
    staging = Staging(argument.output_dir, argument.job_id)
    before = sim.sent_bytes("folder")
    sim.fault("slow", vm=LARGE, bytes_per_second=100 * MIB)
    worker = start_export(argument, settings)
    goal = random.Random(seed).uniform(0.02, 0.98) * LARGE_BYTES
    until(lambda: not worker.is_alive() or sim.sent_bytes("folder") - before >= goal)
    kill(worker)
    assert sim.sent_bytes("folder") - before >= goal, "it had ended before it was killed"
    known = read_ledger(staging.ledger(1)) if staging.ledger(1).exists() else None
    kept = known.blocks.known_count * known.header.block_bytes if known else 0
    sim.call("DELETE", "/faults")

    result = export_disks(argument, settings, running)

    assert sha256(Path(result.disks[0].path)) == sha256(large / "disk1.raw")
    again = sim.sent_bytes("folder") - before - LARGE_BYTES
    assert again <= LOST_BYTES, f"{again / MIB:.1f} MiB were moved again"
    assert result.disks[0].received_bytes <= LARGE_BYTES + LOST_BYTES
    assert goal - kept <= LOST_BYTES
    sim.fault("expire_sessions")  # the dead worker's own, which would idle out


# --- the preflight -----------------------------------------------------------------------------------------


def test_a_storage_of_ours_that_fails_is_not_blamed_on_the_vcenter(
    settings: HostSettings, running: Attempt, argument: ExportInput, staging: Staging
) -> None:
    staging.create()
    staging.ledger(1).mkdir()
    with pytest.raises(HyperctlError, match=f"{staging.ledger(1)}: Is a directory") as caught:
        export_disks(argument, settings, running)
    assert caught.value.code is ErrorCode.STORAGE_FAILED


def test_the_plan_says_which_transport_and_why(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt
) -> None:
    fuller = plan_source(sim.request("web-server-02"), settings, running)
    assert (fuller.transport, fuller.problems) == ("datastore", ())
    assert "over several connections" in fuller.transport_reason
    thin = plan_source(sim.request(VM), settings, running)
    assert (thin.transport, thin.problems) == ("nfc", ())
    assert "holes are not sent" in thin.transport_reason


def test_auto_falls_back_and_says_why(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt
) -> None:
    sim.fault("status", vm="web-server-02", status=403)
    plan = plan_source(sim.request("web-server-02"), settings, running)
    assert (plan.transport, plan.problems) == ("nfc", ())
    assert "datastore cannot be used" in plan.transport_reason
    assert "403" in plan.transport_reason
    snapshots = plan_source(sim.request("appliance-01"), settings, running)
    assert snapshots.transport == "nfc"
    assert "snapshots" in snapshots.transport_reason


def test_a_transport_that_was_asked_for_and_cannot_be_is_a_problem(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt
) -> None:
    asked = {"transport": TransportChoice.DATASTORE}
    request = sim.request("appliance-01").model_copy(update=asked)
    plan = plan_source(request, settings, running)
    (problem,) = plan.problems
    assert problem.code is ErrorCode.VM_UNSUPPORTED
    assert "cannot be copied by datastore" in problem.message
    assert "--transport nfc, auto" in problem.hint
    good = plan_source(sim.request(VM).model_copy(update=asked), settings, running)
    assert (good.transport, good.transport_reason, good.problems) == ("datastore", "it was asked for", ())


# --- what real servers and those behind them do -----------------------------------------------------------


@pytest.fixture
def front(sim: VCenterSimulator, tmp_path: Path) -> Iterator[Front]:
    with front_of(sim, tmp_path / "front") as front:
        yield front


@pytest.fixture
def esxi(sim: VCenterSimulator, tmp_path: Path) -> Iterator[Front]:
    """A host to which requests are passed on."""
    with front_of(sim, tmp_path / "esxi", "127.0.0.2") as esxi:
        yield esxi


@pytest.fixture
def through(argument: ExportInput, front: Front) -> ExportInput:
    return argument.model_copy(update={"vcenter": front.vcenter()})


def cookie_of(asked: Asked) -> str:
    return asked.headers.get("Cookie", "")


def test_connections_are_kept_alive(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    through: ExportInput,
    front: Front,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranges, "CHUNK_BYTES", 4 * MIB)
    assert_right(sim, export_disks(through.model_copy(update={"connections": 1}), settings, running))
    assert len(front.requests) == 4 + 7 + 3 + 2, "to find the files, for two disks, to look again"
    assert len(front.ports) == 1 + 1 + 1 + 2


@pytest.mark.parametrize(
    "headers", [{"Connection": "close"}, {"Transfer-Encoding": "chunked", "Content-Length": ""}]
)
def test_other_ways_of_ending_an_answer(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    through: ExportInput,
    front: Front,
    headers: dict[str, str],
) -> None:
    front.change = lambda asked, answer: Answer(answer.status, answer.headers | headers, answer.body)
    assert_right(sim, export_disks(through, settings, running))


@pytest.mark.parametrize(
    "change",
    [
        lambda asked, answer: Answer(answer.status, answer.headers, answer.body + b"x"),
        lambda asked, answer: Answer(
            answer.status,
            answer.headers | {"Transfer-Encoding": "chunked", "Content-Length": ""},
            answer.body + b"x",
        ),
        lambda asked, answer: Answer(answer.status, answer.headers | {"Content-Range": ""}, answer.body),
        lambda asked, answer: Answer(
            answer.status, answer.headers | {"Content-Encoding": "gzip"}, answer.body
        ),
        lambda asked, answer: Answer(
            answer.status,
            answer.headers | {"Content-Range": answer.headers.get("Content-Range", "").split("/")[0] + "/*"},
            answer.body,
        ),
    ],
    ids=["too long", "too long in chunks", "no Content-Range", "compressed", "size not told"],
)
def test_an_answer_that_is_not_exactly_what_was_asked_for_is_refused(
    settings: HostSettings, running: Attempt, through: ExportInput, front: Front, change: Any
) -> None:
    front.change = lambda asked, answer: change(asked, answer) if answer.status == 206 else answer
    with pytest.raises(HyperctlError) as caught:
        export_disks(through, settings, running)
    assert caught.value.code is ErrorCode.TRANSFER_CORRUPT


def test_what_was_cut_off_or_said_beside_the_point_is_survived(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    through: ExportInput,
    front: Front,
) -> None:
    """Each by itself: a descriptor cut off, wordy redirects, one with a space, a cookie that has expired."""
    cut: list[Asked] = []

    def change(asked: Asked, answer: Answer) -> Answer:
        expired = "vmware_soap_session=gone; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
        headers = answer.headers | {"Set-Cookie": expired}
        if "-flat" in asked.target or cut:
            return Answer(answer.status, headers, answer.body)
        cut.append(asked)
        length = {"Content-Length": str(len(answer.body)), "Connection": "close"}
        return Answer(answer.status, headers | length, answer.body[:30])

    def moved(asked: Asked) -> Answer | None:
        if "-flat" not in asked.target or "moved" in asked.target:
            return None
        return Answer(302, {"Location": f"{asked.target}&moved=a b"}, b"moved " * 20_000)

    front.change, front.rule = change, moved
    assert_right(sim, export_disks(through, settings, running))
    assert cut
    assert len(sim.call("GET", "/sessions")["sessions"]) == 0, "no session was left for another"


def test_a_server_that_is_busy_now_and_then_is_waited_for(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, through: ExportInput, front: Front
) -> None:
    """No two disks' files can be found in a row; each of them can."""
    asked_before: Counter[str] = Counter()

    def busy(asked: Asked) -> Answer | None:
        asked_before[asked.target] += 1
        return Answer(429) if asked_before[asked.target] % 2 else None

    front.rule = busy
    assert_right(sim, export_disks(through, settings, running))


def test_a_broken_call_at_the_end_does_not_cost_the_attempt(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, through: ExportInput, front: Front
) -> None:
    broken: list[Asked] = []

    def looked_at_again(asked: Asked) -> None:
        if len(front.requests) > 4 and asked.headers.get("Range") == "bytes=0-0" and not broken:
            broken.append(asked)
            front.unanswered = 1

    front.rule = looked_at_again
    assert_right(sim, export_disks(through, settings, running))
    assert broken


def test_a_file_of_another_size_is_refused(
    settings: HostSettings, running: Attempt, through: ExportInput, front: Front
) -> None:
    def longer(asked: Asked, answer: Answer) -> Answer:
        said = answer.headers.get("Content-Range", "")
        whole = f"{said.split('/')[0]}/99999999"
        return Answer(answer.status, answer.headers | {"Content-Range": whole if said else ""}, answer.body)

    front.change = longer
    with pytest.raises(HyperctlError, match="99999999 bytes, vSphere says") as caught:
        export_disks(through, settings, running)
    assert caught.value.code is ErrorCode.IMAGE_INVALID


def test_a_server_that_decodes_names_once_is_asked_in_its_form(
    odd_sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    tmp_path: Path,
    sim: VCenterSimulator,
) -> None:
    with front_of(odd_sim, tmp_path / "once") as front:
        front.rule = lambda asked: Answer(404) if "%25" in asked.target else None
        argument = export_input(odd_sim, settings, running, ODD, "datastore", vcenter=front.vcenter())
        assert_right(odd_sim, export_disks(argument, settings, running), ODD)
        assert "%25" in front.requests[0].target
        assert "%25" not in front.requests[-1].target


def test_a_redirect_to_another_host_gets_no_cookie_and_needs_an_authority(
    sim: VCenterSimulator,
    settings: HostSettings,
    running: Attempt,
    through: ExportInput,
    front: Front,
    esxi: Front,
) -> None:
    def passed_on(asked: Asked) -> Answer | None:
        if "-flat" not in asked.target:
            return None
        return Answer(302, {"Location": f"https://{esxi.endpoint}{asked.target}&ticket=1"})

    front.rule = passed_on
    with pytest.raises(HyperctlError) as caught:
        export_disks(through, settings, running)
    assert caught.value.code is ErrorCode.VCENTER_CERTIFICATE_UNTRUSTED
    assert str(esxi.endpoint) in str(caught.value)
    assert esxi.requests == []

    trusting = settings.model_copy(update={"vsphere_ca_file": esxi.certificate})
    with pytest.raises(HyperctlError, match="wants a login of its own") as caught:
        export_disks(through, trusting, running)
    assert caught.value.code is ErrorCode.PERMISSION_DENIED

    # What an ESXi host lets in by the ticket in its URL, the front lets in here by the session's cookie.
    def by_ticket(asked: Asked) -> Answer | None:
        assert "ticket=1" in asked.target
        return None

    esxi.rule = by_ticket
    esxi.change = lambda asked, answer: passed_by_ticket(sim, front, asked)
    assert_right(sim, export_disks(through, trusting, running))
    assert len(esxi.requests) >= 6
    assert not any(cookie_of(asked) for asked in esxi.requests)


def passed_by_ticket(sim: VCenterSimulator, front: Front, asked: Asked) -> Answer:
    """A range of the source's own file, as a host behind the vCenter would send it."""
    index = 2 if "_1-flat" in asked.target else 1
    content = sim.raw_disk(VM, index).read_bytes()
    first, last = (int(text) for text in asked.headers["Range"].removeprefix("bytes=").split("-"))
    return Answer(206, {"Content-Range": f"bytes {first}-{last}/{len(content)}"}, content[first : last + 1])


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://127.0.0.1/x", "not HTTPS"),
        ("file:///etc/passwd", "not HTTPS"),
        ("https://[::1/x", "not HTTPS"),
        ("https://127.0.0.1:99999/x", "not HTTPS"),
        ("", "more than 5 times"),
    ],
)
def test_other_redirects_are_refused(
    settings: HostSettings,
    running: Attempt,
    through: ExportInput,
    front: Front,
    location: str,
    words: str,
) -> None:
    front.rule = lambda asked: Answer(302, {"Location": location or asked.target})
    with pytest.raises(HyperctlError, match=words):
        export_disks(through, settings, running)
    assert len(front.requests) <= 10
