"""How the tests are shared out where several processes run them (`-n 2`).

xdist's own `--dist loadgroup` writes groups into the tests' ids, which pytest 9.2 does not take: without a
word, every test is then a group of its own.
"""

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# A machine that is busy is no fault of the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

WHOLE_STACK = "tests/e2e/"
SHARED = {
    "tests/integration/test_convert.py": "converted guest",
    "tests/integration/test_prove.py": "converted guest",
}
"""Files whose tests share a fixture that is dear."""
BY_FILE = ("tests/integration/", "tests/workflow/")


class ByRealParts(LoadScopeScheduling):  # type: ignore[misc]
    """Tests that share real parts stay together and in their order, in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """All of the whole way are one group, else those of a file; tests that share nothing fill the gaps."""
    file = nodeid.partition("::")[0]
    if file.startswith(WHOLE_STACK):
        return WHOLE_STACK
    return SHARED.get(file) or (file if file.startswith(BY_FILE) else nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByRealParts:
    config.option.loadscopereorder = False
    return ByRealParts(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that the short tests even out the end."""
    items.sort(key=lambda item: _place(item.nodeid))


def _place(nodeid: str) -> int:
    group = group_of(nodeid)
    order = (group == WHOLE_STACK, group in SHARED.values(), group != nodeid)
    return order.index(True) if any(order) else len(order)
