"""A file of many VMs: a name a line, or a YAML list whose entries may have options of their own.

In a text file a line that begins with `#` is a comment. In YAML (`.yaml`, `.yml`) an entry is a name, or a
mapping of `vm` and whatever fields of a request differ from the command line's: `vcenter: HOST`,
`hardware: {disk_bus: sata}`.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hyperctl.client.cli.asking import explain
from hyperctl.workflows.rehearsal import MOST_REHEARSALS, RehearsalRequest

STDIN = "-"
MOST_BYTES = 4 << 20
_YAML = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Entry:
    """What one line asks for."""

    line: int
    fields: Mapping[str, Any]


def read_batch(path: str, defaults: Mapping[str, Any], problems: list[str]) -> tuple[RehearsalRequest, ...]:
    """A request for each VM of the file, or of stdin; everything that is wrong is added to the problems."""
    try:
        data = sys.stdin.buffer.read(MOST_BYTES + 1) if path == STDIN else _content(Path(path))
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problems.append(f"{path}, line {line}: this is no UTF-8 text")
        return ()
    except OSError as error:
        problems.append(f"--batch {path}: {error.strerror}")
        return ()
    if len(data) > MOST_BYTES:
        problems.append(f"--batch {path}: it is larger than {MOST_BYTES >> 20} MiB")
        return ()
    found = len(problems)
    entries = _yaml_entries(path, text, problems) if path.endswith(_YAML) else _lines(text)
    requests = tuple(_requests(path, entries, defaults, problems))
    if not requests and len(problems) == found:
        problems.append(f"--batch {path}: it names no VM")
    if len(requests) > MOST_REHEARSALS:
        problems.append(
            f"--batch {path}: it names {len(requests)} VMs; {MOST_REHEARSALS} at most go together"
        )
    return requests


def stands_in_a_line(name: str) -> bool:
    """Whether a line of a text file can name it."""
    return name == name.strip() and not name.startswith("#") and name.isprintable()


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


def _lines(text: str) -> Iterator[Entry]:
    for number, line in enumerate(text.split("\n"), start=1):
        name = line.strip()
        if name and not name.startswith("#"):
            yield Entry(number, {"vm": name})


def _yaml_entries(path: str, text: str, problems: list[str]) -> Iterator[Entry]:
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            nodes = root.value if isinstance(root, yaml.SequenceNode) else None
            if nodes is None:
                problems.append(f"{path}: it must be a list of VMs, one `- NAME` a line")
                return
            entries = [(node.start_mark.line + 1, loader.construct_object(node, deep=True)) for node in nodes]
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problems.append(f"{path}{where}: {getattr(error, 'problem', None) or 'it is no YAML'}")
        return
    for line, entry in entries:
        if isinstance(entry, str):
            yield Entry(line, {"vm": entry})
        elif isinstance(entry, dict) and all(isinstance(key, str) for key in entry):
            yield Entry(line, entry)
        else:
            problems.append(
                f"{path}, line {line}: neither a name nor a mapping with `vm`; a name that is a number or a "
                "date for YAML goes in quotes"
            )


def _requests(
    path: str, entries: Iterator[Entry], defaults: Mapping[str, Any], problems: list[str]
) -> Iterator[RehearsalRequest]:
    seen: dict[str, int] = {}
    for entry in entries:
        where = f"{path}, line {entry.line}"
        fields = dict(entry.fields)
        name = fields.pop("vm", fields.pop("vm_name", None))
        if not isinstance(name, str):
            problems.append(f"{where}: `vm`, the VM's name, is missing")
            continue
        if not name.isprintable():
            problems.append(f"{where}: the name {name!r} holds a character that cannot be printed")
            continue
        if isinstance(fields.get("vcenter"), str):
            fields["vcenter"] = {"server": fields["vcenter"]}
        try:
            request = RehearsalRequest.model_validate(_merged(defaults, {**fields, "vm_name": name}))
        except ValidationError as error:
            problems += [f"{where}: {text}" for text in explain(error)]
            continue
        if request.job_id in seen:
            problems.append(f"{where}: {name} is on line {seen[request.job_id]} already")
            continue
        seen[request.job_id] = entry.line
        yield request


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings within are merged, all else is the entry's own. Of another vCenter nothing is taken over."""
    merged = dict(defaults)
    for key, value in own.items():
        before = merged.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            foreign = key == "vcenter" and value.get("server", before.get("server")) != before.get("server")
            merged[key] = dict(value) if foreign else {**before, **value}
        else:
            merged[key] = value
    return merged
