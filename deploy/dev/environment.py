"""The Python environment: `.venv` on the system's Python, holding exactly what `requirements.lock` names.

It sees the system's packages because guestfs and libvirt come from the distribution; every other package
is installed into it even where the system has one, so that the locked version is the one imported.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.dev.layout import BUILD, ROOT, VENV, digest

SYSTEM_PYTHON = "/usr/bin/python3"
LOCK = ROOT / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"
TOP_LEVEL = ("workflows", "activities", "worker", "client")
"""The folders that are installed under the namespace `hyperctl`."""
NAMESPACE = BUILD / "namespace" / "hyperctl"


def make_environment() -> str:
    """Make or renew `.venv` and the project's editable install; says what it did."""
    link_namespace()
    lock_key, project_key = _keys()
    python = VENV / "bin" / "python"
    done = []
    if _read(VENV / "lock.key") != lock_key:
        shutil.rmtree(VENV, ignore_errors=True)
        _run(SYSTEM_PYTHON, "-m", "venv", "--system-site-packages", str(VENV))
        _pip(python, "--require-hashes", "--no-deps", "--ignore-installed", "--requirement", str(LOCK))
        (VENV / "lock.key").write_text(lock_key)
        done.append("installed the locked packages")
    if _read(VENV / "project.key") != project_key:
        _pip(python, "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
        (VENV / "project.key").write_text(project_key)
        done.append("installed hyperctl")
    return ", ".join(done) or "up to date"


def environment_is_current() -> str | None:
    """The environment's folder where there is nothing to do, else None."""
    links = all((NAMESPACE / name).resolve() == ROOT / name for name in TOP_LEVEL)
    keys = (_read(VENV / "lock.key"), _read(VENV / "project.key"))
    return str(VENV) if links and keys == _keys() else None


def link_namespace() -> None:
    """Lay the folders out as the packages they are, for tools that read sources without importing them."""
    NAMESPACE.mkdir(parents=True, exist_ok=True)
    for name in TOP_LEVEL:
        link = NAMESPACE / name
        target = ROOT / name
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def _keys() -> tuple[str, str]:
    python = subprocess.run([SYSTEM_PYTHON, "--version"], capture_output=True, text=True, check=True).stdout
    lock_key = digest([LOCK], str(ROOT), python)
    return lock_key, digest([PROJECT], lock_key)


def _pip(python: Path, *arguments: str) -> None:
    options = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
    _run(str(python), "-m", "pip", "install", *options, *arguments)


def _run(*argv: str) -> None:
    print("+", *argv, flush=True)
    subprocess.run(argv, check=True, cwd=ROOT, env={**os.environ, "LC_ALL": "C.UTF-8"})


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    try:
        print(make_environment())
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}")
