"""What tests of guests share."""

from collections.abc import Iterator

import pytest

from tests.integration.guests.bench import Bench, launched


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with launched(tmp_path_factory.mktemp("bench")) as bench:
        yield bench
