"""A copy in a process of its own, to be killed: `python -m tests.integration.exporting`, input on stdin."""

import logging
import os
import subprocess
import sys

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.activity import export_disks
from hyperctl.activities.settings import HostSettings
from hyperctl.workflows.contract import ExportInput
from hyperctl.workflows.status import Phase


def start_export(argument: ExportInput, settings: HostSettings) -> "subprocess.Popen[bytes]":
    """Begin it, on the same host as far as the settings tell."""
    environment = {**os.environ, "HYPERCTL_WORK_DIR": str(settings.work_dir)}
    worker = subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, env=environment)
    assert worker.stdin is not None
    worker.stdin.write(argument.model_dump_json().encode())
    worker.stdin.close()
    return worker


if __name__ == "__main__":
    order = ExportInput.model_validate_json(sys.stdin.read())
    export_disks(order, HostSettings(), Attempt(Phase.EXPORT, logging.getLogger()))
