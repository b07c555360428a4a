"""A real Temporal dev server for the workflow tests."""

import os
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from tests.moments import LONGEST_SECONDS
from tests.workflow.answering import temporal_server


def temporal_binary() -> Path:
    """The dev server that the set-up found or built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hyperctl" / "bin"
    built = sorted(cache.glob("temporal-*/temporal"), key=lambda path: path.stat().st_mtime)
    on_path = shutil.which("temporal")
    if on_path:
        return Path(on_path)
    assert built, f"no Temporal dev server under {cache}: run `make test` or deploy/dev/setup first"
    return built[-1]


@pytest.fixture(scope="session")
def temporal() -> Path:
    return temporal_binary()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(temporal: Path) -> AsyncIterator[Client]:
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(temporal),
        data_converter=pydantic_data_converter,
        dev_server_log_level="error",
        dev_server_startup_timeout=timedelta(seconds=LONGEST_SECONDS),
    ) as environment:
        yield environment.client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(temporal: Path) -> AsyncIterator[Client]:
    """One that knows our search attributes."""
    async with temporal_server(temporal) as client:
        yield client
