"""Drawing entries at random: independently, systematically, or in proportion to their magnitudes.

A uniform number of entry j is a hash of a 64-bit seed and j (``kernels.splitmix``), so a draw is a
function of its seed alone and takes no memory.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.splitmix import random_bits, uniform_of
from mlmc_ray.kernels.sums import segment_magnitudes

BLOCK_SIZE = 4096


@compiled
def mixed(seed: int | np.uint64, counter: int) -> np.uint64:
    """Return 64 bits that look random; the counter 0 has those of the hash's counter 1."""
    return random_bits(np.uint64(seed), counter + 1)


@compiled
def uniform(seed: int | np.uint64, counter: int) -> float:
    """Return a number of [0, 1), a multiple of 2^-53."""
    return uniform_of(mixed(seed, counter))


def bernoulli_subset(seed: int, dim: int, probability: float) -> npt.NDArray[np.int64]:
    """Return every j of ``range(dim)`` independently with the given probability, ascending.

    Args:
        seed: 0 to 2**63 - 1.
        dim: the size of the range.
        probability: 2**-32 to 1, met to within 2**-65.
    """
    last = np.uint64(last_kept(probability))
    places = np.empty(dim, dtype=np.int64)  # of which the system provides only what is touched
    return places[: _keep_below(seed, last, places)].copy()


def last_kept(probability: float) -> int:
    """Return the largest 64-bit number that keeps an entry of a given probability."""
    return round(probability * 2.0**64) - 1


@compiled
def _keep_below(seed: int, last: np.uint64, places: npt.NDArray[np.int64]) -> int:
    count = 0
    for j in range(len(places)):
        places[count] = j
        count += int(mixed(seed, j) <= last)
    return count


def bernoulli_in_proportion(
    vector: npt.NDArray[Any], full: float, seed: int
) -> npt.NDArray[np.int64]:
    """Return every j independently with probability min(1, |v_j| / full), ascending.

    Args:
        vector: shape (d,), float32 or float64.
        full: the magnitude that is sure to be drawn, above 0.
        seed: 0 to 2**63 - 1.
    """
    places = np.empty(len(vector), dtype=np.int64)
    return places[: _keep_in_proportion(vector, full, seed, places)].copy()


@compiled
def _keep_in_proportion(
    vector: npt.NDArray[Any], full: float, seed: int, places: npt.NDArray[np.int64]
) -> int:
    count = 0
    for j in range(len(vector)):
        places[count] = j
        count += int(uniform(seed, j) * full < abs(np.float64(vector[j])))
    return count


def systematic_in_proportion(
    vector: npt.NDArray[Any], full: float, start: float
) -> npt.NDArray[np.int64]:
    """Return every j with probability min(1, |v_j| / full), as many of them in every draw.

    Entries below ``full`` are laid end to end, and those that hold a multiple of ``full``, all
    shifted by ``start``, are drawn: their number is the sum of the probabilities, rounded up or
    down.

    Args:
        vector: shape (d,), float32 or float64.
        full: the magnitude that is sure to be drawn, above 0.
        start: uniform on [0, 1).
    """
    places = np.empty(len(vector), dtype=np.int64)
    return places[: _keep_systematically(vector, full, start, places)].copy()


@compiled
def _keep_systematically(
    vector: npt.NDArray[Any], full: float, start: float, places: npt.NDArray[np.int64]
) -> int:
    count, since_last = 0, start * full
    for j in range(len(vector)):
        magnitude = abs(np.float64(vector[j]))
        places[count] = j
        if magnitude >= full:
            count += 1
            continue
        since_last += magnitude
        if since_last >= full:  # then the difference is exact: both are within a factor of 2
            since_last -= full
            count += 1
    return count


def block_ends(vector: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the sums of |v_j| up to the end of every block of 4096; the last is the 1-norm."""
    return segment_magnitudes(torch.from_numpy(vector), BLOCK_SIZE).numpy().cumsum()


def find_in_proportion(
    vector: npt.NDArray[Any], ends: npt.NDArray[np.float64], points: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Return the entries that points fall on when all |v_j| are laid end to end, ascending.

    Args:
        vector: shape (d,), float32 or float64.
        ends: its ``block_ends``.
        points: non-negative and ascending; those beyond the last end fall on none.
    """
    places = np.empty(int(np.searchsorted(points, ends[-1], side="left")), dtype=np.int64)
    _find(vector, ends, points, places)
    return places


@compiled
def _find(
    vector: npt.NDArray[Any],
    ends: npt.NDArray[np.float64],
    points: npt.NDArray[np.float64],
    places: npt.NDArray[np.int64],
) -> None:
    found = 0
    for block in range(len(ends)):
        start = ends[block - 1] if block else 0.0
        reached, last = 0.0, 0
        for j in range(block * BLOCK_SIZE, min(len(vector), (block + 1) * BLOCK_SIZE)):
            if found == len(places) or points[found] >= ends[block]:
                break
            if vector[j] == 0:
                continue
            reached += abs(np.float64(vector[j]))
            last = j
            while found < len(places) and points[found] - start < reached:
                places[found] = j
                found += 1
        while found < len(places) and points[found] < ends[block]:
            places[found] = last  # the sum was rounded otherwise
            found += 1
