"""The development stack: what must agree with the product, and what it lets others see."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.dev.ports import Ports, choose_ports, read_ports
from deploy.dev.stack import SEARCH_ATTRIBUTES, Stack
from hyperctl.workflows.attributes import ALL_ATTRIBUTES


def test_its_search_attributes_are_the_products() -> None:
    assert tuple(key.name for key in ALL_ATTRIBUTES) == SEARCH_ATTRIBUTES


def test_ports_stay_once_chosen(tmp_path: Path) -> None:
    first = choose_ports(tmp_path / "ports.json", Ports())
    assert len({first.temporal, first.web, first.vcenter}) == 3
    assert choose_ports(tmp_path / "ports.json", Ports()) == first == read_ports(tmp_path / "ports.json")


def test_stacks_that_start_at_the_same_moment_have_other_ports(tmp_path: Path) -> None:
    """Before either listens; with one port, the jobs of both would go to whichever Temporal came first."""
    command = (
        "import sys; from pathlib import Path; from deploy.dev.ports import Ports, choose_ports\n"
        "choose_ports(Path(sys.argv[1]), Ports()); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", command, str(tmp_path / "ports.json")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        own = tmp_path / "own.json"
        own.write_bytes((tmp_path / "ports.json").read_bytes())
        wanted = read_ports(own)
        other_ports = {wanted.temporal, wanted.web, wanted.vcenter}
        chosen = choose_ports(own, Ports())
        assert not other_ports & {chosen.temporal, chosen.web, chosen.vcenter}
        other.stdin.close()


def test_a_clients_environment_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has exported for another stack must not leak into this one."""
    monkeypatch.setenv("HYPERCTL_TEMPORAL_ADDRESS", "192.0.2.1:7233")
    monkeypatch.setenv("HYPERCTL_OUTPUT_DIR", "/elsewhere")
    stack = Stack(tmp_path)
    choose_ports(tmp_path / "ports.json", Ports())
    environment = stack.environment()
    assert environment["HYPERCTL_TEMPORAL_ADDRESS"] == stack.temporal_address
    assert "HYPERCTL_OUTPUT_DIR" not in environment
    assert environment["PATH"].split(os.pathsep)[0].endswith(".venv/bin")


def test_wiping_leaves_nothing_but_the_ports(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "stack", output_dir=tmp_path / "output")
    for folder in (stack.folder / "vcenter", stack.output_dir):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    ports = choose_ports(stack.folder / "ports.json", Ports())
    stack.wipe()
    assert [path.name for path in stack.folder.iterdir()] == ["ports.json"]
    assert not stack.output_dir.exists()
    assert stack.ports == ports


def test_the_password_is_the_owners_only(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.make_password()
    first = stack.password
    stack.make_password()
    assert stack.password == first
    assert stat.S_IMODE((tmp_path / "password").stat().st_mode) == 0o600
