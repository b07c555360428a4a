"""What a verification has proved of a disk, as facts and as one sentence."""

from hyperctl.activities.export.ledger import Ledger
from hyperctl.activities.export.space import shown
from hyperctl.activities.verify.sample import damaged_blocks, miss_chance
from hyperctl.workflows.disk import LandedDisk, VerifiedDisk
from hyperctl.workflows.request import VerifyMode


def verified(
    disk: LandedDisk, ledger: Ledger, mode: VerifyMode, with_data: int, read: int, structure: str
) -> VerifiedDisk:
    """Of a disk of which `read` of the `with_data` blocks with data, and all others, were found right."""
    if read == with_data:
        what = f"all {shown(disk.capacity_bytes)} were read again and equal what was received, block by block"
    else:
        damage = damaged_blocks(with_data)
        block = shown(ledger.header.block_bytes)
        what = (
            f"{read} of {with_data} blocks of {block} were read again and equal what was received, and all "
            f"zeroes are; damage to {damage} blocks would be missed with a chance of "
            f"{_percent(miss_chance(with_data, damage, read))}, to a single one of "
            f"{_percent(miss_chance(with_data, 1, read))}"
        )
    source = (
        f"the stream it came from has the checksum that the source states ({disk.source_checksum})"
        if disk.source_checksum
        else "the source states no checksum of its own"
    )
    return VerifiedDisk(
        index=disk.index,
        source_name=disk.source_name,
        mode=mode,
        blocks=ledger.header.blocks,
        zero_blocks=ledger.header.blocks - with_data,
        blocks_read=read,
        structure=structure,
        digest_algorithm=disk.digest_algorithm,
        root_digest=disk.root_digest,
        source_checksum=disk.source_checksum,
        statement=(
            f"disk{disk.index} ({disk.source_name}): {what} ({disk.digest_algorithm}, root "
            f"{disk.root_digest}); {structure}: right; {source}"
        ),
    )


def _percent(chance: float) -> str:
    return f"{chance * 100:.2g} %" if chance >= 1e-6 else "less than 0.0001 %"
