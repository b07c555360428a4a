"""What is installed: every module under the namespace `hyperctl`, and nothing else."""

import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("workflows", "activities", "worker", "client")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel as built from a copy of the sources, so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *FOLDERS],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    files = [name.decode() for name in listed.stdout.split(b"\0") if name]
    source = folder / "source"
    for name in (*files, "pyproject.toml", "README.md", "LICENSE"):
        if not (ROOT / name).exists():
            continue  # deleted, and not yet committed
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)],
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_it_holds_every_module_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    expected = {
        f"hyperctl/{path.relative_to(ROOT)}" for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")
    }
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == expected


def test_hyperctl_is_a_namespace(wheel: zipfile.ZipFile) -> None:
    """Another distribution, a plug-in say, can put packages beside ours."""
    assert "hyperctl/__init__.py" not in wheel.namelist()
    assert "hyperctl/workflows/__init__.py" in wheel.namelist()


def test_its_commands_point_at_modules_it_has(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    entries = ConfigParser()
    entries.read_string(wheel.read(name).decode())
    assert entries["console_scripts"]["hyperctl"] == "hyperctl.client.cli.main:main"
    assert "worker" in entries["hyperctl.commands"]
    for section in entries.sections():
        for target in entries[section].values():
            module, _, attribute = target.partition(":")
            source = wheel.read(module.replace(".", "/") + ".py").decode()
            assert f"def {attribute}(" in source


def test_it_says_its_licence(wheel: zipfile.ZipFile) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    assert "License-Expression: Apache-2.0" in wheel.read(metadata).decode()
    (licence,) = (name for name in wheel.namelist() if name.endswith("/LICENSE"))
    assert "Apache License" in wheel.read(licence).decode()
