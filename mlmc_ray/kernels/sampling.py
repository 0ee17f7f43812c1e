"""Drawing entries at random: independently, systematically, or in proportion to their magnitudes.

A uniform number of entry j is a hash of a 64-bit seed and j (SplitMix64), so a draw is a function
of its seed alone and takes no memory.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

_STRIDE = np.uint64(0x9E3779B97F4A7C15)
_FIRST_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_SECOND_FACTOR = np.uint64(0x94D049BB133111EB)
_BLOCK_SIZE = 4096
_KEY_SHIFT = 19  # of the bits of a float32: 8 bits of exponent and 4 of mantissa are left
_NUM_KEYS = (0x7F800000 >> _KEY_SHIFT) + 1  # up to that of infinity


@compiled
def mixed(seed: int | np.uint64, counter: int) -> np.uint64:
    """Return 64 bits that look random (Steele, Lea, Flood, 2014: SplitMix64)."""
    bits = np.uint64(seed) + (np.uint64(counter) + np.uint64(1)) * _STRIDE
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST_FACTOR
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND_FACTOR
    return np.uint64(bits ^ (bits >> np.uint64(31)))


@compiled
def uniform(seed: int | np.uint64, counter: int) -> float:
    """Return a number of [0, 1), a multiple of 2^-53."""
    return np.float64(mixed(seed, counter) >> np.uint64(11)) * 2.0**-53


def bernoulli_subset(seed: int, dim: int, probability: float) -> npt.NDArray[np.int64]:
    """Return every j of ``range(dim)`` independently with the given probability, ascending.

    Args:
        seed: 0 to 2**63 - 1.
        dim: the size of the range.
        probability: 2**-32 to 1, met to within 2**-65.
    """
    last = np.uint64(round(probability * 2.0**64) - 1)
    places = np.empty(dim, dtype=np.int64)  # of which the system provides only what is touched
    return places[: _keep_below(seed, last, places)].copy()


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
    ends = np.zeros(-(-len(vector) // _BLOCK_SIZE))
    _sum_blocks(vector, ends)
    return ends.cumsum()


@compiled
def _sum_blocks(vector: npt.NDArray[Any], sums: npt.NDArray[np.float64]) -> None:
    for block in range(len(sums)):
        start, stop = block * _BLOCK_SIZE, min(len(vector), (block + 1) * _BLOCK_SIZE)
        first = second = third = fourth = 0.0  # four chains, as one waits for itself
        for j in range(start, stop - 3, 4):
            first += abs(np.float64(vector[j]))
            second += abs(np.float64(vector[j + 1]))
            third += abs(np.float64(vector[j + 2]))
            fourth += abs(np.float64(vector[j + 3]))
        for j in range(stop - (stop - start) % 4, stop):
            first += abs(np.float64(vector[j]))
        sums[block] = (first + second) + (third + fourth)


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
        for j in range(block * _BLOCK_SIZE, min(len(vector), (block + 1) * _BLOCK_SIZE)):
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


def full_magnitude(vector: npt.NDArray[Any], count: int) -> float:
    """Return the t at which the sum of min(1, |v_j| / t) is ``count``.

    It lies between two neighbours of the magnitudes that have 4 bits of mantissa: one pass
    counts and sums the entries between every two, and the few there are between those two are
    sorted.

    Args:
        vector: shape (d,), float32 or float64, with more than ``count`` entries that are not zero.
        count: at least 1.
    """
    counts, sums = np.zeros(_NUM_KEYS, dtype=np.int64), np.zeros(_NUM_KEYS)
    _sum_by_key(vector, counts, sums)
    at_least, below = counts[::-1].cumsum()[::-1], sums.cumsum() - sums
    floors = (np.arange(_NUM_KEYS, dtype=np.int32) << _KEY_SHIFT).view(np.float32).astype(float)
    # The sum of min(1, |v_j| / floor) falls as the floor rises; at 0 it is above any count.
    key = int(np.count_nonzero(at_least[1:] + below[1:] / floors[1:] >= count))
    places = np.empty(counts[key], dtype=np.int64)
    _find_key(vector, key, places)
    candidates = -np.sort(-np.abs(vector[places].astype(np.float64)))
    tails = sums[:key].sum() + np.append(candidates[::-1].cumsum()[::-1], 0.0)
    sure = int(at_least[key] - counts[key])
    for smaller, tail in zip(np.append(candidates, 0.0), tails, strict=True):
        full = float(tail / (count - sure))
        if smaller <= full:
            break
        sure += 1
    return full


@compiled
def _key(value: float) -> int:
    return int(np.float32(abs(value)).view(np.int32)) >> _KEY_SHIFT


@compiled
def _sum_by_key(
    vector: npt.NDArray[Any], counts: npt.NDArray[np.int64], sums: npt.NDArray[np.float64]
) -> None:
    for value in vector:
        key = _key(value)
        counts[key] += 1
        sums[key] += abs(np.float64(value))


@compiled
def _find_key(vector: npt.NDArray[Any], key: int, places: npt.NDArray[np.int64]) -> None:
    found = 0
    for j in range(len(vector)):
        if _key(vector[j]) == key:
            places[found] = j
            found += 1
