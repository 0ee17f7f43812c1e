"""One uniform number for every block, evenly spread over the blocks and over the workers.

The number of block b for worker i is (place(b) / num_blocks + turn(i) / num_workers + U) mod 1, of
a permutation of the blocks, one of the workers and a uniform U that they all share. Whatever the
permutations are, every number is uniform; those of a worker are evenly spaced, and so are those of
a block. All is integers in units of 2**-64, so that every machine draws the same. Workers take
turns by rising hashes, no two of which are equal, so that a turn is counted and takes no memory.

References:
    Cranley and Patterson, "Randomization of number theoretic methods for multiple integration",
    1976, for the offset. Durstenfeld, "Algorithm 235: random permutation", 1964.
"""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.splitmix import UNIT, random_bits

_MAX = 1 << 32
_OFFSET, _BLOCKS, _WORKERS = 1, 2, 3  # what the three hashes of the seed are for
_S11, _S32 = np.uint64(11), np.uint64(32)


def shared_uniform(
    seed: int, num_blocks: int, *, worker_id: int = 0, num_workers: int = 1
) -> npt.NDArray[np.float64]:
    """Return a number of [0, 1) for every block of a worker, shape (num_blocks,).

    Each is uniform on the multiples of 2**-53, over the seeds. The numbers of a worker are 1 /
    num_blocks apart, and those of all workers for a block 1 / num_workers apart, to within 2**-30.

    Args:
        seed: 0 to 2**63 - 1, the same for all workers.
        num_blocks: 1 to 2**32.
        worker_id: 0 to ``num_workers - 1``.
        num_workers: 1 to 2**32.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 <= seed < 1 << 63:
        raise ValueError(f"seed: expected 0 to 2**63 - 1, got {seed}")
    if not 1 <= num_blocks <= _MAX:
        raise ValueError(f"num_blocks: expected 1 to 2**32, got {num_blocks}")
    if not 0 <= worker_id < num_workers <= _MAX:
        raise ValueError(
            f"expected 0 <= worker_id < num_workers <= 2**32, got {worker_id} and {num_workers}"
        )
    spacing = np.uint64((1 << 64) // num_workers % (1 << 64))
    return _drawn(np.uint64(seed), num_blocks, worker_id, num_workers, spacing)


@compiled
def falling_order(uniforms: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the blocks by falling numbers, shape (num_blocks,), in linear time.

    Args:
        uniforms: of a worker, as ``shared_uniform`` returns them for at most 2**31 blocks; not
            modified.
    """
    blocks, least = len(uniforms), uniforms.min()
    order = np.empty(blocks, dtype=np.int64)
    for b in range(blocks):
        rank = np.int64((uniforms[b] - least) * blocks + 0.5)  # off by less than 0.3 before
        order[blocks - 1 - rank] = b
    return order


def permutation(key: int, size: int) -> npt.NDArray[np.int64]:
    """Return the numbers below ``size``, 1 to 2**32, in an order that looks random.

    Args:
        key: 0 to 2**64 - 1; the order depends on it and on the size alone.
        size: how many.
    """
    numbers = np.arange(size, dtype=np.int64)
    _shuffle(np.uint64(key), numbers)
    return numbers


@compiled
def _drawn(
    seed: np.uint64, num_blocks: int, worker_id: int, num_workers: int, spacing: np.uint64
) -> npt.NDArray[np.float64]:
    key = random_bits(seed, 0)
    places = np.arange(num_blocks)
    _shuffle(random_bits(key, _BLOCKS), places)
    turn = _turn(random_bits(key, _WORKERS), worker_id, num_workers)
    return _spread(places, random_bits(key, _OFFSET) + np.uint64(turn) * spacing)


@compiled
def _turn(key: np.uint64, worker_id: int, num_workers: int) -> int:
    """Return how many workers have a lesser hash; a hash is one to one, so no two are equal."""
    own = random_bits(key, worker_id + 1)
    turn = 0
    for i in range(num_workers):
        turn += int(random_bits(key, i + 1) < own)
    return turn


@compiled
def _shuffle(key: np.uint64, numbers: npt.NDArray[np.int64]) -> None:
    """Exchange every number, from the last on, with one that is not behind it."""
    for i in range(len(numbers) - 1, 0, -1):
        j = np.int64((random_bits(key, i) >> _S32) * np.uint64(i + 1) >> _S32)
        numbers[i], numbers[j] = numbers[j], numbers[i]


@compiled
def _spread(places: npt.NDArray[np.int64], offset: np.uint64) -> npt.NDArray[np.float64]:
    """Return (place / number of places + offset / 2**64) mod 1 for every place."""
    blocks = np.uint64(len(places))
    # 2**64 // blocks: of the largest number, which is less than 2**64 only by 1
    spacing = np.uint64(0xFFFFFFFFFFFFFFFF) // blocks
    result = np.empty(len(places))
    for b in range(len(places)):
        bits = np.uint64(places[b]) * spacing + offset
        result[b] = np.float64(np.int64(bits >> _S11)) * UNIT
    return result
