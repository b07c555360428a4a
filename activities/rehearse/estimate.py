"""What a migration will take: a short sample of reads, and what vSphere says of the disks."""

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.ranges import Body, Connection, DiskReader, persistently
from hyperctl.activities.nbd.fetched import TRIES
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.estimate import Estimate, Sample
from hyperctl.workflows.machine import Machine, MachineDisk
from hyperctl.workflows.request import TransportChoice

SAMPLE_SECONDS = 3.0
"""Of each kind of reading, after which what has come by then is the measure."""
SAMPLE_BYTES = 32 << 20
PIECE_BYTES = 64 << 10
PLACES = 64
PLACE_BYTES = 64 << 10
CHECK_SECONDS = 0.2
_CERTAIN = 1.96
"""Standard deviations: 95 of 100 such bounds hold."""

T = TypeVar("T")


def take_sample(
    disks: Sequence[tuple[MachineDisk, DiskReader]], attempt: Attempt, stop: threading.Event
) -> Sample:
    """Read the largest disk in a row over all its connections, then blocks at random over every disk.

    The first is how a copy reads, and gives its rate; the second says how much of the disks is zeroes.
    Raises what a connection does that does not come back, and what `Attempt.checkpoint` raises.
    """
    attempt.report(message="measuring how fast the disks come")
    disk, reader = max(disks, key=lambda pair: pair[0].capacity_bytes)
    read_bytes, rate = _read_in_a_row(disk, reader, attempt, stop)
    blocks = data_blocks = 0
    for disk, its_reader in disks:
        seen = _look_at_places(disk, its_reader, _share(disk, disks), attempt, stop)
        blocks, data_blocks = blocks + len(seen), data_blocks + sum(seen)
    return Sample(
        connections=reader.connections,
        read_bytes=read_bytes,
        seconds=round(read_bytes / rate, 3) if rate else 0.0,
        blocks=blocks,
        data_blocks=data_blocks,
        other_bytes=blocks * PLACE_BYTES,
    )


_WAYS = {
    TransportChoice.DATASTORE: "from the datastore",
    TransportChoice.VDDK: "by VMware's library",
    TransportChoice.FILE: "of its file",
}


def estimate(
    machine: Machine,
    sample: Sample,
    guest_seconds: float,
    transport: TransportChoice = TransportChoice.DATASTORE,
) -> Estimate | None:
    """Bounds for the machine's migration as sampled; None where nothing came in that time. Pure."""
    if sample.bytes_per_second <= 0:
        return None
    low, high, basis = _landing(machine, sample)
    transfer = machine.capacity_bytes if transport is TransportChoice.DATASTORE else high
    return Estimate(
        sample=sample,
        transfer_bytes=transfer,
        way=_WAYS[transport],
        copy_seconds=round(transfer / sample.bytes_per_second, 1),
        land_bytes_low=low,
        land_bytes_high=high,
        land_basis=basis,
        guest_seconds=round(guest_seconds, 1),
    )


def _landing(machine: Machine, sample: Sample) -> tuple[int, int, str]:
    """What lies between the blocks that were seen is bounded by Wilson's interval; what the datastore says
    is in use is a bound, too: what is not allocated reads as zeroes, what is may be zeroes all the same."""
    low_share, high_share = share_bounds(sample.data_blocks, sample.blocks)
    low, high = (int(machine.capacity_bytes * share) for share in (low_share, high_share))
    basis = f"{sample.data_blocks} of {sample.blocks} blocks read at random were not empty"
    allocated = machine.allocated_bytes
    if all(disk.allocated_bytes for disk in machine.disks) and allocated < high:
        return min(low, allocated), allocated, f"{basis}; no more than that is allocated"
    return low, high, basis


