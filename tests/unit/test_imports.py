"""Imports point one way: client -> workflows <- activities, and only worker sees all."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("workflows", "activities", "worker", "client")
MAY_IMPORT = {
    "workflows": {"workflows"},
    "activities": {"workflows", "activities"},
    "client": {"workflows", "client"},
    "worker": set(FOLDERS),
}
WORKFLOW_LIBRARIES = {"pydantic", "temporalio"}


def _imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every imported module, with its line; an import of a name from a package as the name's module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "." * node.level
            else:
                for alias in node.names:
                    yield node.lineno, f"{node.module}.{alias.name}"


def forbidden_imports(folder: str, source: str) -> list[str]:
    """What a module of one of the folders imports and must not, as `LINE: MODULE`."""
    return [
        f"{line}: {module}" for line, module in _imports(ast.parse(source)) if not _is_allowed(folder, module)
    ]


def _is_allowed(folder: str, module: str) -> bool:
    top, *below = module.split(".")
    if not top or top in FOLDERS:
        return False  # relative, or by the folder's bare name, which works in a checkout only
    if top == "hyperctl":
        return bool(below) and below[0] in MAY_IMPORT[folder]
    if top in ("tests", "deploy"):
        return False
    return folder != "workflows" or top in sys.stdlib_module_names or top in WORKFLOW_LIBRARIES


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_folders_keep_to_it(folder: str) -> None:
    modules = sorted((ROOT / folder).rglob("*.py"))
    assert len(modules) > 1, f"no modules in {folder}/"
    found = {
        str(module.relative_to(ROOT)): wrong
        for module in modules
        if (wrong := forbidden_imports(folder, module.read_text()))
    }
    assert not found


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("workflows", "import hyperctl.activities.verify"),
        ("workflows", "from hyperctl import client"),
        ("workflows", "import yaml"),
        ("workflows", "def late():\n    import libvirt"),
        ("activities", "from hyperctl.client.sdk import MigrationClient"),
        ("activities", "from hyperctl import worker"),
        ("client", "from hyperctl.activities.settings import HostSettings"),
        ("client", "import hyperctl.worker.command"),
        ("worker", "import workflows"),
        ("worker", "from activities.verify import verify"),
        ("activities", "from . import staging"),
        ("activities", "from tests import unit"),
    ],
)
def test_the_rule_sees_what_breaks_it(folder: str, source: str) -> None:
    assert len(forbidden_imports(folder, source)) == 1


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        (
            "workflows",
            "import hashlib\nfrom temporalio import workflow\nfrom hyperctl.workflows.retry import x",
        ),
        ("activities", "import libvirt\nfrom hyperctl.activities.staging import Staging"),
        ("client", "import rich\nfrom hyperctl.workflows import request"),
        ("worker", "from hyperctl.client import sdk\nfrom hyperctl.activities import verify"),
    ],
)
def test_the_rule_lets_the_rest_through(folder: str, source: str) -> None:
    assert forbidden_imports(folder, source) == []
