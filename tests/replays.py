"""A workflow's history, played back."""

from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from hyperctl.worker.registry import WORKFLOWS


async def assert_replays(handle: WorkflowHandle[Any, Any], secret: str = "") -> None:
    """It plays back as it was: a worker that is restarted goes on from it. The secret is nowhere in it."""
    history = await handle.fetch_history()
    assert not secret or secret not in history.to_json()
    replayer = Replayer(workflows=WORKFLOWS, data_converter=pydantic_data_converter)
    assert (await replayer.replay_workflow(history)).replay_failure is None
