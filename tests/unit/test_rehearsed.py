"""How a rehearsal is told: its story, its end in the three verdicts' words, a batch with failures first."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError
from rich.console import Console

from hyperctl.client.cli.follow import exit_code
from hyperctl.client.render.batch import BatchTeller, batch_table, plain_rows
from hyperctl.client.render.events import Line, Mark, Stage, StageBegun, Working
from hyperctl.client.render.plain import PlainScreen
from hyperctl.client.render.rehearsed import age, rehearsal_ending, verdict_text
from hyperctl.client.render.story import proof_lines
from hyperctl.client.render.teller import Teller
from hyperctl.workflows.rehearsal import (
    BatchItem,
    RehearsalBatchRequest,
    RehearsalBatchStatus,
    RehearsalRequest,
    RehearsalResult,
    Verdict,
)
from hyperctl.workflows.request import MigrationRequest, VCenter
from hyperctl.workflows.status import PHASES, JobKind, JobStatus, Phase, PhaseRecord, PhaseState, Progress
from tests.unit.rehearsals import AWAY, NO_ROOT, booting, not_booting, not_rehearsed
from tests.unit.statuses import BEGAN, PLAN, PROOF, STEPS, at

UNDER_WAY = at(Phase.PLAN).model_copy(
    update={
        "kind": JobKind.REHEARSAL,
        "status": JobStatus.REHEARSING,
        "phase": Phase.REHEARSE,
        "plan": PLAN.model_copy(update={"transport": "datastore", "warnings": ("its migration is refused",)}),
        "phases": [
            PhaseRecord(phase=phase, state=PhaseState.RUNNING if phase is Phase.REHEARSE else PhaseState.DONE)
            for phase in PHASES[JobKind.REHEARSAL]
        ],
    }
)


def _request(name: str, **changes: object) -> RehearsalRequest:
    return RehearsalRequest.model_validate(
        {"vm_name": name, "vcenter": VCenter(server="vc.example.com"), **changes}
    )


def test_why_a_boot_stopped_is_told_once() -> None:
    why = "root device not found"
    stopped = PROOF.model_copy(
        update={"passed": False, "multi_user": False, "problems": (f"it stopped: {why}",), "diagnosis": why}
    )
    told = [line.text for line in proof_lines(stopped) if line.mark is Mark.FAILED]
    assert told == [f"it stopped: {why}"]
    elsewhere = stopped.model_copy(update={"problems": ("it stopped",)})
    assert [line.text for line in proof_lines(elsewhere) if line.mark is Mark.FAILED] == ["it stopped", why]


def test_the_story_of_one_is_told_once() -> None:
    teller = Teller()
    working = UNDER_WAY.model_copy(
        update={"progress": Progress(phase=Phase.REHEARSE, message="booting", steps=STEPS[:2])}
    )
    booting_now = Progress(phase=Phase.PROVE, message="booting", steps=STEPS)
    proving = working.model_copy(update={"progress": booting_now})
    events = [*teller.tell(UNDER_WAY), *teller.tell(working), *teller.tell(proving)]
    done = working.model_copy(
        update={"status": JobStatus.COMPLETED, "steps": STEPS, "proof": PROOF, "progress": None}
    )
    events += teller.tell(done)
    stages = [event.stage for event in events if isinstance(event, StageBegun)]
    assert stages == [Stage.CONNECT, Stage.REHEARSE]
    texts = [event.text for event in events if isinstance(event, Line)]
    for wanted in (
        "Connected to vcenter.example.com",
        "Rehearsed on kvm-01; nothing is copied",
        "its migration is refused",
        "VirtIO drivers injected: initramfs of 6.1.0-18-amd64",
        "Bootloader updated: root= by UUID",
        "Boot proof: starting the guest once, cut off from every network...",
        "Boot proof passed",
    ):
        assert texts.count(wanted) == 1, wanted
    assert not any("Copied by" in text or "images in" in text for text in texts)


@pytest.mark.parametrize(
    ("result", "title", "problem", "code"),
    [
        (booting(), "db-01 boots", None, 0),
        (not_booting(), "db-02 does not boot", NO_ROOT.message, 1),
        (not_rehearsed(), "db-03 was not rehearsed", AWAY.message, 1),
    ],
)
def test_each_verdict_has_its_words_and_exit_code(
    result: RehearsalResult, title: str, problem: str | None, code: int
) -> None:
    ending = rehearsal_ending(result)
    assert (ending.title, ending.succeeded) == (title, code == 0)
    assert [one.message for one in ending.problems] == ([problem] if problem else [])
    assert exit_code(result) == code
    out = io.StringIO()
    PlainScreen(out).end(ending)
    assert title in out.getvalue()


def test_the_verdict_in_a_line() -> None:
    assert verdict_text(Verdict.BOOTS, "") == "boots"
    assert verdict_text(Verdict.DOES_NOT_BOOT, "no root") == "does not boot: no root"
    assert verdict_text(Verdict.NOT_REHEARSED, "it is on") == "not rehearsed: it is on"
    assert age(datetime.now(UTC) - timedelta(days=3, hours=2)) == "3 days ago"
    assert age(datetime.now(UTC) - timedelta(minutes=2)) == "2m 00s ago"


def test_a_batchs_table_has_failures_first_on_any_screen() -> None:
    results = [booting("z"), booting("a"), not_rehearsed("m"), not_booting("evil\x1b[2Jname")]
    lines = list(plain_rows(results))
    assert [line.split()[0] for line in lines] == ["VM", "evil\\x1b[2Jname", "m", "a", "z"]
    out = io.StringIO()
    Console(file=out, width=100, markup=False, color_system=None).print(batch_table(results))
    drawn = out.getvalue()
    assert drawn.index("does not boot") < drawn.index("not rehearsed") < drawn.index("boots")
    assert "\x1b" not in drawn


def test_a_batch_under_way_tells_each_verdict_once() -> None:
    waiting = BatchItem(job_id="rehearsal-1", vm_name="one", vcenter="vc")
    done = waiting.model_copy(update={"run_id": "r", "verdict": Verdict.DOES_NOT_BOOT, "reason": NO_ROOT})
    going = BatchItem(job_id="rehearsal-2", run_id="r", vm_name="two", vcenter="vc")
    status = RehearsalBatchStatus(batch_id="b", parallel=2, created_at=BEGAN, items=(done, going))
    teller = BatchTeller()
    assert [type(event) for event in teller.tell(status)] == [Line, Working]
    (working,) = teller.tell(status)
    assert working == Working("1 of 2 rehearsals done, 1 under way")
    stuck = status.model_copy(update={"notes": ("waiting for a worker",)})
    assert [event.text for event in teller.tell(stuck) if isinstance(event, Line)] == ["waiting for a worker"]
    assert [type(event) for event in teller.tell(stuck)] == [Working]


def test_what_is_asked_of_a_rehearsal() -> None:
    request = _request("db-01", hardware={"disk_bus": "sata"}, initramfs="rebuild")
    migration = request.migration()
    assert isinstance(migration, MigrationRequest)
    assert (migration.hardware, migration.initramfs) == (request.hardware, request.initramfs)
    assert request.job_id == migration.job_id.replace("job-", "rehearsal-")
    with pytest.raises(ValidationError, match="trial boot"):
        _request("db-01", prove="none")
    with pytest.raises(ValidationError, match="there twice"):
        RehearsalBatchRequest(rehearsals=(_request("a"), _request("a")))
