"""Whether the guest's filesystems take what a conversion is to put on them."""

from collections.abc import Mapping

from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.mounts import filesystem_of
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.storage import EXT

MIB = 1 << 20
SPARE_BYTES = MIB


def assert_room(inspected: Inspected, growth_bytes: Mapping[str, int]) -> None:
    """Every filesystem takes all that is to be put on it. Raises `StepFailed` with what each lacks."""
    needed: dict[str, int] = {}
    for path, size in growth_bytes.items():
        place = filesystem_of(path, inspected.mounts)
        needed[place] = needed.get(place, SPARE_BYTES) + size
    lacking = []
    for place, wanted in needed.items():
        free = _free_bytes(inspected, place)
        if wanted > free:
            lacking.append(
                f"{place} has {free / MIB:.1f} MiB free and needs {wanted / MIB:.1f} MiB: "
                f"{(wanted - free) / MIB:.1f} MiB are missing"
            )
    if lacking:
        raise StepFailed(f"{'; '.join(lacking)}. Remove old kernels in the source")


def _free_bytes(inspected: Inspected, place: str) -> int:
    """What root may fill: ext keeps blocks for it, and some that nobody may fill (ext4's s_resv_clusters)."""
    space = inspected.files.guest.statvfs(place)
    free = int(space["bavail"])
    if inspected.files.guest.vfs_type(inspected.mounts[place]) in EXT:
        free = max(free, int(space["bfree"]) - min(int(space["blocks"]) // 50, 4096))
    return free * int(space["bsize"])
