"""Files of many VMs: all that is wrong with one is told together."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from hyperctl.client.cli.batch_file import MOST_BYTES, read_batch
from hyperctl.workflows.hardware import DiskBus
from hyperctl.workflows.rehearsal import RehearsalRequest
from hyperctl.workflows.request import VCenter

DEFAULTS: dict[str, Any] = {
    "vcenter": {"server": "vc.example.com", "username": "me", "datacenter": None},
    "hardware": {"disk_bus": "virtio", "nic_model": "virtio"},
    "prove": "full",
}


def _read(path: Path, content: str | bytes) -> tuple[tuple[RehearsalRequest, ...], list[str]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems: list[str] = []
    return read_batch(str(path), DEFAULTS, problems), problems


def _vcenter(request: RehearsalRequest) -> VCenter:
    assert request.vcenter is not None
    return request.vcenter


def test_a_name_a_line(tmp_path: Path) -> None:
    found, problems = _read(
        tmp_path / "vms", "\ufeffdb-01\r\n\n  # tonight's\n web server 2 # front \nümlaut"
    )
    assert problems == []
    assert [request.vm_name for request in found] == ["db-01", "web server 2 # front", "ümlaut"]
    assert {_vcenter(request).username for request in found} == {"me"}


def test_yaml_with_options_of_ones_own(tmp_path: Path) -> None:
    found, problems = _read(
        tmp_path / "vms.yaml",
        "- db-01\n- vm: old\n  hardware: {disk_bus: sata}\n  prove: boot\n- {vm: far, vcenter: other:444}\n"
        "- {vm: dc, vcenter: {datacenter: DC2}}\n",
    )
    assert problems == []
    by_name = {request.vm_name: request for request in found}
    assert by_name["old"].hardware.disk_bus is DiskBus.SATA
    assert by_name["old"].prove == "boot"
    assert (_vcenter(by_name["far"]).server, _vcenter(by_name["far"]).username) == ("other:444", None)
    assert (_vcenter(by_name["dc"]).datacenter, _vcenter(by_name["dc"]).username) == ("DC2", "me")


def test_all_that_is_wrong_is_told_together(tmp_path: Path) -> None:
    path = tmp_path / "vms.yml"
    found, problems = _read(
        path,
        "- good\n- 2026\n- vm: a\n  colour: red\n- hardware: {disk_bus: sata}\n- good\n"
        '- "tab\\there"\n- vm: b\n  prove: none\n- [x]\n- vm: c\n  vcenter: "ftp://x"\n',
    )
    assert [request.vm_name for request in found] == ["good"]
    wanted = {
        2: "quotes",
        3: "colour",
        5: "`vm`",
        6: "good is on line 1 already",
        7: "cannot be printed",
        8: "trial boot",
        10: "neither a name",
        11: "HOST",
    }
    told = {int(text.partition("line ")[2].partition(":")[0]): text for text in problems}
    assert told.keys() == wanted.keys()
    for line, words in wanted.items():
        assert words in told[line]
        assert str(path) in told[line]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty", "# nobody\n", "names no VM"),
        ("empty.yaml", "", "must be a list"),
        ("map.yaml", "vm: a\n", "must be a list"),
        ("broken.yaml", "- [a\n", "line "),
        ("bomb.yaml", "- !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("latin", "d\xfcrer\n".encode("latin-1"), "no UTF-8"),
        ("long", "a" * 256 + "\n", "255"),
        ("large", b"a\n" * (MOST_BYTES // 2 + 1), "larger than"),
        ("many", "".join(f"vm{number}\n" for number in range(1001)), "1001 VMs"),
    ],
)
def test_files_that_cannot_be_meant(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    _, problems = _read(tmp_path / name, content)
    assert any(words in problem for problem in problems), problems


def test_a_file_that_is_not_there_and_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems: list[str] = []
    assert read_batch(str(tmp_path / "none"), DEFAULTS, problems) == ()
    assert "No such file" in problems[0]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"piped\n")))
    assert [request.vm_name for request in read_batch("-", DEFAULTS, [])] == ["piped"]
