"""A status as the story so far: every fact with a key, in the order in which it is told."""

from collections.abc import Iterator

from hyperctl.client.render.events import Event, Line, Mark, Stage, StageBegun
from hyperctl.client.render.text import clock, duration, plural, size
from hyperctl.workflows.disk import VerifiedDisk
from hyperctl.workflows.guest import BootProof, Claim, Comparison, Outcome, Step, StepOutcome
from hyperctl.workflows.status import MigrationStatus, Phase, PhaseRecord, PhaseState

Told = tuple[str, Event]
"""A fact under the key by which it is known that it has been told."""

_DOING: dict[Step, tuple[Mark, str]] = {
    Step.INSPECT: (Mark.DETECTED, "Looking at the guest's disks..."),
    Step.VIRTIO: (Mark.DRIVERS, "Injecting VirtIO drivers..."),
    Step.BOOTLOADER: (Mark.BOOTLOADER, "Updating bootloader..."),
    Step.NETWORK: (Mark.NETWORK, "Fixing network configuration..."),
    Step.FSTAB: (Mark.MOUNTS, "Updating fstab..."),
    Step.TOOLS: (Mark.TOOLS, "Retiring VMware tools..."),
    Step.AGENT: (Mark.TOOLS, "Enabling the guest agent..."),
    Step.REBUILD: (Mark.DRIVERS, "Rebuilding the initramfs..."),
    Step.LABELS: (Mark.TOOLS, "Labelling new files for SELinux..."),
}
_DONE: dict[Step, str] = {
    Step.INSPECT: "Guest inspected",
    Step.VIRTIO: "VirtIO drivers injected",
    Step.BOOTLOADER: "Bootloader updated",
    Step.NETWORK: "Network configured for KVM",
    Step.FSTAB: "fstab updated",
    Step.TOOLS: "VMware tools retired",
    Step.AGENT: "Guest agent enabled",
    Step.REBUILD: "Initramfs rebuilt",
    Step.LABELS: "New files labelled for SELinux",
}
STEP_NAMES: dict[Step, str] = {
    Step.INSPECT: "Inspection",
    Step.VIRTIO: "VirtIO drivers",
    Step.BOOTLOADER: "Bootloader",
    Step.NETWORK: "Network configuration",
    Step.FSTAB: "fstab",
    Step.TOOLS: "VMware tools",
    Step.AGENT: "Guest agent",
    Step.REBUILD: "Rebuilding the initramfs",
    Step.LABELS: "SELinux labels",
}


def story(status: MigrationStatus) -> Iterator[Told]:
    """Everything that a status says has happened, from the beginning. Pure."""
    yield "stage1", StageBegun(Stage.LOOK if status.source_file else Stage.CONNECT)
    yield from _connecting(status)
    if _begun(status, Phase.EXPORT):
        yield "stage2", StageBegun(Stage.COPY if status.source_file else Stage.EXPORT)
        yield from preparing(status)
        yield from _exporting(status)
        yield from _verifying(status)
    if _begun(status, Phase.CONVERT):
        yield "stage3", StageBegun(Stage.QUEUE)
        if _conversion_taken(status):
            yield "taken", Line(Mark.GOING, "Conversion started")
            yield "stage4", StageBegun(Stage.CONVERT)
            yield from converting(status)
            yield from _proving(status)
            yield from _finishing(status)
        elif not status.status.is_final:
            where = f" on {status.host}" if status.host else ""
            yield "queued", Line(Mark.WAITING, f"Waiting in the conversion queue{where}")
    for text in status.warnings:
        yield f"warning:{text}", Line(Mark.WARNING, text)
    if _begun(status, Phase.CLEANUP):
        yield "stage5", StageBegun(Stage.CLEANUP)
        yield "sweeping", Line(Mark.BROOM, "Keeping the evidence, removing the working files")
        if _state(status, Phase.CLEANUP) is PhaseState.DONE:
            yield "swept", Line(Mark.OK, "Cleanup complete")
    yield from retrying(status)


