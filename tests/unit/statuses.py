"""Statuses of a migration at every point of its way, for the tests of what is shown."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hyperctl.workflows.disk import LandedDisk, OutputDisk
from hyperctl.workflows.guest import BootProof, MountReport, NicReport, Outcome, Step, StepOutcome
from hyperctl.workflows.plan import MigrationPlan
from hyperctl.workflows.status import (
    DiskProgress,
    JobStatus,
    MigrationResult,
    MigrationStatus,
    Modifications,
    Phase,
    PhaseRecord,
    PhaseState,
    Progress,
)
from tests.unit.machines import GIB, disk, guest, machine

JOB = "job-0123456789"
BEGAN = datetime(2026, 1, 17, 10, 0, tzinfo=UTC)
OUTPUT = "/var/lib/hyper2kvm/output/2026-01-17/web-server-01"

PLAN = MigrationPlan(
    host="kvm-01",
    machine=machine(disks=(disk(1), disk(2))),
    transport="nfc",
    output_dir="/var/lib/hyper2kvm/output",
    acceleration="kvm",
    domain_name="web-server-01",
)
LANDED = tuple(
    LandedDisk(
        index=index,
        source_name=f"web-server-01_{index}.vmdk",
        path=f"/staging/disk{index}.raw",
        format="raw",
        ledger=f"/staging/disk{index}.ledger",
        capacity_bytes=4 * GIB,
        allocated_bytes=4 * GIB,
        received_bytes=GIB // 2,
        digest_algorithm="sha256",
        root_digest=f"{index:064x}",
    )
    for index in (1, 2)
)
STEPS = (
    StepOutcome(step=Step.INSPECT, outcome=Outcome.DONE, detail="Debian GNU/Linux 12 (bookworm)"),
    StepOutcome(step=Step.VIRTIO, outcome=Outcome.DONE, detail="initramfs of 6.1.0-18-amd64"),
    StepOutcome(
        step=Step.BOOTLOADER, outcome=Outcome.DONE, detail="root= by UUID", warnings=("no serial console",)
    ),
    StepOutcome(step=Step.NETWORK, outcome=Outcome.NOT_NEEDED, detail="no NIC is configured"),
    StepOutcome(step=Step.FSTAB, outcome=Outcome.SKIPPED, detail=""),
)
PROOF = BootProof(
    passed=True,
    mode="full",
    acceleration="kvm",
    multi_user=True,
    boot_seconds=12.4,
    kernel="6.1.0-18-amd64",
    mounts=(MountReport(target="/", source="UUID=1", filesystem="ext4", active=True),),
    nics=(
        NicReport(
            mac="00:50:56:aa:bb:01",
            name="ens192",
            addresses=("192.0.2.10/24",),
            expected_addresses=("192.0.2.10/24",),
        ),
    ),
)
OUTPUTS = tuple(
    OutputDisk(index=index, path=f"{OUTPUT}/disk{index}.raw", format="raw", capacity_bytes=4 * GIB)
    for index in (1, 2)
)


def at(phase: Phase, state: PhaseState = PhaseState.RUNNING, **changes: Any) -> MigrationStatus:
    """The status with everything before the phase done, each in ten seconds."""
    phases = []
    for number, name in enumerate(Phase):
        start = BEGAN + timedelta(seconds=10 * number)
        if list(Phase).index(name) < list(Phase).index(phase):
            end = start + timedelta(seconds=10)
            phases.append(PhaseRecord(phase=name, state=PhaseState.DONE, started_at=start, finished_at=end))
        elif name is phase:
            phases.append(PhaseRecord(phase=name, state=state, started_at=start))
        else:
            phases.append(PhaseRecord(phase=name))
    facts: dict[str, Any] = {
        "job_id": JOB,
        "vm_name": "web-server-01",
        "vcenter": "vcenter.example.com",
        "status": JobStatus.EXPORTING,
        "phase": phase,
        "created_at": BEGAN,
        "updated_at": BEGAN,
        "phases": phases,
        "host": "kvm-01",
        "plan": None if phase is Phase.PLAN else PLAN,
    }
    return MigrationStatus(**(facts | changes))


def copying(done_bytes: int, *, finished: bool = False, name: str = "web-server-01.vmdk") -> MigrationStatus:
    moved = DiskProgress(
        index=1,
        name=name,
        done_bytes=done_bytes,
        total_bytes=4 * GIB,
        rate_bytes_per_second=100 * 2**20,
        eta_seconds=(4 * GIB - done_bytes) / (100 * 2**20),
        finished=finished,
    )
    waiting = DiskProgress(index=2, name="second.vmdk", done_bytes=0, total_bytes=4 * GIB)
    progress = Progress(phase=Phase.EXPORT, message="copying", disks=(moved, waiting))
    return at(Phase.EXPORT, progress=progress)


def completed(**changes: Any) -> MigrationStatus:
    facts: dict[str, Any] = {
        "status": JobStatus.COMPLETED,
        "landed": LANDED,
        "guest": guest(),
        "steps": STEPS,
        "proof": PROOF,
        "outputs": OUTPUTS,
        "output_dir": OUTPUT,
    }
    return at(Phase.CLEANUP, PhaseState.DONE, **(facts | changes))


def result(**changes: Any) -> MigrationResult:
    facts: dict[str, Any] = {
        "job_id": JOB,
        "vm_name": "web-server-01",
        "status": JobStatus.COMPLETED,
        "host": "kvm-01",
        "output_dir": OUTPUT,
        "disks": OUTPUTS,
        "landed": LANDED,
        "guest": guest(),
        "steps": STEPS,
        "modifications": Modifications.from_steps(STEPS),
        "proof": PROOF,
        "memory_bytes": 16 * GIB,
        "vcpus": 8,
        "firmware": "efi",
        "source_capacity_bytes": 8 * GIB,
        "received_bytes": GIB,
        "started_at": BEGAN,
        "completed_at": BEGAN + timedelta(seconds=777),
        "duration_seconds": 777.0,
    }
    return MigrationResult(**(facts | changes))
