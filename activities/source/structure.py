"""What qemu itself is asked of an image that was found safe: its beginning, and whether it is whole."""

import tempfile
from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.process import ProcessError, run
from hyperctl.activities.source.images import ImageFile
from hyperctl.activities.source.partitions import LOOK_BYTES
from hyperctl.workflows.errors import ErrorCode, HyperctlError

READ_TIMEOUT_SECONDS = 120.0
CHECK_TIMEOUT_SECONDS = 6 * 3600.0
_HINT = (
    "Where another process has it open (a machine that runs), end that; "
    "otherwise it was cut off or damaged: fetch it again."
)


def read_beginning(image: ImageFile, running: Attempt) -> bytes:
    """The first `LOOK_BYTES` of the disk in an image, fewer only of a smaller one."""
    with tempfile.TemporaryDirectory(prefix="hyperctl-") as folder:
        out = Path(folder) / "beginning"
        argv = ["qemu-img", "dd", "-O", "raw", f"bs={LOOK_BYTES}", "count=1"]
        argv += [f"if={image.qemu_name}", f"of={out}"]
        try:
            run(argv, running, timeout_seconds=READ_TIMEOUT_SECONDS)
        except ProcessError as error:
            raise HyperctlError(
                ErrorCode.SOURCE_INVALID,
                f"{image.path} cannot be read by qemu: {error.completed.complaint}",
                _HINT,
            ) from error
        image.check_unchanged()
        return out.read_bytes()


def check_structure(image: ImageFile, running: Attempt) -> None:
    """Have qemu walk the tables of a format that is not walked here.

    Raises `HyperctlError` (`source_invalid`): clusters beyond the end of a file that was cut off would be
    read as zeroes.
    """
    argv = image.check_argv()
    if argv is None:
        return
    ended = run(argv, running, timeout_seconds=CHECK_TIMEOUT_SECONDS, check=False)
    # 0 is good, 3 has leaked clusters, which are only waste, 63 cannot be checked.
    if ended.returncode not in (0, 3, 63):
        raise HyperctlError(
            ErrorCode.SOURCE_INVALID,
            f"{image.path} does not pass qemu-img check: {ended.complaint}",
            _HINT,
        )
