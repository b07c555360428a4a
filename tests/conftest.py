"""Which tests stay together when several processes run them: `-n 2 --dist loadgroup`."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
WHOLE_STACK = "e2e"
GUEST = "guest"
FIRST = (WHOLE_STACK, GUEST)
"""What takes longest begins first, so that the short tests even out the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share real parts are one group: all of the whole way, else those of a file.

    A module that shares with others names its group itself (`pytestmark = pytest.mark.xdist_group(...)`).
    Unit tests share nothing and fill the gaps.
    """
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in ("integration", "workflow") and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
        elif folder == "e2e":
            item.add_marker(pytest.mark.xdist_group(WHOLE_STACK))
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    marker = item.get_closest_marker("xdist_group")
    if marker is None:
        return len(FIRST) + 1
    return FIRST.index(marker.args[0]) if marker.args[0] in FIRST else len(FIRST)
