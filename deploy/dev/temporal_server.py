"""The Temporal dev server: on PATH, else downloaded by Temporal's SDK, else built from its Go modules."""

import platform
import re
import shutil
import subprocess
from pathlib import Path

from deploy.dev import toolchain
from deploy.dev.artifact import keep, kept
from deploy.dev.environment import LOCK
from deploy.dev.layout import DEV, ROOT, VENV, digest

MODULE = DEV / "temporal"
PACKAGE = "github.com/temporalio/cli/cmd/temporal"
OLDEST_SERVER = (1, 31)
"""From here on priorities are obeyed without being switched on."""
DOWNLOAD_TIMEOUT_SECONDS = 60.0


def find_temporal() -> Path | None:
    """A `temporal` with a server that is new enough, or None. Takes a moment, not more."""
    on_path = shutil.which("temporal")
    candidates = [Path(on_path)] if on_path else []
    candidates += [_kept("build"), _kept("download")]
    return next((path for path in candidates if path.is_file() and _is_new_enough(path)), None)


def make_temporal() -> Path:
    """Find, download or build it."""
    found = find_temporal()
    if found:
        return found
    try:
        return keep(_kept("download").parent.name, _download) / "temporal"
    except (subprocess.SubprocessError, OSError) as error:
        print(f"Temporal's own download is not to be had ({error}): building from its Go modules", flush=True)
    return keep(_kept("build").parent.name, _build) / "temporal"


def _kept(how: str) -> Path:
    module = (MODULE / "go.mod", MODULE / "go.sum")
    source = module if how == "build" else (LOCK,)
    return kept(f"temporal-{digest(source, how, platform.machine())}") / "temporal"


def _download(folder: Path) -> None:
    argv = [str(VENV / "bin" / "python"), "-m", "deploy.dev.temporal_download", str(folder)]
    done = subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_SECONDS, check=False
    )
    if done.returncode != 0:
        raise subprocess.SubprocessError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    if not _is_new_enough(folder / "temporal"):
        raise subprocess.SubprocessError("its server is too old")


def _build(folder: Path) -> None:
    toolchain.build(MODULE, PACKAGE, folder / "temporal")


def _is_new_enough(binary: Path) -> bool:
    argv = [str(binary), "--version"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    found = re.search(r"Server (\d+)\.(\d+)", done.stdout)
    return found is not None and tuple(int(part) for part in found.groups()) >= OLDEST_SERVER


if __name__ == "__main__":
    print(make_temporal())
