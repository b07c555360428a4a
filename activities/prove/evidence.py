"""What is kept of trial boots: `NAME.json`, `NAME.report.txt`, `NAME.serial.log` and `NAME.png` in a folder.

It lies in the job's own folder until the clean-up puts it beside the images, as `evidence/NAME.*`.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from hyperctl.activities.prove.boot import Boot
from hyperctl.activities.staging import write_atomically

PROOF = "proof"
FIRST_PROOF = "first-proof"
"""Of a conversion that was done once more."""
UNCONVERTED = "unconverted"


@dataclass(frozen=True, slots=True)
class Kept:
    """Where it is; empty where there is none."""

    screenshot: str
    serial_log: str
    report: str


def keep_boot(folder: Path, name: str, boot: Boot | None) -> Kept:
    """Put away what one boot showed under a name, in place of an earlier one's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    report = boot.ending.report if boot else None
    return Kept(
        screenshot=_put(folder / f"{name}.png", boot.ending.screenshot if boot else b""),
        serial_log=_put(folder / f"{name}.serial.log", boot.serial_log if boot else b""),
        report=_put(folder / f"{name}.report.txt", report.text.encode() if report else b""),
    )


def keep_document(folder: Path, name: str, document: BaseModel) -> None:
    """Put what was made of it beside it."""
    write_atomically(folder / f"{name}.json", document.model_dump_json(indent=1).encode())


def _put(path: Path, content: bytes) -> str:
    if not content:
        path.unlink(missing_ok=True)
        return ""
    write_atomically(path, content)
    return str(path)


def copy_others(folder: Path, to: Path) -> None:
    """What is kept of other boots of the job than its last, to where a failure is kept."""
    for name in (FIRST_PROOF, UNCONVERTED):
        for path in sorted(folder.glob(f"{name}.*")) if folder.is_dir() else ():
            shutil.copy2(path, to / path.name)
