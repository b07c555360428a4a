"""What a trial boot is taken for by what the guest says, and when; on domains of libvirt's test driver."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

import libvirt
import pytest

from hyperctl.activities.acceleration import Acceleration
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.prove import trial
from hyperctl.activities.prove.activity import proof_from
from hyperctl.activities.prove.boot import Boot
from hyperctl.activities.prove.limit import Patience
from hyperctl.activities.prove.trial import Ending, TrialFiles, Watch
from hyperctl.activities.prove.unlock import Unlocking
from hyperctl.activities.prove.verdict import judge
from hyperctl.workflows.request import ProveMode
from hyperctl.workflows.status import Phase
from tests.unit.machines import machine

HASTE = Patience(boot=2, settle=3.5, grace=0.5, standstill=1.5, network=4, label=0)
DOMAIN = "<domain type='test'><name>{}</name><memory>1024</memory><os><type>hvm</type></os></domain>"
OFF = "off"
PANIC = "[9.1] Kernel panic - not syncing: Fatal exception\n"


def said(uptime: int, state: str = "starting", *, arrived: bool = True, job: str = "") -> str:
    """A report as the reporter writes it."""
    kind, target = ("full", "active") if arrived else ("waiting", "inactive")
    jobs = f"12 {job} start running\n" if job else ""
    return (
        f"HYPERCTL-PROOF-BEGIN {kind}\n@ state\n{state}\n@ units\n{target}\n@ jobs\n{jobs}"
        f"@ uptime\n{uptime}.00 1.00\nHYPERCTL-PROOF-END\n"
    )


NETWORK, DISK = "networking.service", "dev-sdb1.device"
GUESTS = {
    "settles": [said(8), said(9, "running")],
    "panics": [said(9), PANIC],
    "switches itself off": [said(9), OFF],
    "starts for long": [said(9 + number) for number in range(8)],
    "restarts and hangs": [said(9), *(said(number, arrived=False) for number in range(1, 6))],
    "restarts for ever": [said(9 - number % 2) for number in range(20)],
    "waits for a network": [
        *(said(at, arrived=False, job=NETWORK) for at in range(1, 6)),
        said(9, "degraded"),
    ],
    "waits for a disk": [*(said(at, arrived=False, job=DISK) for at in range(1, 6)), said(9, "degraded")],
}
"""What each says, every 0.6 seconds, until it is silent."""
EVERY_SECONDS = 0.6


class Clock:
    """Time that passes only while the watch sleeps, and what the guest says in it."""

    def __init__(self, sayings: Sequence[str], files: TrialFiles, domain: libvirt.virDomain) -> None:
        self._sayings = sayings
        self._files = files
        self._domain = domain
        self._said = 0
        self._now = 0.0

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds
        while self._said < len(self._sayings) and self._said * EVERY_SECONDS <= self._now:
            saying = self._sayings[self._said]
            self._said += 1
            if saying == OFF:
                self._domain.destroy()
                continue
            with (self._files.serial if saying == PANIC else self._files.report).open("a") as file:
                file.write(saying)


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Ending]:
    return {
        name: watched(sayings, TrialFiles(tmp_path_factory.mktemp("guest") / "trial"))
        for name, sayings in GUESTS.items()
    }


def watched(sayings: Sequence[str], files: TrialFiles) -> Ending:
    files.create()
    running = Attempt(Phase.PROVE, logging.getLogger("test"))
    connection = libvirt.open("test:///default")
    domain = connection.createXML(DOMAIN.format(files.folder.parent.name))
    unlocking = Unlocking("", [], running)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "time", Clock(sayings, files, domain))
        ending = Watch(domain, files, lambda report: report.settled, HASTE, running, unlocking).until_end()
    with suppress(libvirt.libvirtError):  # one that has switched itself off is gone
        domain.destroy()
    connection.close()
    return ending


@pytest.mark.parametrize("name", ["settles", "starts for long", "waits for a network"])
def test_a_guest_that_goes_on_speaking_is_waited_for(endings: Mapping[str, Ending], name: str) -> None:
    assert endings[name].reason == ""
    assert endings[name].report is not None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("panics", "fell silent"),
        ("switches itself off", "the guest switched itself off"),
        ("restarts and hangs", "multi-user was not reached"),
        ("restarts and hangs", "in 2 boots one after the other"),
        ("restarts for ever", "boots one after the other"),
        ("waits for a disk", "multi-user was not reached"),
    ],
)
def test_one_that_does_not_come_to_rest_comes_to_an_end(
    endings: Mapping[str, Ending], name: str, words: str
) -> None:
    assert words in endings[name].reason


def test_what_stopped_it_is_why_a_proof_fails_whatever_it_had_reported(endings: Mapping[str, Ending]) -> None:
    ending, about = endings["switches itself off"], machine(nics=())
    assert ending.report is not None
    judgement = judge(ending.report, about, ProveMode.FULL)
    assert judgement.problems == ()
    proof = proof_from(Boot(ending, Acceleration.KVM, b""), about, ProveMode.FULL, judgement)
    assert not proof.passed
    assert "switched itself off" in proof.problems[0]


def test_a_panic_in_multi_user_is_named(endings: Mapping[str, Ending]) -> None:
    assert "Fatal exception" in endings["panics"].diagnosis
