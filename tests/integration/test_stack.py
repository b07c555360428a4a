"""The development stack on its real parts: up, crash, restart, down, and nothing left running."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.dev.detached import DidNotStart, any_running
from deploy.dev.libvirt import virsh
from deploy.dev.prepare import load_parts
from deploy.dev.stack import SEARCH_ATTRIBUTES, Stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "stack")
    yield stack
    stack.down()


def _temporal(stack: Stack, *arguments: str) -> str:
    argv = [str(load_parts().temporal), *arguments, "--address", stack.temporal_address, "--output", "json"]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout


def test_it_comes_up_keeps_what_it_has_and_goes(stack: Stack) -> None:
    stack.up(worker=False)
    first = stack.status()
    with urllib.request.urlopen(stack.web_ui, timeout=10) as answer:
        assert answer.status == 200
    assert virsh("list").returncode == 0
    known = json.loads(_temporal(stack, "operator", "search-attribute", "list"))
    assert set(SEARCH_ATTRIBUTES) <= set(known["customAttributes"])

    stack.up(worker=False)
    assert stack.status() == first, "what runs is left running"

    address, vcenter = stack.temporal_address, stack.vcenter
    start = ("workflow", "start", "--type", "Nothing", "--task-queue", "none", "--workflow-id", "kept")
    _temporal(stack, *start)
    stack.down()
    assert not any_running(stack.folder)
    stack.up(worker=False)
    assert stack.temporal_address == address
    assert (stack.vcenter.server, stack.vcenter.ca_file) == (vcenter.server, vcenter.ca_file)
    assert "kept" in _temporal(stack, "workflow", "list"), "what Temporal knows survives a restart"


def test_two_stacks_stand_beside_each_other(stack: Stack, tmp_path: Path) -> None:
    other = Stack(tmp_path / "other")
    try:
        stack.up(worker=False)
        other.up(worker=False)
        assert stack.temporal_address != other.temporal_address
        assert stack.vcenter.server != other.vcenter.server
        other.down()
        assert all(pid for name, pid in stack.status().items() if name != "worker")
        assert virsh("list").returncode == 0, "libvirt stays while the other stack uses it"
    finally:
        other.down()


def test_a_process_that_cannot_start_is_named_with_its_last_words(stack: Stack) -> None:
    stack.up(worker=False)
    with pytest.raises(DidNotStart, match="no-such-role"):
        stack.start_worker("odd", roles=("no-such-role",))
