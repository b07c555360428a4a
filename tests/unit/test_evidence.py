"""What is kept of trial boots, and where."""

from pathlib import Path

from hyperctl.activities.acceleration import Acceleration
from hyperctl.activities.prove import evidence
from hyperctl.activities.prove.boot import Boot
from hyperctl.activities.prove.report import reports_in
from hyperctl.activities.prove.trial import Ending
from hyperctl.workflows.guest import BootProof
from tests.unit.statuses import PROOF
from tests.unit.test_compare import AFTER


def booted(*, report: bool, screenshot: bytes = b"\x89PNG") -> Boot:
    (found,) = reports_in(AFTER)
    ending = Ending(report=found if report else None, boot_seconds=1.0, screenshot=screenshot)
    return Boot(ending, Acceleration.TCG, b"Linux version 6.1")


def test_a_boot_leaves_four_files_and_the_last_of_a_name_stays(tmp_path: Path) -> None:
    folder = tmp_path / "evidence"
    kept = evidence.keep(folder, evidence.PROOF, PROOF, booted(report=True))
    assert Path(kept.screenshot).read_bytes() == b"\x89PNG"
    assert Path(kept.serial_log).read_bytes() == b"Linux version 6.1"
    assert (folder / "proof.report.txt").read_text() == AFTER
    assert BootProof.model_validate_json((folder / "proof.json").read_bytes()) == PROOF
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}

    again = evidence.keep(folder, evidence.PROOF, PROOF, booted(report=False, screenshot=b""))
    assert again.screenshot == ""
    assert {path.name for path in folder.iterdir()} == {"proof.json", "proof.serial.log"}


def test_a_failure_takes_along_what_was_seen_before_it(tmp_path: Path) -> None:
    """The first proof of a conversion that was done once more, and the unconverted guest's boot."""
    job, errors = tmp_path / "job", tmp_path / "errors"
    for name in (evidence.FIRST_PROOF, evidence.UNCONVERTED):
        evidence.keep(job, name, PROOF, booted(report=False))
    evidence.keep(errors, evidence.PROOF, PROOF, booted(report=True))
    evidence.copy_others(job, errors)
    evidence.copy_others(tmp_path / "nowhere", errors)
    assert {path.name for path in errors.glob("*.png")} == {
        "proof.png",
        "first-proof.png",
        "unconverted.png",
    }
