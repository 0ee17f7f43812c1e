"""Uniform random partitions that every machine draws alike from one seed.

The draw is part of the wire format, so it rests on integers and on float64 products and
comparisons, which IEEE 754 rounds alike everywhere.
"""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.sampling import mixed, uniform


def block_start(dim: int, num_blocks: int, block: int) -> int:
    """Return how many entries the blocks before ``block`` hold; the larger blocks come first."""
    return block * (dim // num_blocks) + min(block, dim % num_blocks)


def block_size(dim: int, num_blocks: int, block: int) -> int:
    """Return how many of ``dim`` entries ``block`` holds, rounded up in the first blocks."""
    return dim // num_blocks + (block < dim % num_blocks)


def random_block(seed: int, dim: int, num_blocks: int, block: int) -> npt.NDArray[np.int64]:
    """Return one block of a uniformly drawn partition of ``range(dim)``, ascending.

    The range is split into those of the first and of the second half of the blocks, and again,
    until one block is left: O(dim) work, and nothing is sorted.

    Args:
        seed: 0 to 2**64 - 1.
        dim: the size of the range, at least ``num_blocks``.
        num_blocks: how many blocks; their sizes differ by at most 1.
        block: which of them, from 0.

    Returns:
        int64, shape (block_size(dim, num_blocks, block),), strictly ascending.
    """
    members = np.empty(0, dtype=np.int64)  # stands for the whole range
    size, low, high, node = dim, 0, num_blocks, 1
    while high - low > 1:
        middle = (low + high) // 2
        start = block_start(dim, num_blocks, low)
        first_half = block_start(dim, num_blocks, middle) - start
        in_first = block < middle
        kept = np.empty(1 + (first_half if in_first else size - first_half), dtype=np.int64)
        _split(np.uint64(mixed(np.uint64(seed), node)), members, size, first_half, in_first, kept)
        members, size = kept[:-1], len(kept) - 1
        low, high, node = (low, middle, 2 * node) if in_first else (middle, high, 2 * node + 1)
    return members if num_blocks > 1 else np.arange(dim)


@compiled
def _split(
    seed: np.uint64,
    members: npt.NDArray[np.int64],
    size: int,
    wanted: int,
    in_first: bool,
    kept: npt.NDArray[np.int64],
) -> None:
    """Choose ``wanted`` of ``size`` members one after the other; keep them, or else the others.

    ``kept`` has one entry more than are kept, for what is written and then dropped.
    """
    taken = 0
    for i in range(size):
        # A product with a uniform number below 1 is below its factor, also rounded.
        draw = int(uniform(seed, i) * float(size - i))
        kept[taken if in_first else i - taken] = members[i] if len(members) else i
        taken += int(draw < wanted - taken)
