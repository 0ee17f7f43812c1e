"""Rounding groups of entries by thresholds that blocks of them share: the loops over the vector.

A layer of k entries is cut into ceil(k / n) groups of n, the last padded with zeros. Interleaved,
group g has the entries g, g + G, g + 2 G and so on, G being the number of groups; contiguous, it
has those from n g on.
"""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_ROUNDING = 1e-12  # by which a quotient may be above the exact one


def rounded_entries(
    values: npt.NDArray[np.floating], step: float, uniforms: Floats, block: int, interleaved: bool
) -> tuple[Ints, Floats]:
    """Return the entries with floor(|v| / step + u) above 0, and that count with the entry's sign.

    Args:
        values: shape (k,), one layer; not modified.
        step: positive.
        uniforms: u of every block.
        block: entries a block, where blocks are contiguous.
        interleaved: entry j is in block j modulo the number of blocks, not in block j // block.
    """
    lowest = (1 - uniforms) * step * (1 - _ROUNDING)
    size = 1 if interleaved else block
    room = _count_above(values, lowest, size)
    places, counts = np.empty(room, dtype=np.int64), np.empty(room)
    number = _round_above(values, step, uniforms, lowest, size, places, counts)
    return places[:number], counts[:number]


@compiled
def _count_above(values: npt.NDArray[np.floating], lowest: Floats, size: int) -> int:
    number, period = 0, size * len(lowest)
    for start in range(0, len(values), period):
        for j in range(min(period, len(values) - start)):
            number += abs(values[start + j]) >= lowest[j // size if size > 1 else j]
    return number


@compiled
def _round_above(
    values: npt.NDArray[np.floating],
    step: float,
    uniforms: Floats,
    lowest: Floats,
    size: int,
    places: Ints,
    counts: Floats,
) -> int:
    number, period = 0, size * len(lowest)
    for start in range(0, len(values), period):
        for j in range(min(period, len(values) - start)):
            b = j // size if size > 1 else j
            value = values[start + j]
            if abs(value) >= lowest[b]:
                count = np.floor(abs(np.float64(value)) / step + uniforms[b])
                if count > 0:
                    places[number] = start + j
                    counts[number] = count if value > 0 else -count
                    number += 1
    return number


@compiled
def group_squares(
    values: npt.NDArray[np.floating], size: int, num_groups: int, interleaved: bool
) -> Floats:
    """Return the sum of squares of every group, shape (num_groups,)."""
    squares = np.zeros(num_groups)
    if interleaved:
        for start in range(0, len(values), num_groups):
            for g in range(min(num_groups, len(values) - start)):
                squares[g] += np.float64(values[start + g]) ** 2
    else:
        for j in range(len(values)):
            squares[j // size] += np.float64(values[j]) ** 2
    return squares


@compiled
def group_entries(
    values: npt.NDArray[np.floating], groups: Ints, size: int, num_groups: int, interleaved: bool
) -> Floats:
    """Return the entries of some groups, shape (number of groups, size)."""
    entries = np.zeros((len(groups), size))
    for i in range(len(groups)):
        for j in range(size):
            place = groups[i] + j * num_groups if interleaved else groups[i] * size + j
            if place < len(values):
                entries[i, j] = values[place]
    return entries
