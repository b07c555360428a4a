"""What a trial boot is taken for by what the guest says, and when; on domains of libvirt's test driver."""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import libvirt
import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.prove.limit import Patience
from hyperctl.activities.prove.trial import Ending, TrialFiles, Watch
from hyperctl.activities.prove.unlock import Unlocking
from hyperctl.workflows.status import Phase

HASTE = Patience(boot=2, settle=3.5, grace=0.5, standstill=1.5, network=4, label=0)
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


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Ending]:
    """All of them at the same time."""

    def watch(name: str) -> Ending:
        return watched(GUESTS[name], TrialFiles(tmp_path_factory.mktemp("guest") / "trial"))

    with ThreadPoolExecutor(len(GUESTS)) as pool:
        return dict(zip(GUESTS, pool.map(watch, GUESTS), strict=True))


def watched(sayings: Sequence[str], files: TrialFiles) -> Ending:
    files.create()
    running = Attempt(Phase.PROVE, logging.getLogger("test"))
    connection = libvirt.open("test:///default")

    def speak() -> None:
        for saying in sayings:
            with (files.serial if saying == PANIC else files.report).open("a") as file:
                file.write(saying)
            time.sleep(0.6)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(speak)
        domain, unlocking = connection.lookupByName("test"), Unlocking("", [], running)
        ending = Watch(domain, files, lambda report: report.settled, HASTE, running, unlocking).until_end()
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


def test_a_panic_in_multi_user_is_named(endings: Mapping[str, Ending]) -> None:
    assert "Fatal exception" in endings["panics"].diagnosis
