"""Options and fixtures of the unit tests: golden files, a job's working folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hyperctl.activities.staging import Staging

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate-golden",
        action="store_true",
        help="write what the code makes now into tests/unit/golden",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the golden file of that name."""

    def compare(name: str, text: str) -> None:
        file = GOLDEN / name
        if request.config.getoption("--regenerate-golden", default=False):
            file.write_text(text)
        assert file.exists(), f"no {file}: run pytest tests/unit --regenerate-golden"
        assert text == file.read_text()

    return compare


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    staging = Staging(tmp_path, "job-1")
    staging.create()
    return staging