def found_machine(status: MigrationStatus) -> Iterator[Told]:
    """What the preflight has found at the source."""
    plan = status.plan
    if plan is None:
        if _state(status, Phase.PLAN) is PhaseState.DONE:
            yield "connected", _reached(status)
        return
    machine = plan.machine
    disks = f"{plural(len(machine.disks), 'disk')}, {size(machine.capacity_bytes)} total"
    yield "connected", _reached(status)
    yield "found", Line(Mark.OK, f"Found VM: {machine.name} ({disks})")
    hardware = (
        f"{plural(machine.vcpus, 'vCPU')}, {size(machine.memory_bytes)} memory, {machine.firmware} firmware"
    )
    yield (
        "hardware",
        Line(Mark.INFO, f"{machine.guest_full_name or machine.guest_id}, {hardware}", detail=True),
    )


def _connecting(status: MigrationStatus) -> Iterator[Told]:
    yield from found_machine(status)
    plan = status.plan
    if plan is None:
        return
    yield "host", Line(Mark.INFO, f"Target host {plan.host}, images in {plan.output_dir}", detail=True)
    why = f": {plan.transport_reason}" if plan.transport_reason else ""
    yield "transport", Line(Mark.INFO, f"Copied by {plan.transport}{why}", detail=True)
    if plan.staged_bytes:
        kept = f"An earlier try has left {size(plan.staged_bytes)} there to go on from"
        yield "staged", Line(Mark.INFO, kept, detail=True)
    for text in plan.warnings:
        yield f"warning:{text}", Line(Mark.WARNING, text)


def preparing(status: MigrationStatus) -> Iterator[Told]:
    """What was done to a source that ran."""
    source = status.source
    if source is None:
        return
    if source.switched_off:
        how = "Powered off" if source.forced else "Shut down"
        yield "switched off", Line(Mark.OK, f"{how}: {status.vm_name}")
    if source.snapshot and not source.copied:
        how = "quiesced" if source.snapshot.quiesced else "crash-consistent"
        text = f"Snapshot of {clock(source.snapshot.taken_at)}, {how}: {source.snapshot.name}"
        yield "snapshot", Line(Mark.OK, text)


def _reached(status: MigrationStatus) -> Line:
    if status.source_file:
        return Line(Mark.OK, f"Source: {status.source_file}")
    return Line(Mark.OK, f"Connected to {status.vcenter}")


def _exporting(status: MigrationStatus) -> Iterator[Told]:
    progress = status.progress
    if status.landed:
        count = len(status.landed)
        for disk in status.landed:
            yield f"copying{disk.index}", _downloading(status, disk.index, count, disk.source_name)
            yield f"copied{disk.index}", _downloaded(status, disk.index, disk.allocated_bytes)
        spent = _spent(status.record(Phase.EXPORT))
        received = sum(disk.received_bytes for disk in status.landed)
        allocated = sum(disk.allocated_bytes for disk in status.landed)
        came = "read" if status.source_file else "received"
        text = f"Export complete{spent}: {size(received)} {came}, {size(allocated)} of data written"
        yield "exported", Line(Mark.OK, text)
    elif progress and progress.phase is Phase.EXPORT:
        for moved in progress.disks:
            if moved.done_bytes or moved.finished:
                yield (
                    f"copying{moved.index}",
                    _downloading(status, moved.index, len(progress.disks), moved.name),
                )
            if moved.finished:
                yield f"copied{moved.index}", _downloaded(status, moved.index, moved.total_bytes)


def _downloading(status: MigrationStatus, index: int, count: int, name: str) -> Line:
    verb = "Copying" if status.source_file else "Downloading"
    return Line(Mark.DOWNLOAD, f"{verb} disk {index}/{count}: {name or 'empty'}")


def _downloaded(status: MigrationStatus, index: int, size_bytes: int) -> Line:
    verb = "copied" if status.source_file else "downloaded"
    return Line(Mark.OK, f"Disk {index} {verb} ({size(size_bytes)})")


def _verifying(status: MigrationStatus) -> Iterator[Told]:
    state = _state(status, Phase.VERIFY)
    if state is PhaseState.SKIPPED:
        yield "unverified", Line(Mark.SKIPPED, "Verification left out, as asked")
    elif state is not PhaseState.WAITING:
        yield "verifying", Line(Mark.VERIFY, "Verifying: reading the images again, against the ledger")
    if state is PhaseState.DONE:
        spent = _spent(status.record(Phase.VERIFY))
        if status.verified and not all(disk.is_whole for disk in status.verified):
            yield "verified", Line(Mark.OK, f"Verified{spent}: what was read again is what arrived")
            for disk in status.verified:
                yield f"verified{disk.index}", Line(Mark.INFO, verified_text(disk), detail=True)
        else:
            yield "verified", Line(Mark.OK, f"Verified{spent}: every byte is the one that arrived")


