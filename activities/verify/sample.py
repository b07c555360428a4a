"""How many blocks to read so that damage is found, and how probably it would be missed. Pure."""

import math
import random
from collections.abc import Sequence

DAMAGED_SHARE = 0.01
"""Damage of this share of a disk's data is what a sample must find."""
MISS_CHANCE = 0.001
"""No more often than this may it miss it."""


def miss_chance(blocks: int, damaged: int, read: int) -> float:
    """How probably a random sample of so many blocks holds none of the damaged ones.

    The hypergeometric distribution at 0: C(blocks - damaged, read) / C(blocks, read).
    """
    if damaged <= 0:
        return 1.0
    if read > blocks - damaged:
        return 0.0
    return math.exp(_log_choose(blocks - damaged, read) - _log_choose(blocks, read))


def damaged_blocks(blocks: int) -> int:
    """The damage that a sample of so many blocks is made for."""
    return max(1, math.ceil(blocks * DAMAGED_SHARE))


def sample_size(blocks: int) -> int:
    """The smallest sample that is good enough; all blocks where there are few."""
    low, high = 0, blocks
    while low < high:
        middle = (low + high) // 2
        if miss_chance(blocks, damaged_blocks(blocks), middle) <= MISS_CHANCE:
            high = middle
        else:
            low = middle + 1
    return low


def choose(blocks: Sequence[int], source: random.Random) -> list[int]:
    """A random sample of these blocks, in ascending order, with the first and the last."""
    if not blocks:
        return []
    return sorted({blocks[0], blocks[-1], *source.sample(blocks, sample_size(len(blocks)))})


def _log_choose(total: int, taken: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(taken + 1) - math.lgamma(total - taken + 1)
