"""How a plan is shown: both sides, all that stands against it, what was done before, what comes next."""

import shlex
from typing import Any

from hyperctl.client.render.ending import Ending
from hyperctl.client.render.planned import plan_ending
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.machine import PowerState
from hyperctl.workflows.plan import Preflight, SourcePlan, TargetPlan
from hyperctl.workflows.rehearsal import Verdict
from hyperctl.workflows.request import MigrationRequest, VCenter
from hyperctl.workflows.status import JobKind, JobStatus
from tests.unit.inventories import job
from tests.unit.machines import GIB, disk, machine, nic

REQUEST = MigrationRequest(
    vm_name="web-server-01", vcenter=VCenter(server="vc.example.com", datacenter="DC 1"), to_libvirt=True
)
ON = Failure(code=ErrorCode.VM_POWERED_ON, message="web-server-01 is powered on", hint="--shutdown")
TARGET = TargetPlan(
    output_dir="/images",
    acceleration="kvm",
    needed_bytes=GIB,
    most_bytes=8 * GIB,
    free_bytes=100 * GIB,
    domain_name="web-server-01",
    networks={"VM Network": "lan", "DMZ": "bridge:br7"},
    warnings=("the libvirt network 'lan' is down",),
)


def _found(*problems: Failure, **changes: Any) -> Preflight:
    facts: dict[str, Any] = {"disks": (disk(1), disk(2)), "nics": (nic(1), nic(2, network="DMZ"))}
    source = SourcePlan(
        host="kvm-01",
        machine=machine(**(facts | changes)),
        transport="datastore",
        transport_reason="it resumes inside a disk",
        problems=problems,
        warnings=("the machine has snapshots",),
    )
    return Preflight(job_id="job-1", vm_name="web-server-01", source=source, target=TARGET, problems=problems)


def _text(ending: Ending) -> str:
    rows = [f"{label}: {value}" for label, value in ending.rows]
    steps = [line for step in ending.next_steps for line in step.command]
    return "\n".join([ending.title, *rows, *ending.remarks, *steps])


def test_both_sides_and_what_comes_next() -> None:
    typed = ["--vm", "web-server-01", "--network-map", "VM Network=lan"]
    ending = plan_ending(_found(), REQUEST, None, None, typed)
    assert ending.succeeded
    text = _text(ending)
    for told in (
        "web-server-01 can be migrated",
        "powered off, on esxi-01.example.com",
        "2 vCPUs, 1.0 GiB memory, bios firmware, vmx-19",
        "Disk 2: 4.0 GiB, pvscsi 0:1, [datastore1] web-server-01/web-server-01_2.vmdk",
        "NIC 1: 00:50:56:AA:BB:01 vmxnet3, VM Network (192.0.2.10/24) to libvirt's lan",
        "DMZ (192.0.2.11/24) to bridge br7",
        "Copied by: datastore: it resumes inside a disk",
        "Target host: kvm-01, with KVM",
        "Space: 1.0 GiB needed, at most 8.0 GiB; 100.0 GiB free",
        "libvirt domain: web-server-01",
        "Last rehearsal: none",
        "Warning: the machine has snapshots",
        "Warning: the libvirt network 'lan' is down",
    ):
        assert told in text
    rehearse, convert = (shlex.split(" ".join(step.command)) for step in ending.next_steps)
    assert rehearse[1:] == [
        "rehearse",
        *("--vm", "web-server-01", "--vcenter", "vc.example.com", "--datacenter", "DC 1"),
    ]
    assert convert == ["hyperctl", "convert", *typed]


def test_what_stands_against_it_comes_with_the_way_out_and_without_a_next_step() -> None:
    ending = plan_ending(_found(ON, power_state=PowerState.ON), REQUEST, None, None, [])
    assert not ending.succeeded
    assert "cannot be migrated like this" in ending.title
    assert [(problem.message, problem.hint) for problem in ending.problems] == [(ON.message, ON.hint)]
    assert ending.next_steps == (), "one that runs is not rehearsed either"


def test_one_that_could_not_be_read_is_told_by_its_host() -> None:
    missing = Failure(code=ErrorCode.VM_NOT_FOUND, message="no virtual machine 'web'", hint="Did you mean")
    found = Preflight(
        job_id="job-1",
        vm_name="web",
        source=SourcePlan(host="kvm-01", problems=(missing,)),
        target=TARGET,
        problems=(missing,),
    )
    assert not found.possible
    text = _text(plan_ending(found, REQUEST, None, None, []))
    assert "Target host: kvm-01" in text
    assert "Copied by" not in text
    assert '"possible":false' in found.model_dump_json()


def test_what_was_done_before_is_told_with_its_age() -> None:
    rehearsal = job(JobKind.REHEARSAL, "x", verdict=Verdict.DOES_NOT_BOOT, reason="no root device")
    migration = job(JobKind.MIGRATION, "x", status=JobStatus.FAILED)
    ending = plan_ending(_found(), REQUEST, rehearsal, migration, [])
    text = _text(ending)
    assert "Last rehearsal: does not boot: no root device, 3 days ago" in text
    assert "failed, 3 days ago (migration-x); convert goes on from what it has left" in text
    assert "rehearse --vm" not in text
    going = migration.model_copy(update={"status": JobStatus.EXPORTING, "ended_at": None})
    assert "exporting (migration-x); convert attaches to it" in _text(
        plan_ending(_found(), REQUEST, None, going, [])
    )
