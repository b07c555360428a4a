"""One rehearsal: converted and booted over the remote disks, judged, and thrown away."""

import base64
import time
from dataclasses import dataclass
from pathlib import Path

from hyperctl.activities.acceleration import Acceleration
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.convert.activity import convert_over
from hyperctl.activities.convert.conversation import GuestUnreadableError
from hyperctl.activities.convert.order import Order
from hyperctl.activities.convert.windows.parts import WindowsParts
from hyperctl.activities.held_folder import held_folder
from hyperctl.activities.nbd.fetched import SLOWEST_BYTES_PER_SECOND, too_slow
from hyperctl.activities.prove.activity import Proved, failure_text, prove
from hyperctl.activities.prove.boot import Trial
from hyperctl.activities.prove.trial import TrialFiles
from hyperctl.activities.rehearse.estimate import estimate, take_sample
from hyperctl.activities.rehearse.source import ShownSource, shown_disks
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import ConvertResult, RehearseInput
from hyperctl.workflows.errors import ErrorCode, Failure, HyperctlError
from hyperctl.workflows.estimate import Sample
from hyperctl.workflows.guest import BootProof, as_guest_knows, rebuilt_warning
from hyperctl.workflows.rehearsal import RehearsalRequest, Rehearsed, Verdict
from hyperctl.workflows.request import InitramfsWay
from hyperctl.workflows.status import Phase

FOLDER_PREFIX = ".rehearsal-"
LARGEST_SCREEN_BYTES = 512 << 10
"""A picture of the guest's console, which travels through Temporal."""
_IN_EMULATION = (
    "It was booted in software emulation, in which a busy host may make a boot fail: rehearse it again, "
    "on a host with KVM where there is one."
)
_WITHOUT_DRIVERS = "Drivers were left out, as asked: rehearse it without --skip-virtio."
_OF_THE_GUEST = (ErrorCode.GUEST_UNSUPPORTED, ErrorCode.CONVERSION_FAILED)


def rehearse(argument: RehearseInput, settings: HostSettings, running: Attempt) -> Rehearsed:
    """Tell whether a machine that nobody writes to will boot; its disks are read, as far as that needs.

    Raises `HyperctlError` where it cannot be told, and what `Attempt.checkpoint` raises. Nothing is left
    either way.
    """
    started = time.monotonic()
    request, machine = argument.request, argument.machine
    output = Path(argument.output_dir)
    output.mkdir(mode=0o711, parents=True, exist_ok=True)
    with held_folder(output, FOLDER_PREFIX) as folder:
        folder.chmod(0o711)  # qemu has a user of its own
        staging = Staging(folder, argument.job_id)
        staging.create()
        with shown_disks(argument, folder, settings, running) as source:
            try:
                with running.guarded_by(source.check):
                    sample = take_sample(source.readers, running, source.stop)
                    _refuse_too_slow(machine.name, sample)
                    sampled = time.monotonic()
                    trial = _Trial(argument.job_id, request, source, staging, settings, running)
                    found = trial.outcome()
                    source.check()
                source.confirm()
            except HyperctlError:
                source.diagnose(running)
                raise
            ended = time.monotonic()
            read_bytes = source.read_bytes + sample.all_bytes
            running.log.info(
                "%s: %s, %d bytes read, waited %.1f s for them",
                machine.name,
                found.verdict,
                read_bytes,
                source.waited_seconds,
            )
            guest_seconds = ended - sampled - source.waited_seconds
            return found.model_copy(
                update={
                    "estimate": estimate(source.machine, sample, guest_seconds, argument.transport),
                    "read_bytes": read_bytes,
                    "waited_seconds": round(source.waited_seconds, 1),
                    "duration_seconds": round(ended - started, 1),
                }
            )


def _refuse_too_slow(name: str, sample: Sample) -> None:
    """What `FetchedDisk` would come to after a minute."""
    if sample.read_bytes and sample.bytes_per_second < SLOWEST_BYTES_PER_SECOND:
        raise too_slow(f"the disks of {name} come", sample.bytes_per_second)


@dataclass(frozen=True, slots=True)
class _Trial:
    """Conversion and boot over a machine's disks as they are shown."""

    job_id: str
    request: RehearsalRequest
    source: ShownSource
    staging: Staging
    settings: HostSettings
    running: Attempt

    def outcome(self) -> Rehearsed:
        """As a migration would go, once more with a rebuilt initramfs where it would do that."""
        try:
            converted = self._converted(self.request.initramfs)
            proved = self._proved(converted)
            warnings: tuple[str, ...] = ()
            may_rebuild = self.request.initramfs is InitramfsWay.AUTO and converted.may_rebuild
            if proved.proof.root_missing and may_rebuild:
                warnings = (rebuilt_warning(proved.proof),)
                converted = self._converted(InitramfsWay.REBUILD)
                proved = self._proved(converted)
        except GuestUnreadableError as error:  # which says nothing of how the guest boots
            self.source.check()
            log = f"hyperctl logs --job {self.job_id}"
            hint = f"The log has libguestfs' own words: {log}. Rehearse it again."
            raise HyperctlError(error.code, str(error), hint) from error
        except HyperctlError as error:
            self.source.check()
            if error.code not in _OF_THE_GUEST:
                raise
            return Rehearsed(
                verdict=Verdict.DOES_NOT_BOOT, reason=error.failure, steps=self.running.progress.steps
            )
        proof = proved.proof
        found = Rehearsed(
            verdict=Verdict.BOOTS,
            guest=converted.guest,
            steps=converted.steps,
            proof=proof,
            warnings=warnings,
        )
        if proof.passed:
            return found
        text = failure_text(self.source.machine, proof)
        return found.model_copy(
            update={
                "verdict": Verdict.DOES_NOT_BOOT,
                "reason": Failure(
                    code=ErrorCode.PROOF_FAILED,
                    message=text,
                    hint=self._advice(proof),
                ),
                "screen": self._screen(proved),
            }
        )

    def _advice(self, proof: BootProof) -> str:
        if proof.root_missing and not self.request.fix.virtio:
            return _WITHOUT_DRIVERS
        return _IN_EMULATION if proof.acceleration == Acceleration.TCG else ""

    def _converted(self, initramfs: InitramfsWay) -> ConvertResult:
        self.running.report(phase=Phase.REHEARSE, steps=())
        packages = self.request.guest_packages
        order = Order(
            machine=self.source.machine,
            fix=self.request.fix,
            initramfs=initramfs,
            serial_console=self.request.serial_console,
            guest_packages=Path(packages) if packages else None,
            hardware=self.request.hardware,
            disk_keys_file=self.settings.disk_keys_file,
            windows=WindowsParts.of(self.settings),
        )
        return convert_over(self.source.bases, order, self.staging, self.running)

    def _proved(self, converted: ConvertResult) -> Proved:
        self.running.report(phase=Phase.PROVE)
        trial = Trial(
            job_id=self.job_id,
            machine=as_guest_knows(self.source.machine, converted.guest),
            guest=converted.guest,
            disks=converted.disks,
            files=TrialFiles(self.staging.proof()),
            libvirt_uri=self.settings.libvirt_uri,
            disk_keys_file=self.settings.disk_keys_file,
            hardware=self.request.hardware,
        )
        return prove(trial, self.request.prove, self.running)

    def _screen(self, proved: Proved) -> str:
        if len(proved.screenshot) > LARGEST_SCREEN_BYTES:
            self.running.log.warning("the screen is left out: %d bytes", len(proved.screenshot))
            return ""
        return base64.b64encode(proved.screenshot).decode()
