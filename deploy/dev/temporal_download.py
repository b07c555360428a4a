"""Let Temporal's SDK download its dev server: `python -m deploy.dev.temporal_download FOLDER`.

Runs in the project's environment; leaves the binary as `FOLDER/temporal`.
"""

import asyncio
import sys
from pathlib import Path

from temporalio.testing import WorkflowEnvironment


async def download(folder: Path) -> None:
    """Start the SDK's server once, which downloads it, and give the file its usual name.

    Raises `RuntimeError` where it cannot be had.
    """
    async with await WorkflowEnvironment.start_local(
        download_dest_dir=str(folder), dev_server_log_level="error"
    ):
        pass
    (binary,) = folder.iterdir()
    binary.rename(folder / "temporal")


if __name__ == "__main__":
    try:
        asyncio.run(download(Path(sys.argv[1])))
    except RuntimeError as error:
        sys.exit(str(error))
