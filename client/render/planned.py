"""A preflight as it is shown: both sides in rows, what stands against it, what to know, what comes next."""

import shlex
from collections.abc import Iterator, Sequence

from hyperctl.client.render.ending import Ending, NextStep, Problem
from hyperctl.client.render.rehearsed import age, verdict_text
from hyperctl.client.render.text import plural, size
from hyperctl.client.visibility import JobSummary
from hyperctl.workflows.machine import Machine, MachineDisk, PowerState
from hyperctl.workflows.plan import Preflight, TargetPlan
from hyperctl.workflows.request import MigrationRequest, VCenter
from hyperctl.workflows.status import JobStatus

POWER_WORDS = {PowerState.ON: "powered on", PowerState.OFF: "powered off", PowerState.SUSPENDED: "suspended"}


def plan_ending(
    found: Preflight,
    request: MigrationRequest,
    rehearsal: JobSummary | None,
    migration: JobSummary | None,
    typed: Sequence[str],
) -> Ending:
    """The whole plan; `typed` are the arguments with which `hyperctl convert` would do it."""
    where = f"vSphere, {request.vcenter.server}" if request.vcenter else request.origin
    rows = [("Source VM", f"{found.vm_name} ({where})")]
    machine = found.source.machine
    if machine is not None:
        rows += _machine_rows(machine, found.target)
        if not found.source.problems or found.source.transport_reason:
            rows.append(("Copied by", f"{found.source.transport}: {found.source.transport_reason}"))
    rows += _target_rows(found, request)
    if request.vcenter is not None:
        rows.append(("Last rehearsal", remembered_rehearsal(rehearsal) or "none"))
    if migration is not None:
        rows.append(("Last migration", _migration_text(migration)))
    steps = []
    is_off = machine is not None and machine.power_state is PowerState.OFF
    if request.vcenter is not None and rehearsal is None and is_off:
        command = shlex.join(["hyperctl", "rehearse", *_source_options(found.vm_name, request.vcenter)])
        steps.append(NextStep("Know whether it will boot, before anything is copied", (command,)))
    if found.possible:
        steps.append(NextStep("Migrate it", (shlex.join(["hyperctl", "convert", *typed]),)))
    return Ending(
        f"{found.vm_name} {'can be migrated' if found.possible else 'cannot be migrated like this'}",
        found.possible,
        tuple(rows),
        problems=tuple(Problem(problem.message, problem.hint) for problem in found.problems),
        remarks=tuple(f"Warning: {text}" for text in dict.fromkeys(found.warnings)),
        next_steps=tuple(steps),
    )


def remembered_rehearsal(last: JobSummary | None) -> str:
    """`boots, 3 days ago`; `rehearsing` while it goes on; empty without any."""
    if last is None:
        return ""
    if last.verdict is None or last.ended_at is None:
        return str(last.status)
    return f"{verdict_text(last.verdict, last.reason)}, {age(last.ended_at)}"


def remembered_migration(last: JobSummary | None) -> str:
    """`completed, 3 days ago`; the state alone while it goes on; empty without any."""
    if last is None:
        return ""
    return f"{last.status}, {age(last.ended_at)}" if last.ended_at else str(last.status)


def _migration_text(last: JobSummary) -> str:
    after = {
        JobStatus.COMPLETED: "once more only with --again",
        JobStatus.FAILED: "convert goes on from what it has left",
        JobStatus.CANCELLED: "convert goes on from what it has left",
    }.get(last.status, "convert attaches to it")
    return f"{remembered_migration(last)} ({last.job_id}); {after}"


def _machine_rows(machine: Machine, target: TargetPlan) -> Iterator[tuple[str, str]]:
    state = f"{POWER_WORDS[machine.power_state]}, on {machine.esxi_host}" if machine.esxi_host else ""
    yield "Guest", ", ".join(filter(None, (machine.guest_full_name or machine.guest_id, state)))
    firmware = f"{machine.firmware} firmware"
    if machine.secure_boot:
        firmware += " with secure boot"
    extras = [firmware, *(["TPM"] if machine.tpm else []), machine.hardware_version]
    hardware = [plural(machine.vcpus, "vCPU"), f"{size(machine.memory_bytes)} memory", *extras]
    yield "Hardware", ", ".join(filter(None, hardware))
    for number, disk in enumerate(machine.disks, 1):
        yield f"Disk {number}", _disk_text(disk)
    for number, nic in enumerate(machine.nics, 1):
        known = f" ({', '.join(nic.addresses)})" if nic.addresses else ""
        to = target.networks.get(nic.network)
        yield (
            f"NIC {number}",
            f"{nic.mac} {nic.adapter}, {nic.network}{known}" + (f" to {_network(to)}" if to else ""),
        )


def _disk_text(disk: MachineDisk) -> str:
    used = f", {size(disk.allocated_bytes)} used" if disk.allocated_bytes else ""
    bus = f"{disk.controller} {disk.controller_bus}:{disk.unit}"
    return f"{size(disk.capacity_bytes)}{used}, {bus}, {disk.file_name or disk.label}"


def _network(target: str) -> str:
    bridge = target.removeprefix("bridge:")
    return f"bridge {bridge}" if bridge != target else f"libvirt's {target}"


def _target_rows(found: Preflight, request: MigrationRequest) -> Iterator[tuple[str, str]]:
    target = found.target
    runs = {"kvm": ", with KVM", "tcg": ", in software emulation"}.get(target.acceleration, "")
    yield "Target host", f"{found.source.host}{runs}"
    yield "Images", f"{target.output_dir}, {request.format}"
    if target.needed_bytes:
        most = f", at most {size(target.most_bytes)}" if target.most_bytes > target.needed_bytes else ""
        yield "Space", f"{size(target.needed_bytes)} needed{most}; {size(target.free_bytes)} free"
    if target.staged_bytes:
        yield "Earlier try", f"has left {size(target.staged_bytes)} to go on from"
    yield "libvirt domain", target.domain_name or "none (--to-libvirt defines one)"


def _source_options(vm_name: str, vcenter: VCenter) -> list[str]:
    options = {
        "--vm": vm_name,
        "--vcenter": vcenter.server,
        "--username": vcenter.username,
        "--datacenter": vcenter.datacenter,
        "--certificate-sha256": vcenter.certificate_sha256,
    }
    return [word for flag, value in options.items() if value for word in (flag, value)]
