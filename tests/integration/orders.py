"""What the activities of a copy are told, of a machine in the simulated vCenter."""

from typing import Any

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.inventory import find_machine
from hyperctl.activities.vsphere.session import open_session
from hyperctl.workflows.contract import ExportInput, ExportResult, VerifyInput
from hyperctl.workflows.request import VerifyMode
from tests.simulator import VCenterSimulator


def export_input(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, vm: str, transport: str, **changes: Any
) -> ExportInput:
    with open_session(sim.vcenter(), settings, running) as session:
        machine = find_machine(session, vm, None).machine
    return ExportInput(
        **{
            "job_id": "job-test",
            "vcenter": sim.vcenter(),
            "machine": machine,
            "transport": transport,
            "output_dir": settings.output_dir,
            **changes,
        }
    )


def verify_input(argument: ExportInput, result: ExportResult) -> VerifyInput:
    return VerifyInput(
        job_id=argument.job_id, output_dir=argument.output_dir, disks=result.disks, mode=VerifyMode.FULL
    )
