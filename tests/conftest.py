"""How the tests are shared out where several processes run them (`-n 3`).

xdist's own `--dist loadgroup` writes groups into the tests' ids, which pytest 9.2 does not take: without a
word, every test is then a group of its own.
"""

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

# A machine that is busy is no fault of the code, and each run looks at the same examples: what chance
# may find is for `make fuzz`.
settings.register_profile(
    "any machine", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

WHOLE_STACK = "tests/e2e/"
LONGEST = "tests/e2e/test_convert.py"
FIRST = (
    WHOLE_STACK,
    LONGEST,
    "tests/integration/guests/test_matrix.py",
    "tests/integration/test_convert.py",
    "tests/workflow/test_running_source.py",
    "tests/integration/test_windows.py",
    "tests/integration/test_running_copy.py",
    "tests/integration/test_prove.py",
    "tests/integration/test_rehearsal.py",
    "tests/integration/guests/test_families.py",
    "tests/integration/test_running_source.py",
    "tests/integration/guests/test_refusals.py",
    "tests/integration/test_datastore.py",
    "tests/integration/test_crash.py",
    "tests/integration/test_export.py",
    "tests/integration/test_space.py",
    "tests/integration/test_commit.py",
)
"""The groups that take longest: those that boot guests, and between them those that mostly wait."""
TOGETHER = {
    "tests/integration/test_source_guest.py": "tests/integration/test_convert.py",
    "tests/integration/guests/test_arch.py": "tests/integration/guests/test_refusals.py",
    "tests/integration/guests/test_roots.py": "tests/integration/guests/test_refusals.py",
}
"""By a file the one whose converted guest, or launched appliance, it takes."""
BY_FILE = ("tests/integration/", "tests/workflow/")


class ByRealParts(LoadScopeScheduling):  # type: ignore[misc]
    """Tests that share real parts stay together and in their order, in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _reschedule(self, node: WorkerController) -> None:
        """A process is promised its next group only at the last test of the one before: tests may be long."""
        if self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)


def group_of(nodeid: str) -> str:
    """Those of a file; of the whole way all that share a stack; tests that share nothing fill the gaps."""
    file = nodeid.partition("::")[0]
    file = TOGETHER.get(file, file)
    if file == LONGEST:
        return file  # with a stack of its own
    if file.startswith(WHOLE_STACK):
        return WHOLE_STACK
    return file if file.startswith(BY_FILE) else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByRealParts:
    config.option.loadscopereorder = False
    return ByRealParts(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that the short tests even out the end."""
    items.sort(key=lambda item: _place(item.nodeid))


def _place(nodeid: str) -> int:
    group = group_of(nodeid)
    if group in FIRST:
        return FIRST.index(group)
    return len(FIRST) + (group == nodeid)
