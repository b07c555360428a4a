"""What tests of guests share."""

from collections.abc import Iterator

import pytest

from tests.integration.guests.bench import Bench, launched


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Of all who use it (`TOGETHER` in tests/conftest.py); the last test of `test_roots` ends it."""
    with launched(tmp_path_factory.mktemp("bench")) as bench:
        yield bench
