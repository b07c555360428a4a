"""`convert_guest` and its undo."""

import time
from pathlib import Path

from temporalio import activity

from hyperctl.activities.attempt import Attempt, attempt
from hyperctl.activities.chain import BaseDisk
from hyperctl.activities.commit import commit_begun
from hyperctl.activities.convert.conversation import Conversation
from hyperctl.activities.convert.order import Order
from hyperctl.activities.convert.overlay import fresh_overlays, make_durable, remove_overlays
from hyperctl.activities.convert.windows.conversion import convert_windows
from hyperctl.activities.convert.windows.parts import WindowsParts
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import (
    CONVERT_GUEST,
    DISCARD_CONVERSION,
    PROVE_BOOT,
    ConvertInput,
    ConvertResult,
    DiscardInput,
    Nothing,
)
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.request import InitramfsWay
from hyperctl.workflows.status import Phase

STEP = CONVERT_GUEST.name
CHILD = "hyperctl.activities.convert.child"


class ConvertActivities:
    """`convert_guest`, `discard_conversion`."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    @activity.defn(name=CONVERT_GUEST.name, no_thread_cancel_exception=True)
    def convert_guest(self, argument: ConvertInput) -> ConvertResult:
        with attempt(Phase.CONVERT, argument.job_id, self._settings.log_dir) as running:
            return convert_guest(
                argument, running, self._settings.disk_keys_file, WindowsParts.of(self._settings)
            )

    @activity.defn(name=DISCARD_CONVERSION.name, no_thread_cancel_exception=True)
    def discard_conversion(self, argument: DiscardInput) -> Nothing:
        """Throw overlays and records away, unless they are being merged into the images."""
        staging = Staging(argument.output_dir, argument.job_id)
        if staging.folder.is_dir() and commit_begun(staging) is None:
            staging.forget(STEP, PROVE_BOOT.name)
            remove_overlays(staging)
        return Nothing()


def convert_guest(
    argument: ConvertInput,
    running: Attempt,
    disk_keys_file: Path | None = None,
    windows: WindowsParts | None = None,
) -> ConvertResult:
    """Convert in overlays over the landed images, which stay as they were verified.

    The same conversion is not done again when it was finished before; any other is begun anew. Raises
    `GUEST_UNSUPPORTED` or `CONVERSION_FAILED`, and what `read_disk_keys` raises, with no overlay left.
    """
    staging = Staging(argument.output_dir, argument.job_id)
    known = staging.finished(STEP, ConvertResult)
    is_there = known is not None and all(staging.overlay(disk.index).exists() for disk in known.disks)
    if known is not None and is_there and _is_what_is_asked(known, argument):
        running.log.info("converted before")
        return known
    if commit_begun(staging) is not None and is_there:
        raise HyperctlError(
            ErrorCode.CONVERSION_FAILED,
            f"{argument.machine.name} was converted in another way, which is being made part of its images",
            "Ask for the same hardware, initramfs, serial console and packages as before, or delete what is "
            f"there: hyperctl discard --job {argument.job_id}.",
        )
    if commit_begun(staging) is not None:
        raise HyperctlError(
            ErrorCode.STORAGE_FAILED,
            f"an overlay in {staging.folder} is gone while it was being merged into its image",
            f"Delete what is left: hyperctl discard --job {argument.job_id}. A retry copies the disks again.",
        )
    staging.forget(STEP, PROVE_BOOT.name)
    bases = tuple(BaseDisk.landed(disk) for disk in argument.disks)
    order = Order(
        machine=argument.machine,
        fix=argument.fix,
        initramfs=argument.initramfs,
        serial_console=argument.serial_console,
        guest_packages=Path(argument.guest_packages) if argument.guest_packages else None,
        hardware=argument.hardware,
        disk_keys_file=disk_keys_file,
        windows=windows or WindowsParts(),
    )
    result = convert_over(bases, order, staging, running)
    make_durable(result.disks)
    staging.finish(STEP, result)
    return result


def convert_over(
    bases: tuple[BaseDisk, ...], order: Order, staging: Staging, running: Attempt
) -> ConvertResult:
    """Convert in new overlays over whatever the disks are, and record nothing. Raises as `convert_guest`."""
    started = time.monotonic()
    disks = fresh_overlays(bases, staging, running)
    try:
        conversation = Conversation(running)
        order = order.model_copy(update={"overlays": tuple(disk.overlay for disk in disks)})
        running.report(message="opening the guest's disks")
        conversation.hold(CHILD, order)
        if conversation.windows:
            convert_windows(conversation.windows, order, conversation, running)
        guest, steps = conversation.outcome(order.machine.name)
    except BaseException:
        remove_overlays(staging)
        raise
    return ConvertResult(
        disks=disks,
        guest=guest,
        steps=steps,
        duration_seconds=round(time.monotonic() - started, 1),
        initramfs=order.initramfs,
        serial_console=order.serial_console,
        guest_packages=str(order.guest_packages) if order.guest_packages else None,
        hardware=order.hardware,
    )


def _is_what_is_asked(known: ConvertResult, asked: ConvertInput) -> bool:
    """A conversion with a rebuilt initramfs serves where the way was left open."""
    return _settings(known) == _settings(asked) and asked.initramfs in (known.initramfs, InitramfsWay.AUTO)


def _settings(one: ConvertInput | ConvertResult) -> tuple[object, ...]:
    return one.hardware, one.serial_console, one.guest_packages