def verified_text(disk: VerifiedDisk) -> str:
    """What was proved of a disk and by what, on one line."""
    with_data = disk.blocks - disk.zero_blocks
    what = (
        f"all {plural(disk.blocks, 'block')}"
        if disk.is_whole
        else f"a sample, {disk.blocks_read} of {with_data} blocks with data, all zeroes"
    )
    source = f", source's {disk.source_checksum.partition(':')[0]}" if disk.source_checksum else ""
    return f"{what} by {disk.digest_algorithm}; {disk.structure}{source}"


def converting(status: MigrationStatus) -> Iterator[Told]:
    """The guest and every step of its conversion, as far as it is."""
    working = (Phase.CONVERT, Phase.REHEARSE, Phase.PROVE)
    progress = status.progress if status.progress and status.progress.phase in working else None
    outcomes = status.steps or (progress.steps if progress else ())
    done = {outcome.step: outcome for outcome in outcomes}
    current = progress.current_step if progress and not status.steps else ""
    for step in Step:
        outcome = done.get(step)
        if (step == current or outcome) and step is not Step.INSPECT:
            yield f"doing:{step}", Line(*_DOING[step])
        if outcome:
            yield from _outcome(outcome, status)
        if step is Step.INSPECT and status.guest:
            yield from _guest(status)
    if status.guest and Step.INSPECT not in done and not done:
        yield from _guest(status)
    if _state(status, Phase.CONVERT) is PhaseState.DONE:
        spent = _spent(status.record(Phase.CONVERT))
        yield "converted", Line(Mark.OK, f"Conversion complete{spent}")


def _guest(status: MigrationStatus) -> Iterator[Told]:
    if status.guest is None:
        return
    yield "detected", Line(Mark.DETECTED, f"Detected: {status.guest.product_name}")
    if status.guest.filesystems:
        yield "filesystems", Line(Mark.FILESYSTEM, f"Filesystem: {', '.join(status.guest.filesystems)}")


def _outcome(outcome: StepOutcome, status: MigrationStatus) -> Iterator[Told]:
    step = outcome.step
    detail = f": {outcome.detail}" if outcome.detail else ""
    if step is Step.INSPECT and outcome.outcome is Outcome.DONE:
        if status.guest is None:
            yield "detected", Line(Mark.DETECTED, f"Detected: {outcome.detail}")
    else:
        spoken = {
            Outcome.DONE: (Mark.OK, f"{_DONE[step]}{detail}"),
            Outcome.NOT_NEEDED: (Mark.OK, f"{STEP_NAMES[step]}: {outcome.detail or 'nothing to change'}"),
            Outcome.SKIPPED: (Mark.SKIPPED, f"{STEP_NAMES[step]}: left out, as asked"),
            Outcome.FAILED: (Mark.FAILED, f"{STEP_NAMES[step]}{detail}"),
        }[outcome.outcome]
        yield f"outcome:{step}", Line(*spoken)
    for text in outcome.warnings:
        yield f"warning:{step}:{text}", Line(Mark.WARNING, text)


def _proving(status: MigrationStatus) -> Iterator[Told]:
    state = _state(status, Phase.PROVE)
    if state is PhaseState.SKIPPED:
        yield "unproved", Line(Mark.SKIPPED, "Boot proof left out, as asked")
        return
    if state is not PhaseState.WAITING or status.proof:
        yield from proving(status)


def proving(status: MigrationStatus) -> Iterator[Told]:
    """A boot proof that has begun, and what it has found."""
    yield (
        "proving",
        Line(Mark.PROOF, "Boot proof: starting the guest once, cut off from every network..."),
    )
    if status.proof:
        for number, line in enumerate(proof_lines(status.proof)):
            yield f"proof{number}", line