def share_bounds(hits: int, tries: int) -> tuple[float, float]:
    """Wilson's score interval of a share: 95 of 100 such bounds hold it. Without tries it is all there is."""
    if tries == 0:
        return 0.0, 1.0
    share, z = hits / tries, _CERTAIN
    middle = share + z * z / (2 * tries)
    spread = z * math.sqrt(share * (1 - share) / tries + z * z / (4 * tries * tries))
    scale = 1 + z * z / tries
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def _read_in_a_row(
    disk: MachineDisk, reader: DiskReader, attempt: Attempt, stop: threading.Event
) -> tuple[int, float]:
    """Bytes, and bytes a second, of all connections: each from its first byte on, a copy opens it once."""
    each = min(SAMPLE_BYTES, disk.capacity_bytes) // reader.connections
    starts = deque(number * each for number in range(reader.connections))

    def read(connection: Connection) -> tuple[int, float]:
        start = starts.popleft()
        try:
            with connection.open(start, each) as body:
                return _measured(body, each)
        except BaseException:
            starts.append(start)  # it is tried again
            raise

    found = _over_connections(read, reader, attempt, stop)
    return sum(size for size, _ in found), sum(size / seconds for size, seconds in found if seconds)


def _measured(body: Body, length_bytes: int) -> tuple[int, float]:
    buffer = memoryview(bytearray(PIECE_BYTES))
    first = _some_of(body, buffer)
    started, count = time.monotonic(), 0
    deadline = started + SAMPLE_SECONDS
    while (left := length_bytes - first - count) > 0 and time.monotonic() < deadline:
        count += _some_of(body, buffer[:left])
    return count, time.monotonic() - started


def _some_of(body: Body, view: memoryview) -> int:
    size = body.readinto(view)
    if not size:
        raise HyperctlError(ErrorCode.TRANSFER_INTERRUPTED, "an answer of the source ended too early")
    return size


def _share(disk: MachineDisk, disks: Sequence[tuple[MachineDisk, DiskReader]]) -> int:
    """How many of the places lie on this disk; at least one."""
    whole = sum(other.capacity_bytes for other, _ in disks)
    return max(1, round(PLACES * disk.capacity_bytes / whole))


def _look_at_places(
    disk: MachineDisk, reader: DiskReader, count: int, attempt: Attempt, stop: threading.Event
) -> list[bool]:
    """Of blocks at random, one in each of as many equal stretches, whether they hold data."""
    blocks = max(1, disk.capacity_bytes // PLACE_BYTES)
    count = min(count, blocks)
    places = [random.randrange(blocks * n // count, blocks * (n + 1) // count) for n in range(count)]
    random.shuffle(places)  # what there is no time for is anywhere, too
    waiting = deque(places)
    deadline = time.monotonic() + SAMPLE_SECONDS
    seen: list[bool] = []

    def look(connection: Connection) -> None:
        buffer = bytearray(PLACE_BYTES)
        while time.monotonic() < deadline:
            try:
                place = waiting.popleft()
            except IndexError:
                return
            length = min(PLACE_BYTES, disk.capacity_bytes - place * PLACE_BYTES)
            view, filled = memoryview(buffer)[:length], 0
            with connection.open(place * PLACE_BYTES, length) as body:
                while filled < length:
                    filled += _some_of(body, view[filled:])
            seen.append(any(view))

    _over_connections(look, reader, attempt, stop)
    return seen


def _over_connections(
    work: Callable[[Connection], T], reader: DiskReader, attempt: Attempt, stop: threading.Event
) -> list[T]:
    """Do it once on each connection, side by side. One that breaks is opened anew, as in a copy."""

    def connected() -> T:
        with reader.connect() as connection:
            return work(connection)

    with ThreadPoolExecutor(reader.connections, "sample") as threads:
        working = [
            threads.submit(persistently, connected, attempt, stop, TRIES) for _ in range(reader.connections)
        ]
        try:
            while wait(working, CHECK_SECONDS).not_done:
                attempt.checkpoint()
        except BaseException:
            stop.set()
            raise
    return [done.result() for done in working]
