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
    """Where the pictures of a boot are; empty where there is none."""

    screenshot: str
    serial_log: str


def keep(folder: Path, name: str, document: BaseModel, boot: Boot | None) -> Kept:
    """Put away one boot under a name, in place of an earlier one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = {
        "json": document.model_dump_json(indent=1).encode(),
        "report.txt": b"",
        "serial.log": b"",
        "png": b"",
    }
    if boot is not None:
        report = boot.ending.report
        files["report.txt"] = report.text.encode() if report else b""
        files["serial.log"] = boot.serial_log
        files["png"] = boot.ending.screenshot
    places = {}
    for kind, content in files.items():
        path = folder / f"{name}.{kind}"
        places[kind] = str(path) if content else ""
        if content:
            write_atomically(path, content)
        else:
            path.unlink(missing_ok=True)
    return Kept(places["png"], places["serial.log"])


def copy_others(folder: Path, to: Path) -> None:
    """What is kept of other boots of the job than its last, to where a failure is kept."""
    for name in (FIRST_PROOF, UNCONVERTED):
        for path in sorted(folder.glob(f"{name}.*")) if folder.is_dir() else ():
            shutil.copy2(path, to / path.name)
