"""A qcow2 overlay: what is written to it leaves the image under it as it is."""

from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.process import ProcessError, run
from hyperctl.workflows.errors import ErrorCode, HyperctlError

TIMEOUT_SECONDS = 60.0


def create_overlay(path: Path, backing: str, backing_format: str, running: Attempt) -> None:
    """Make an empty overlay over a backing image, readable by its owner only; an older one is thrown away.

    Raises `STORAGE_FAILED`.
    """
    path.unlink(missing_ok=True)
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", backing_format, "-b", backing, str(path)]
    try:
        run(argv, running, timeout_seconds=TIMEOUT_SECONDS)
        path.chmod(0o600)
    except (ProcessError, OSError) as error:
        raise HyperctlError(
            ErrorCode.STORAGE_FAILED, f"no overlay could be made over {backing}: {error}"
        ) from error
