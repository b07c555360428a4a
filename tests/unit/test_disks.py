"""Several disks of a machine: which begins, how many at a time, and what is said of their progress."""

import logging
import threading
import time

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.bandwidth import BandwidthOrders, order_bandwidth
from hyperctl.activities.export.disk_copy import DiskCopy
from hyperctl.activities.export.disks import Copying
from hyperctl.activities.export.ledger import BLOCK_BYTES, read_ledger
from hyperctl.activities.export.space_watch import SpaceWatch
from hyperctl.activities.export.throttle import Throttle
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import ExportInput, SetBandwidthInput
from hyperctl.workflows.request import DiskFormat, VCenter
from hyperctl.workflows.status import Phase, Progress
from tests.moments import LONGEST_SECONDS

from .machines import machine
from .sources import SourceInMemory, disk_in_memory
from .test_ranges import DiskInMemory

BLOCKS = (2, 5, 1, 6, 4, 3)


class Watched(Attempt):
    """Keeps everything that was reported."""

    def __init__(self) -> None:
        super().__init__(Phase.EXPORT, logging.getLogger("test"))
        self.told: list[Progress] = []

    def report(self, **changes: object) -> None:
        super().report(**changes)
        self.told.append(Progress(phase=Phase.EXPORT).model_copy(update=changes))


def copying(
    source: SourceInMemory, copies: list[DiskCopy], staging: Staging, running: Attempt, **settings: int
) -> Copying:
    argument = export_input(staging, copies)
    orders = BandwidthOrders(argument, staging, source.throttle, running, "run-1")
    host = HostSettings(output_dir=argument.output_dir, space_reserve_bytes=0, **settings)  # type: ignore[arg-type]
    return Copying(source, copies, orders, host, staging, running)


def export_input(staging: Staging, copies: list[DiskCopy] | None = None, **changes: object) -> ExportInput:
    argument = ExportInput(
        job_id=staging.job_id,
        vcenter=VCenter(server="vc"),
        machine=machine(disks=tuple(copy.disk for copy in copies or ())),
        transport="memory",
        output_dir=str(staging.folder.parent.parent),
    )
    return argument.model_copy(update=changes)


def test_the_largest_disk_begins_and_no_more_than_asked_run_at_a_time(staging: Staging) -> None:
    running = Watched()
    disks = [disk_in_memory(number, blocks * BLOCK_BYTES) for number, blocks in enumerate(BLOCKS, start=1)]
    copies = [
        DiskCopy(number, disk, staging, "vm", DiskFormat.RAW, running)
        for number, disk in enumerate(disks, start=1)
    ]
    source = SourceInMemory(
        running, {disk.name: DiskInMemory(connections=1) for disk in disks}, meeting=threading.Barrier(2)
    )
    copying(source, copies, staging, running, disks_at_once=2).run()
    sizes = {disk.name: disk.capacity_bytes // BLOCK_BYTES for disk in disks}
    begun = [sizes[name] for name in source.begun]
    assert [sorted(begun[at : at + 2]) for at in (0, 2, 4)] == [[5, 6], [3, 4], [1, 2]]
    assert source.most_running == 2
    assert all(copy.finish for copy in copies)


def test_progress_goes_from_nothing_to_all_and_never_back(staging: Staging) -> None:
    running = Watched()
    disks = [disk_in_memory(1, 2 * BLOCK_BYTES), disk_in_memory(2, 3 * BLOCK_BYTES)]
    copies = [
        DiskCopy(number, disk, staging, "vm", DiskFormat.RAW, running)
        for number, disk in enumerate(disks, start=1)
    ]
    source = SourceInMemory(running, {disk.name: DiskInMemory() for disk in disks})
    copying(source, copies, staging, running).run()
    totals = [progress.overall for progress in running.told]
    done = [total.done_bytes for total in totals if total]
    assert done == sorted(done)
    last = totals[-1]
    assert last is not None
    assert (last.done_bytes, last.total_bytes) == (5 * BLOCK_BYTES, 5 * BLOCK_BYTES)
    assert last.finished
    assert last.eta_seconds is None
    assert source.percents[-1] == 100


def test_what_was_there_before_counts_as_done_but_not_as_moved(staging: Staging) -> None:
    running = Watched()
    disk = disk_in_memory(1, 10 * BLOCK_BYTES)
    watch = SpaceWatch(staging.folder, 0, 0, lambda: 0)
    stop = threading.Event()
    reader = DiskInMemory(connections=1, before_byte={6 * BLOCK_BYTES: stop.set})
    source = SourceInMemory(running, {disk.name: reader})
    first = DiskCopy(1, disk, staging, "vm", DiskFormat.RAW, running)
    first.start(source, watch, stop)
    assert first.join(time.monotonic() + LONGEST_SECONDS)
    first.close()
    missing = len(read_ledger(staging.ledger(1)).blocks.missing())
    assert missing == 4, "what had landed when it was stopped is recorded"

    second = DiskCopy(1, disk, staging, "vm", DiskFormat.RAW, running)
    second.start(source, watch, threading.Event())
    while second.is_alive:
        progress = second.progress(time.monotonic())
        assert progress.done_bytes in (0, *range((10 - missing) * BLOCK_BYTES, 11 * BLOCK_BYTES, BLOCK_BYTES))
        time.sleep(0.02)
    assert second.progress(time.monotonic()).done_bytes == 10 * BLOCK_BYTES
    assert second.moved_bytes == missing * BLOCK_BYTES
    second.close()


# --- a bandwidth that changes -------------------------------------------------------------------------


def order(staging: Staging, revision: int, cap: int | None, run: str = "run-1") -> None:
    order_bandwidth(
        SetBandwidthInput(
            job_id=staging.job_id,
            output_dir=str(staging.folder.parent.parent),
            bytes_per_second=cap,
            revision=revision,
        ),
        run,
    )


def test_the_newest_order_of_this_run_holds(staging: Staging) -> None:
    throttle = Throttle()
    argument = export_input(staging, bandwidth_bytes_per_second=1000, bandwidth_revision=2)
    order(staging, 2, 5000)
    orders = BandwidthOrders(argument, staging, throttle, Watched(), "run-1")
    assert throttle.bytes_per_second == 1000, "the input knows as much"
    for revision, cap, run, expected in (
        (3, 6000, "run-1", 6000),
        (2, 7000, "run-1", 6000),
        (9, 8000, "run-0", 6000),
        (4, None, "run-1", None),
    ):
        order(staging, revision, cap, run)
        orders.obey()
        assert throttle.bytes_per_second == expected


def test_an_order_before_the_copy_holds_from_its_first_byte(staging: Staging) -> None:
    throttle = Throttle()
    order(staging, 1, 2000)
    BandwidthOrders(export_input(staging), staging, throttle, Watched(), "run-1")
    assert throttle.bytes_per_second == 2000


def test_a_damaged_order_changes_nothing(staging: Staging) -> None:
    throttle = Throttle()
    (staging.folder / "bandwidth.json").write_text('{"revision": ')
    BandwidthOrders(
        export_input(staging, bandwidth_bytes_per_second=3000), staging, throttle, Watched(), "run-1"
    ).obey()
    assert throttle.bytes_per_second == 3000
