"""How a migration ended, on one screen: what came of it or what stands against it, and what to do next."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from hyperctl.client.render.leftovers import leftover_lines
from hyperctl.client.render.story import verified_text
from hyperctl.client.render.text import duration, size
from hyperctl.workflows.errors import ErrorCode
from hyperctl.workflows.guest import BootProof, as_guest_knows
from hyperctl.workflows.machine import MachineNic
from hyperctl.workflows.status import JobKind, JobStatus, MigrationResult, MigrationStatus, Phase, PhaseState

_IN_WORDS = {
    Phase.PLAN: "looking at the VM and the target host",
    Phase.ADMIT: "waiting to be admitted",
    Phase.EXPORT: "copying the disks",
    Phase.VERIFY: "verifying the copy",
    Phase.CONVERT: "converting the guest",
    Phase.PROVE: "proving that it boots",
    Phase.IMPORT: "putting it into place",
    Phase.CLEANUP: "cleaning up",
    Phase.REHEARSE: "rehearsing",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that went wrong, and the way out."""

    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class NextStep:
    """A suggestion and the command for it; the command is shell syntax, its words quoted."""

    title: str
    command: tuple[str, ...]
    """The lines of one command; all but the last end in a backslash when printed."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What both renderers print, each in its way."""

    title: str
    succeeded: bool
    rows: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...] = ()
    remarks: tuple[str, ...] = ()
    next_steps: tuple[NextStep, ...] = ()


def success(result: MigrationResult, status: MigrationStatus, network_map: Mapping[str, str]) -> Ending:
    """The summary of a completed migration."""
    rows = [
        ("Job ID", result.job_id),
        ("Source VM", _source(result.vm_name, status)),
        ("Total Size", f"{size(result.source_capacity_bytes)}, {size(result.received_bytes)} received"),
        ("Total Time", duration(result.duration_seconds)),
        ("Output", f"{result.output_dir}/"),
    ]
    for disk in result.landed:
        rows.append((f"Digest of disk {disk.index}", f"{disk.digest_algorithm}:{disk.root_digest}"))
    for verified in result.verified:
        rows.append((f"Disk {verified.index} verified", verified_text(verified)))
    if status.record(Phase.VERIFY).state is PhaseState.SKIPPED:
        rows.append(("Verification", "left out, as asked"))
    if result.proof is None:
        rows.append(("Boot proof", "left out, as asked"))
    else:
        rows.append(("Boot proof", _proof_text(result.proof)))
    if result.domain:
        rows.append(("libvirt domain", result.domain))
    steps = []
    if result.domain:
        steps.append(NextStep("Start it", (f"virsh start {shlex.quote(result.domain)}",)))
        manually = "Or define it by hand in place of that domain, never beside it: the disks are the same"
    else:
        steps.append(NextStep("Import to libvirt", (f"hyperctl import --job {result.job_id}",)))
        manually = "Or manually"
    by_hand = virt_install(result, status, network_map)
    if result.domain:
        first, *rest = by_hand
        by_hand = (f"virsh undefine --nvram {shlex.quote(result.domain)} && {first}", *rest)
    steps.append(NextStep(manually, by_hand))
    steps.append(NextStep("View logs", (f"hyperctl logs --job {result.job_id}",)))
    return Ending(
        "Conversion Successful",
        True,
        tuple(rows),
        remarks=tuple(dict.fromkeys(result.warnings)),
        next_steps=tuple(steps),
    )


def _proof_text(proof: BootProof) -> str:
    verdict = "passed" if proof.passed else "NOT passed"
    if proof.claim.words:
        return f"{verdict}, {proof.claim.words}"
    compared = proof.comparison
    if compared and not compared.obstacle:
        lost = len(compared.differences)
        return f"{verdict}, {lost or 'nothing'} that worked before fails now"
    return verdict


def _source(vm_name: str, status: MigrationStatus) -> str:
    where = status.source_file or f"vSphere, {status.vcenter}"
    return f"{vm_name} ({where})"


def virt_install(
    result: MigrationResult, status: MigrationStatus, network_map: Mapping[str, str]
) -> tuple[str, ...]:
    """A complete `virt-install` command, a line a subject: every disk, NIC, memory, vCPUs and firmware."""
    lines = [f"virt-install --name {shlex.quote(result.vm_name)}"]
    for disk in result.disks:
        path = disk.path.replace(",", ",,")  # its way of writing a comma inside a value
        lines.append(f"--disk {shlex.quote(f'path={path},format={disk.format},bus=virtio')}")
    lines.append(f"--memory {result.memory_bytes // 2**20} --vcpus {result.vcpus}")
    for nic in as_guest_knows(status.plan.machine, result.guest).nics if status.plan else ():
        lines.append(f"--network {shlex.quote(_network(nic, network_map))}")
    if result.firmware == "efi":
        lines.append("--boot uefi")
    lines.append("--osinfo detect=on,require=off --import --noautoconsole")
    return tuple(lines)


def _network(nic: MachineNic, network_map: Mapping[str, str]) -> str:
    target = network_map.get(nic.network, "default")
    bridge = target.removeprefix("bridge:")
    where = f"bridge={bridge}" if bridge != target else f"network={target}"
    return f"{where},model=virtio,mac={nic.mac.lower()}"


def failure(status: MigrationStatus) -> Ending:
    """What a failed or cancelled migration leaves to be said."""
    cancelled = status.status is JobStatus.CANCELLED
    rows = [("Job ID", status.job_id), ("Source VM", _source(status.vm_name, status))]
    rows.append(("Ended while", _IN_WORDS[status.phase]))
    if status.host:
        rows.append(("Host", status.host))
    if status.completed_at:
        rows.append(("After", duration((status.completed_at - status.created_at).total_seconds())))
    problems = tuple(Problem(item.message, item.hint) for item in status.failures)
    if status.proof and not status.proof.passed and status.proof.screenshot:
        rows.append(("Screenshot", f"{status.proof.screenshot} on {status.host}"))
    steps = [NextStep("Try again", (f"hyperctl retry --job {status.job_id}",))]
    if status.host or any(item.code is ErrorCode.INTERNAL_ERROR for item in status.failures):
        steps.append(NextStep("View logs", (f"hyperctl logs --job {status.job_id}",)))
    title = f"{status.kind.title()} {'Cancelled' if cancelled else 'Failed'}"
    remarks = (*remains(status), *status.warnings)
    return Ending(title, False, tuple(rows), problems, remarks, tuple(steps))


def remains(status: MigrationStatus) -> tuple[str, ...]:
    """What could not be undone, and what the hosts say is left; nothing is concluded from the phases."""
    lines = [f"Could not be undone: {text}" for text in status.not_undone]
    if status.kind is JobKind.REHEARSAL:
        return (*lines, "A rehearsal leaves nothing, on neither side.")
    lines += leftover_lines(status.leftovers)
    if not status.leftovers and not status.host:
        lines.append("This run had not begun to copy, and no host is known to hold anything of the job.")
    elif not status.leftovers:
        look = f"hyperctl discard --dry-run --job {status.job_id}"
        lines.append(f"What is left on {status.host} is not known here; it says so itself: {look}")
    if any(answer.left for answer in status.leftovers):
        lines.append(
            f"A retry goes on from it; to delete it: hyperctl discard --job {status.job_id}",
        )
    return tuple(lines)