def proof_lines(proof: BootProof) -> Iterator[Line]:
    """What the converted guest answered."""
    if proof.multi_user:
        kernel = f", Linux {proof.kernel}" if proof.kernel else ""
        how = f"{duration(proof.boot_seconds)} with {proof.acceleration.upper()}{kernel}"
        yield Line(Mark.OK, f"Booted to multi-user in {how}")
        if proof.failed_units:
            yield Line(Mark.WARNING, f"Failed units: {', '.join(proof.failed_units)}")
        else:
            yield Line(Mark.OK, "No failed unit")
    elif proof.passed and proof.claim is Claim.AGENT:
        about = ", ".join(filter(None, (proof.system, proof.kernel)))
        yield Line(Mark.OK, f"Its guest agent answers{f': {about}' if about else ''}")
    elif proof.passed and proof.claim is Claim.ACTIVITY:
        yield Line(Mark.OK, f"It runs, as far as can be seen: it {proof.seen}")
    for mount in proof.mounts:
        what = f"{mount.target} ({mount.filesystem}, {mount.source})"
        if mount.active:
            yield Line(Mark.OK, f"Mounted: {what}")
        else:
            yield Line(Mark.FAILED if mount.required else Mark.WARNING, f"Not mounted: {what}")
    for nic in proof.nics:
        found = ", ".join(nic.addresses) or "no address"
        if not nic.name:
            mark = Mark.FAILED if proof.claim is Claim.REPORT else Mark.WARNING
            yield Line(mark, f"The guest has no NIC {nic.mac}")
        elif nic.missing_addresses:
            missing = ", ".join(nic.missing_addresses)
            mark = Mark.FAILED if proof.claim is Claim.REPORT else Mark.WARNING
            yield Line(mark, f"{nic.name} ({nic.mac}) has {found}; it lacks {missing}")
        else:
            yield Line(Mark.OK, f"{nic.name} ({nic.mac}): {found}")
    if proof.comparison:
        yield from _comparison(proof.comparison)
    for text in proof.warnings:
        yield Line(Mark.WARNING, text)
    yield from (Line(Mark.FAILED, text) for text in proof.problems)
    if proof.diagnosis and not any(proof.diagnosis in text for text in proof.problems):
        yield Line(Mark.FAILED, proof.diagnosis)
    if proof.passed:
        rests_on = f", {proof.claim.words}" if proof.claim.words else ""
        yield Line(Mark.OK, f"Boot proof passed{rests_on}")


def _comparison(comparison: Comparison) -> Iterator[Line]:
    """The guest before its conversion; what it has lost since is among the problems."""
    if comparison.obstacle:
        return
    on = f"the unconverted guest on {comparison.hardware}, {duration(comparison.boot_seconds)}"
    if comparison.failed_units:
        yield Line(Mark.WARNING, f"Failed before the conversion: {', '.join(comparison.failed_units)}")
    if not comparison.differences:
        yield Line(Mark.OK, f"Nothing that worked before fails now ({on})")
    else:
        yield Line(Mark.FAILED, f"{len(comparison.differences)} that worked before no longer do ({on})")


def _finishing(status: MigrationStatus) -> Iterator[Told]:
    if not _begun(status, Phase.IMPORT):
        return
    yield "finalizing", Line(Mark.PACKAGE, "Finalizing...")
    if status.output_dir:
        yield "output", Line(Mark.OK, f"Images in {status.output_dir}")
    if status.domain:
        yield "domain", Line(Mark.OK, f"Defined in libvirt: {status.domain}")


def retrying(status: MigrationStatus) -> Iterator[Told]:
    """Why a step is tried again, and when; nothing where none is."""
    retry = status.retry
    if retry is None:
        return
    key = f"retry:{retry.next_attempt_at.isoformat()}"
    yield key, Line(Mark.WARNING, f"{retry.failure.message}")
    when = f"Next attempt at {clock(retry.next_attempt_at)} ({retry.retry} of {retry.max_retries})"
    text = f"{when}; at once: hyperctl retry-now --job {status.job_id}"
    yield f"{key}:when", Line(Mark.WAITING, text)


def _conversion_taken(status: MigrationStatus) -> bool:
    """Whether a worker has begun to convert, and not only the queue been entered."""
    if _state(status, Phase.CONVERT) in (PhaseState.DONE, PhaseState.FAILED) or status.steps:
        return True
    return status.progress is not None and status.progress.phase is Phase.CONVERT


def _state(status: MigrationStatus, phase: Phase) -> PhaseState:
    return next((item.state for item in status.phases if item.phase is phase), PhaseState.WAITING)


def _begun(status: MigrationStatus, phase: Phase) -> bool:
    return _state(status, phase) is not PhaseState.WAITING


def _spent(record: PhaseRecord) -> str:
    if record.started_at is None or record.finished_at is None:
        return ""
    return f" ({duration((record.finished_at - record.started_at).total_seconds())})"
