"""Keep the history of a finished migration: `python -m tests.replay.record JOB NAME`."""

import asyncio
import os
import sys
from pathlib import Path

from temporalio.client import Client

FOLDER = Path(__file__).parent / "histories"


async def record(job_id: str, name: str) -> Path:
    """Write the history of a job on the server of HYPERCTL_TEMPORAL_ADDRESS to `histories/NAME.json`."""
    client = await Client.connect(os.environ.get("HYPERCTL_TEMPORAL_ADDRESS", "127.0.0.1:7233"))
    history = await client.get_workflow_handle(job_id).fetch_history()
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(history.to_json() + "\n")
    return path


if __name__ == "__main__":
    print(asyncio.run(record(*sys.argv[1:3])))
