"""Uniform random subsets that every machine draws alike from one seed.

The draw is part of the wire format (a seeded sparse payload carries the seed instead of the
indices), so it rests on Philox's raw 64-bit output, which NumPy keeps stable for ever, and not on
the methods of ``numpy.random.Generator`` or on torch's generators, which may change between
releases.
"""

import numpy as np
import numpy.typing as npt


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
    if 2 * size <= dim:
        return _first_distinct(seed, dim, size)
    kept = np.ones(dim, dtype=bool)
    kept[_first_distinct(seed, dim, dim - size)] = False
    return np.flatnonzero(kept)


def _first_distinct(seed: int, dim: int, size: int) -> npt.NDArray[np.int64]:
    """Draw until ``size`` distinct values have been seen; return them in ascending order."""
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
