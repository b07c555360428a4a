"""Machines of an inventory, and what is remembered of them, for the tests of what is shown."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hyperctl.client.visibility import JobSummary
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.inventory import InventoryMachine, ToolsState
from hyperctl.workflows.machine import Firmware, PowerState
from hyperctl.workflows.rehearsal import Verdict
from hyperctl.workflows.request import WhenRunning
from hyperctl.workflows.status import JobKind, JobStatus
from tests.unit.machines import GIB


def listed(name: str = "db-01", **changes: Any) -> InventoryMachine:
    facts: dict[str, Any] = {
        "name": name,
        "moref": f"vm-{name}",
        "datacenter": "DC1",
        "esxi_host": "esxi-01.example.com",
        "power_state": PowerState.OFF,
        "guest_full_name": "Debian GNU/Linux 12 (64-bit)",
        "firmware": Firmware.BIOS,
        "vcpus": 2,
        "memory_bytes": 4 * GIB,
        "disks": 2,
        "capacity_bytes": 80 * GIB,
        "used_bytes": 12 * GIB,
        "networks": ("VM Network", "VM Network"),
        "tools": ToolsState.NOT_RUNNING,
    }
    return InventoryMachine(**(facts | changes))


def encrypted(name: str) -> InventoryMachine:
    problem = Failure(code=ErrorCode.VM_UNSUPPORTED, message=f"{name} is encrypted", hint="Decrypt it.")
    return listed(name, problems=(problem,))


def running(name: str) -> InventoryMachine:
    ways = (WhenRunning.SHUTDOWN, WhenRunning.SNAPSHOT)
    return listed(name, power_state=PowerState.ON, needs=ways, tools=ToolsState.RUNNING)


def job(kind: JobKind, name: str, **changes: Any) -> JobSummary:
    """One that ended three days ago."""
    ended = datetime.now(UTC) - timedelta(days=3, minutes=1)
    facts: dict[str, Any] = {
        "kind": kind,
        "job_id": f"{kind}-{name}",
        "vm_name": name,
        "vcenter": "vc.example.com",
        "status": JobStatus.COMPLETED,
        "phase": "",
        "priority": "normal",
        "host": "kvm-01",
        "esxi_host": "",
        "batch_id": "",
        "requested_by": "",
        "started_at": ended - timedelta(minutes=5),
        "ended_at": ended,
        "verdict": Verdict.BOOTS if kind is JobKind.REHEARSAL else None,
    }
    return JobSummary(**(facts | changes))
