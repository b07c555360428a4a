"""One rehearsal: converted and booted over the remote disks, judged, and thrown away."""

import time
from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.convert.activity import convert_over
from hyperctl.activities.convert.conversation import GuestUnreadableError
from hyperctl.activities.convert.order import Order
from hyperctl.activities.convert.windows.parts import WindowsParts
from hyperctl.activities.held_folder import held_folder
from hyperctl.activities.prove.activity import failure_text, prove
from hyperctl.activities.prove.trial import TrialFiles
from hyperctl.activities.rehearse.source import ShownSource, shown_datastore_disks
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.workflows.errors import ErrorCode, Failure, HyperctlError
from hyperctl.workflows.guest import BootProof, GuestSystem
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.rehearsal import Rehearsed, Verdict
from hyperctl.workflows.request import Fixers, ProveMode, VCenter

FOLDER_PREFIX = ".rehearsal-"
_OF_THE_GUEST = (ErrorCode.GUEST_UNSUPPORTED, ErrorCode.CONVERSION_FAILED)


def rehearse(
    job_id: str,
    vcenter: VCenter,
    machine: Machine,
    settings: HostSettings,
    running: Attempt,
    fix: Fixers | None = None,
    mode: ProveMode = ProveMode.FULL,
) -> Rehearsed:
    """Tell whether a machine that is off will boot; its disks are read, as far as that needs.

    Raises `HyperctlError` where it cannot be told, and what `Attempt.checkpoint` raises. Nothing is left
    either way.
    """
    started = time.monotonic()
    output = Path(settings.output_dir)
    output.mkdir(mode=0o711, parents=True, exist_ok=True)
    with held_folder(output, FOLDER_PREFIX) as folder:
        folder.chmod(0o711)  # qemu has a user of its own
        staging = Staging(folder, job_id)
        staging.create()
        with (
            shown_datastore_disks(job_id, vcenter, machine, staging.folder, settings, running) as source,
            running.guarded_by(source.check),
        ):
            found = _tried(job_id, source, staging, settings, running, fix or Fixers(), mode)
            source.check()
            source.check_off()
            running.log.info(
                "%s: %s, %d bytes read, waited %.1f s for them",
                machine.name,
                found.verdict,
                source.read_bytes,
                source.waited_seconds,
            )
            return found.model_copy(
                update={
                    "read_bytes": source.read_bytes,
                    "waited_seconds": round(source.waited_seconds, 1),
                    "duration_seconds": round(time.monotonic() - started, 1),
                }
            )


def _tried(
    job_id: str,
    source: ShownSource,
    staging: Staging,
    settings: HostSettings,
    running: Attempt,
    fix: Fixers,
    mode: ProveMode,
) -> Rehearsed:
    keys = settings.disk_keys_file
    try:
        windows = WindowsParts.of(settings)
        order = Order(machine=source.machine, fix=fix, disk_keys_file=keys, windows=windows)
        converted = convert_over(source.bases, order, staging, running)
    except GuestUnreadableError:
        raise  # libguestfs' end says nothing of the guest
    except HyperctlError as error:
        source.check()
        if error.code not in _OF_THE_GUEST:
            raise
        return _does_not_boot(error.failure, running)
    proved = prove(
        job_id=job_id,
        machine=source.machine,
        guest=converted.guest,
        disks=converted.disks,
        mode=mode,
        files=TrialFiles(staging.proof()),
        libvirt_uri=settings.libvirt_uri,
        running=running,
        disk_keys_file=keys,
    )
    if not proved.proof.passed:
        text = failure_text(source.machine, proved.proof)
        failure = Failure(code=ErrorCode.PROOF_FAILED, message=text)
        return _does_not_boot(failure, running, converted.guest, proved.proof)
    return Rehearsed(verdict=Verdict.BOOTS, guest=converted.guest, steps=converted.steps, proof=proved.proof)


def _does_not_boot(
    reason: Failure, running: Attempt, guest: GuestSystem | None = None, proof: BootProof | None = None
) -> Rehearsed:
    return Rehearsed(
        verdict=Verdict.DOES_NOT_BOOT,
        reason=reason,
        guest=guest,
        steps=running.progress.steps,
        proof=proof,
    )
