"""Makes what development needs beyond the system's packages: `python3 -m deploy.dev.prepare [venv|tools]`.

Needs nothing but the system's Python. `deploy/dev/setup` runs it after it has seen to the packages.
"""

import fcntl
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.dev.environment import SYSTEM_PYTHON, environment_is_current
from deploy.dev.guest.place import find_guests
from deploy.dev.layout import BUILD, ROOT, VENV
from deploy.dev.programme import VCENTER
from deploy.dev.steps import Step, StepFailed, Steps
from deploy.dev.temporal_server import find_temporal
from deploy.dev.toolchain import find_go

LOG_DIR = BUILD / "setup"
PARTS = LOG_DIR / "parts.json"


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the set-up has put what the stack is made of."""

    temporal: Path
    vcenter: Path
    guests: Path
    """A folder with one folder a source guest."""


class NotSetUp(Exception):
    """Something that the set-up makes is not there."""


def load_parts() -> Parts:
    """What the last set-up made. Raises `NotSetUp` when it never ended well or its work is gone."""
    try:
        document = json.loads(PARTS.read_text())
    except FileNotFoundError:
        raise NotSetUp("this checkout is not set up: run deploy/dev/setup") from None
    parts = Parts(**{name: Path(path) for name, path in document.items()})
    for path in (parts.temporal, parts.vcenter, parts.guests):
        if not path.exists():
            raise NotSetUp(f"{path} is gone: run deploy/dev/setup")
    if not holds_guests(parts.guests):
        raise NotSetUp(f"no guest in {parts.guests}: run deploy/dev/setup")
    return parts


def holds_guests(folder: Path) -> bool:
    """Whether the simulated vCenter would find a guest there: a vCenter without one serves nobody."""
    return any(folder.glob("*/guest.json"))


EXTENTS = {"venv": ("venv",), "tools": ("venv", "go", "temporal", "vcenter")}
"""Parts of the set-up that can be asked for alone; `tools` is all but the source guest."""


def prepare(*, extent: str | None, started: float) -> None:
    """Make what is missing, one set-up at a time. Raises `StepFailed`."""
    LOG_DIR.mkdir(parents=True, exist_ok=True)
    with (LOG_DIR / "lock").open("w") as lock:
        _take(lock.fileno())
        steps = tuple(step for step in _steps() if extent is None or step.name in EXTENTS[extent])
        results = Steps(steps, ROOT, LOG_DIR, started).run()
        if extent is None:
            guests = Path(results["guest"])
            if not holds_guests(guests):
                raise StepFailed(f"guest left no guest in {guests}. The whole log: {LOG_DIR / 'guest.log'}")
            parts = Parts(Path(results["temporal"]), Path(results["vcenter"]), guests)
            PARTS.write_text(json.dumps(asdict(parts), default=str, indent=2) + "\n")


def _steps() -> tuple[Step, ...]:
    def module(name: str) -> tuple[str, ...]:
        return (SYSTEM_PYTHON, "-m", f"deploy.dev.{name}")

    return (
        Step("venv", "the Python environment", module("environment"), find=environment_is_current),
        Step("go", "a Go toolchain", module("toolchain"), find=lambda: _text(find_go())),
        Step(
            "temporal",
            "the Temporal dev server",
            module("temporal_server"),
            after=("venv", "go"),
            find=lambda: _text(find_temporal()),
        ),
        Step(
            "vcenter",
            "the simulated vCenter",
            (*module("programme"), VCENTER.name),
            after=("go",),
            find=lambda: _text(VCENTER.find()),
        ),
        Step(
            "guest",
            "the source guest",
            (str(VENV / "bin" / "python"), "-m", "deploy.dev.guest.build", "--cache"),
            after=("venv",),
            find=lambda: _text(find_guests()),
        ),
    )


def _text(path: Path | None) -> str | None:
    return str(path) if path else None


def _take(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another set-up of this checkout is at work; waiting for it.", flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def main(arguments: list[str]) -> int:
    began = float(os.environ.get("SETUP_BEGAN") or time.time())
    started = time.monotonic() - max(0.0, time.time() - began)
    try:
        prepare(extent=arguments[0] if arguments else None, started=started)
    except StepFailed as error:
        print(f"\nThe set-up failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nThe set-up was interrupted; the next one goes on where it was.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
