"""The magnitude from which on all entries are kept, so that as many as wanted are on average."""

from typing import Any

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

KEY_SHIFT = 19  # of the bits of a float32: 8 bits of exponent and 4 of mantissa are left
NUM_KEYS = (0x7F800000 >> KEY_SHIFT) + 1  # up to that of infinity

_Floats = npt.NDArray[np.float64]
_Counts = npt.NDArray[np.int64]


def full_magnitude(vector: npt.NDArray[Any], count: int) -> float:
    """Return the t at which the sum of min(1, |v_j| / t) is ``count``.

    It lies between two neighbours of the magnitudes that have 4 bits of mantissa: one pass
    counts and sums the entries between every two, and the few there are between those two are
    sorted. The sums of up to 2^29 float32 are exact, in whatever order.

    Args:
        vector: shape (d,), float32 or float64, with more than ``count`` entries that are not zero.
        count: at least 1.
    """
    counts, sums = np.zeros(NUM_KEYS, dtype=np.int64), np.zeros(NUM_KEYS)
    _sum_by_key(vector, counts, sums)
    key = deciding_key(counts, sums, count)
    places = np.empty(counts[key], dtype=np.int64)
    _find_key(vector, key, places)
    return threshold(counts, sums, key, np.abs(vector[places].astype(np.float64)), count)


def deciding_key(counts: _Counts, sums: _Floats, count: int) -> int:
    """Return the key of the magnitudes among which t is, from how many have each and their sums."""
    at_least, below = counts[::-1].cumsum()[::-1], sums.cumsum() - sums
    floors = (np.arange(NUM_KEYS, dtype=np.int32) << KEY_SHIFT).view(np.float32).astype(float)
    # The sum of min(1, |v_j| / floor) falls as the floor rises; at 0 it is above any count.
    return int(np.count_nonzero(at_least[1:] + below[1:] / floors[1:] >= count))


def threshold(counts: _Counts, sums: _Floats, key: int, candidates: _Floats, count: int) -> float:
    """Return t.

    Args:
        counts: how many magnitudes have each key.
        sums: of these magnitudes.
        key: of ``deciding_key``.
        candidates: the magnitudes of that key, in any order.
        count: of ``full_magnitude``.
    """
    candidates = -np.sort(-candidates)
    tails = sums[:key].sum() + np.append(candidates[::-1].cumsum()[::-1], 0.0)
    sure = int(counts[key + 1 :].sum())
    for smaller, tail in zip(np.append(candidates, 0.0), tails, strict=True):
        full = float(tail / (count - sure))
        if smaller <= full:
            break
        sure += 1
    return full


@compiled
def _key(value: float) -> int:
    return int(np.float32(abs(value)).view(np.int32)) >> KEY_SHIFT


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
