"""Uniform random subsets that every machine draws alike from one seed.

The draw is part of the wire format (a seeded sparse payload carries the seed instead of the
indices), so it rests on Philox's raw 64-bit output, which NumPy keeps stable for ever, and not on
the methods of ``numpy.random.Generator`` or on torch's generators, which may change between
releases.
"""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

_SPARSE = 1024  # values of the range for each one drawn, above which the draws are sorted
_CHUNK = 1 << 16  # draws at a time


def random_subset(seed: int, dim: int, size: int) -> npt.NDArray[np.int64]:
    """Return a uniformly drawn subset of ``range(dim)``, ascending.

    The first ``size`` distinct values of a stream of uniform draws are a uniform subset. For more
    than half of the range the complement is drawn instead, so the work is O(size).

    Args:
        seed: 0 to 2**64 - 1.
        dim: the size of the range, at least ``size``.
        size: how many values.

    Returns:
        int64, shape (size,), strictly ascending.
    """
    complement = 2 * size > dim
    drawn = dim - size if complement else size
    if drawn * _SPARSE < dim and not complement:
        return _sorted_draws(seed, dim, drawn)
    return _members(_marked_draws(seed, dim, drawn), dim, size, complement)


def _marked_draws(seed: int, dim: int, size: int) -> npt.NDArray[np.uint64]:
    """Draw until ``size`` distinct values have been seen; return a bit for every value."""
    stream, seen = np.random.Philox(key=seed), np.zeros(-(-dim // 64), dtype=np.uint64)
    left = size
    while left:
        left -= _mark(stream.random_raw(min(_CHUNK, left + left // 2 + 16)), dim, left, seen)
    return seen


@compiled
def _mark(raw: npt.NDArray[np.uint64], dim: int, wanted: int, seen: npt.NDArray[np.uint64]) -> int:
    """Set the bits of the first draws, at most ``wanted`` new ones; return how many were new."""
    span, one = np.uint64(dim), np.uint64(1)
    excess = (~np.uint64(0) % span + one) % span  # 2^64 modulo dim: the last draws' surplus
    limit, new = ~np.uint64(0) - excess, 0
    for draw in raw:
        if draw <= limit:  # those above would favour small values
            value = draw % span
            word, bit = value >> np.uint64(6), one << (value & np.uint64(63))
            if not seen[word] & bit:
                seen[word] |= bit
                new += 1
                if new == wanted:
                    break
    return new


@compiled
def _members(
    seen: npt.NDArray[np.uint64], dim: int, size: int, complement: bool
) -> npt.NDArray[np.int64]:
    """Return the ``size`` places below ``dim`` whose bits are 1, or 0 for the complement."""
    result, filled = np.empty(size + 1, dtype=np.int64), 0  # every place is written, and few stay
    flip = ~np.uint64(0) if complement else np.uint64(0)
    for index, word in enumerate(seen):
        bits = word ^ flip
        if bits:
            for place in range(64 * index, min(64 * index + 64, dim)):
                result[filled] = place
                filled += int(bits & np.uint64(1))
                bits >>= np.uint64(1)
    return result[:size]


def _sorted_draws(seed: int, dim: int, size: int) -> npt.NDArray[np.int64]:
    """Return the values that ``_marked_draws`` marks, in memory that does not grow with dim."""
    stream = np.random.Philox(key=seed)
    limit = np.uint64((1 << 64) // dim * dim - 1)  # draws above it would favour small values
    draws = np.empty(0, dtype=np.int64)
    while True:
        raw = stream.random_raw(size + size // 2 + 16)
        draws = np.concatenate([draws, (raw[raw <= limit] % np.uint64(dim)).astype(np.int64)])
        distinct, first_seen = np.unique(draws, return_index=True)
        if len(distinct) >= size:
            earliest = np.argpartition(first_seen, size - 1)[:size] if size else slice(0)
            return np.sort(distinct[earliest])
