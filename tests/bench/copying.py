"""One copy in a process of its own, as a worker makes it: `python -m tests.bench.copying`, order on stdin.

Prints what it took as JSON, measured from the login to the last record of the ledger and beyond it to the end
of the verification.
"""

import logging
import os
import resource
import sys
import time
from pathlib import Path

from pydantic import BaseModel

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.activity import export_disks
from hyperctl.activities.plan_source import plan_source
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.activities.verify.activity import verify_disks
from hyperctl.workflows.contract import VERIFY_DISKS, ExportInput, VerifyInput
from hyperctl.workflows.request import MigrationRequest, TransportChoice, VerifyMode
from hyperctl.workflows.status import Phase

JOB = "job-bench"


class CopyOrder(BaseModel):
    request: MigrationRequest
    output_dir: str
    """Where an earlier copy is gone on with; what it has verified is verified again."""
    processors: int = 0
    """How many it may use; all where 0."""


class CopyTaken(BaseModel):
    """What one copy took."""

    export_seconds: float
    verify_seconds: float
    peak_bytes: int
    """Of the process's resident memory."""
    received_bytes: int
    """Of all attempts, as far as their ledgers know."""

    @property
    def seconds(self) -> float:
        return self.export_seconds + self.verify_seconds


def copy(order: CopyOrder) -> CopyTaken:
    request = order.request
    if order.processors:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: order.processors])
    assert request.transport is not TransportChoice.AUTO, "a bench says what it measures"
    settings = HostSettings(output_dir=order.output_dir, work_dir=Path(order.output_dir) / "work")
    running = Attempt(Phase.EXPORT, logging.getLogger("bench"))
    machine = plan_source(request, settings, running).machine
    assert machine is not None, "the plan found a problem; see the log"
    argument = ExportInput(
        job_id=JOB,
        vcenter=request.vcenter,
        machine=machine,
        transport=request.transport,
        output_dir=order.output_dir,
        format=request.format,
        connections=request.connections,
    )
    started = time.monotonic()
    exported = export_disks(argument, settings, running)
    landed = time.monotonic()
    if request.verify is not VerifyMode.NONE:
        Staging(order.output_dir, JOB).forget(VERIFY_DISKS.name)
        verify_disks(
            VerifyInput(job_id=JOB, output_dir=order.output_dir, disks=exported.disks, mode=request.verify),
            running,
        )
    return CopyTaken(
        export_seconds=landed - started,
        verify_seconds=time.monotonic() - landed,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        received_bytes=sum(disk.received_bytes for disk in exported.disks),
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    print(copy(CopyOrder.model_validate_json(sys.stdin.read())).model_dump_json())
