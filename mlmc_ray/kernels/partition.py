"""Uniform random partitions that every machine draws alike from one seed.

The draw is part of the wire format, so it rests on integers and on float64 products and
comparisons, which IEEE 754 rounds alike everywhere.
"""

from functools import lru_cache
from threading import Lock
from typing import Any

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

    The first block of a partition takes O(dim) work, all of them together O(dim log(num_blocks)).
    The two latest partitions are kept for that, at 4 dim bytes each (8 dim from dim = 2^31).

    Args:
        seed: 0 to 2**64 - 1.
        dim: the size of the range, at least ``num_blocks``.
        num_blocks: how many blocks; their sizes differ by at most 1.
        block: which of them, from 0.

    Returns:
        int64, shape (block_size(dim, num_blocks, block),), strictly ascending, the caller's own.
    """
    if num_blocks == 1:
        return np.arange(dim)
    return _partition(seed, dim, num_blocks).block(block)


class _Partition:
    """A partition, drawn only as far as its blocks were asked for.

    The range is split into those of the first and of the second half of the blocks, and again,
    until one block is left; nothing is sorted. What was split is forgotten, so that every member
    is kept once.
    """

    def __init__(self, seed: int, dim: int, num_blocks: int) -> None:
        self._seed, self._dim, self._num_blocks = seed, dim, num_blocks
        everything = np.arange(dim, dtype=np.int32 if dim < 1 << 31 else np.int64)
        self._members: dict[int, npt.NDArray[Any]] = {1: everything}  # by node
        self._lock = Lock()

    def block(self, block: int) -> npt.NDArray[np.int64]:
        """Return the members of a block, ascending, in a new array."""
        low, high, node = 0, self._num_blocks, 1
        with self._lock:
            while high - low > 1:
                middle = (low + high) // 2
                if node in self._members:
                    self._halve(node, low, middle)
                if block < middle:
                    high, node = middle, 2 * node
                else:
                    low, node = middle, 2 * node + 1
            return self._members[node].astype(np.int64)

    def _halve(self, node: int, low: int, middle: int) -> None:
        """Replace the members of a node, whose blocks start with ``low``, by those of its halves.

        The second half starts with block ``middle``.
        """
        members = self._members.pop(node)
        dim, number = self._dim, self._num_blocks
        wanted = block_start(dim, number, middle) - block_start(dim, number, low)
        first = np.empty(wanted + 1, dtype=members.dtype)
        second = np.empty(len(members) - wanted + 1, dtype=members.dtype)
        _split(np.uint64(mixed(np.uint64(self._seed), node)), members, wanted, first, second)
        self._members[2 * node], self._members[2 * node + 1] = first[:-1], second[:-1]


@lru_cache(maxsize=2)
def _partition(seed: int, dim: int, num_blocks: int) -> _Partition:
    return _Partition(seed, dim, num_blocks)


@compiled
def _split(
    seed: np.uint64,
    members: npt.NDArray[Any],
    wanted: int,
    first: npt.NDArray[Any],
    second: npt.NDArray[Any],
) -> None:
    """Choose ``wanted`` of the members, one after the other, for the first half.

    Both halves have one entry more than they hold, for what is written and then overwritten.
    """
    taken = 0
    size = len(members)
    for i in range(size):
        # A product with a uniform number below 1 is below its factor, also rounded.
        draw = int(uniform(seed, i) * float(size - i))
        first[taken] = members[i]
        second[i - taken] = members[i]
        taken += int(draw < wanted - taken)
