"""Copies that go on beside a test: one in a process of its own, to be killed; threads of others.

The process is forked from one that has imported everything and has no threads: a start costs milliseconds.
"""

import logging
import os
import threading
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.process import BaseProcess

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.activity import export_disks
from hyperctl.activities.settings import HostSettings
from hyperctl.workflows.contract import ExportInput
from hyperctl.workflows.status import Phase

processes = get_context("forkserver")
processes.set_forkserver_preload([__name__])


def start_export(argument: ExportInput, settings: HostSettings) -> BaseProcess:
    """Begin it, on the same host as far as the settings tell."""
    environment = {**os.environ, "HYPERCTL_WORK_DIR": str(settings.work_dir)}
    worker = processes.Process(target=_export, args=(argument.model_dump_json(), environment))
    worker.start()
    return worker


def copying_threads() -> list[str]:
    """Threads of copies in this process."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("datastore-", "nfc-", "disk", "lease-"))]


def kill(worker: BaseProcess) -> None:
    worker.kill()
    worker.join()


def _export(argument: str, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    order = ExportInput.model_validate_json(argument)
    export_disks(order, HostSettings(), Attempt(Phase.EXPORT, logging.getLogger()))
