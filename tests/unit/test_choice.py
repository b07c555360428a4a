"""The choice of a transport, and the sentence for it."""

import pytest

from hyperctl.activities.export.choice import Offer, choose
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.request import TransportChoice

from .machines import GIB, machine

VDDK, DATASTORE, NFC = TransportChoice.VDDK, TransportChoice.DATASTORE, TransportChoice.NFC
AUTO = TransportChoice.AUTO
NO_LIBRARY = Failure(code=ErrorCode.HOST_INCAPABLE, message="no library on kvm-1")
NO_FILES = Failure(code=ErrorCode.VM_UNSUPPORTED, message="ds1 is vSAN", hint="Use another.")

FULL = machine(allocated_bytes=3 * GIB)
THIN = machine(allocated_bytes=GIB)
UNKNOWN = machine(allocated_bytes=0)


def offers(vddk: Failure | None = NO_LIBRARY, datastore: Failure | None = None) -> list[Offer]:
    return [Offer(VDDK, vddk), Offer(DATASTORE, datastore), Offer(NFC)]


@pytest.mark.parametrize(
    ("found", "source", "expected", "words"),
    [
        (offers(), FULL, DATASTORE, "over several connections"),
        (offers(), UNKNOWN, DATASTORE, "over several connections"),
        (offers(), THIN, NFC, "only 25% of the disks' capacity is in use"),
        (offers(vddk=None), FULL, VDDK, "reads only what is in use"),
        (offers(vddk=None), THIN, VDDK, "reads only what is in use"),
        (offers(datastore=NO_FILES), FULL, NFC, "datastore cannot be used (ds1 is vSAN)"),
        (offers(datastore=NO_FILES), FULL, NFC, "vddk cannot be used (no library on kvm-1)"),
    ],
)
def test_the_best_that_can_be_used_is_chosen_with_its_reason(
    found: list[Offer], source: object, expected: TransportChoice, words: str
) -> None:
    choice = choose(AUTO, found, source)  # type: ignore[arg-type]
    assert choice.transport is expected
    assert words in choice.reason
    assert choice.problem is None


def test_a_missing_library_is_no_part_of_the_reason_for_the_next_best() -> None:
    assert "library" not in choose(AUTO, offers(), FULL).reason


@pytest.mark.parametrize("asked", [DATASTORE, NFC])
def test_what_was_asked_for_is_taken(asked: TransportChoice) -> None:
    choice = choose(asked, [Offer(asked)], THIN)
    assert (choice.transport, choice.reason, choice.problem) == (asked, "it was asked for", None)


def test_what_was_asked_for_and_cannot_be_is_a_problem_that_names_the_alternatives() -> None:
    choice = choose(DATASTORE, offers(datastore=NO_FILES), FULL)
    assert choice.transport is DATASTORE
    assert choice.problem == Failure(
        code=ErrorCode.VM_UNSUPPORTED,
        message="web-server-01 cannot be copied by datastore: ds1 is vSAN",
        hint="Use another. Can be used: --transport nfc, auto.",
    )


def test_a_transport_for_files_is_none_for_a_machine_in_a_vcenter() -> None:
    problem = choose(TransportChoice.FILE, offers(), FULL).problem
    assert problem is not None
    assert problem.code is ErrorCode.INVALID_REQUEST
    assert "datastore, nfc, auto" in problem.hint


def test_where_nothing_can_be_used_every_reason_is_given() -> None:
    found = [Offer(VDDK, NO_LIBRARY), Offer(DATASTORE, NO_FILES), Offer(NFC, NO_FILES)]
    problem = choose(AUTO, found, FULL).problem
    assert problem is not None
    assert "vddk: no library on kvm-1; datastore: ds1 is vSAN; nfc: ds1 is vSAN" in problem.message
