"""The step at which rounding by shared thresholds takes a wanted number of bits.

With the thresholds known to the receiver, a group is sent or not according to its magnitude S and
to t = (1 - u) step, and an ideal code takes the binary entropy of the share of the layer's groups
with S >= t. That is a function of the layer's magnitudes alone, of which a histogram is enough.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

_Floats = npt.NDArray[np.float64]
_SHIFT = 20  # leaves 8 bits of exponent and 3 of mantissa of a float32
_BINS = 1 << (31 - _SHIFT)
_POINTS = 32  # of u
_COUNTS = np.append(np.arange(8), 2.0 ** np.arange(3, 20))
"""The counts that a decision of its own tells from those below; between two, bits are raw."""
_ROUNDS = 20  # of halving the range of the step's logarithm
_OCTAVES = 16  # between the root mean square and the ends of the first range
_EDGES = (np.arange(_BINS - 7, dtype=np.int32) << _SHIFT).view(np.float32).astype(np.float64)
"""Where bins begin: those of the finite float32, then infinity."""


def numbers_above(magnitudes: npt.NDArray[np.float32]) -> _Floats:
    """Return how many magnitudes are at least as large as the beginning of every bin."""
    histogram = np.zeros(_BINS, dtype=np.int64)
    _count(magnitudes.view(np.int32), histogram)
    return histogram[::-1].cumsum()[::-1].astype(np.float64)[: len(_EDGES)]


def expected_bits(layers: Iterable[tuple[_Floats, int]], step: float) -> float:
    """Return the bits that an ideal code takes, averaged over the thresholds.

    Args:
        layers: of each ``numbers_above`` of its magnitudes S, and the bits of a direction.
        step: positive.
    """
    heights = (np.arange(_POINTS) + 0.5) / _POINTS
    limits = step * (heights[:, None] + _COUNTS)
    bins = np.searchsorted(_EDGES, limits, side="right") - 1
    bins = np.minimum(bins, len(_EDGES) - 2)
    share = np.clip((limits - _EDGES[bins]) / (_EDGES[bins + 1] - _EDGES[bins]), 0, 1)
    total = 0.0
    for above, bits in layers:
        reached = above[bins] * (1 - share) + above[bins + 1] * share
        asked = np.concatenate([np.full((_POINTS, 1), above[0]), reached[:, :-1]], axis=1)
        cost = _entropy(reached, asked).sum(axis=1) + bits * reached[:, 0]
        between = reached[:, :-1] - reached[:, 1:]
        total += float((cost + between @ np.log2(np.diff(_COUNTS))).mean())
    return total


def step_of(expected: Callable[[float], float], wanted: float, rms: float) -> float:
    """Return the step at which as many bits are expected as wanted, or as near as it gets.

    Args:
        expected: bits at a step; they fall with it.
        wanted: how many.
        rms: the root mean square of the entries, where the search begins.
    """
    low, high = math.log2(rms) - _OCTAVES, math.log2(rms) + _OCTAVES
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if expected(2.0**middle) > wanted:
            low = middle
        else:
            high = middle
    return float(2.0**high)


def _entropy(part: _Floats, whole: _Floats) -> _Floats:
    """Return the bits that say which ``part`` of ``whole`` decisions are positive."""
    rest = whole - part
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(part > 0, part * np.log2(whole / part), 0)
        second = np.where(rest > 0, rest * np.log2(whole / rest), 0)
    return np.asarray(first + second)


@compiled
def _count(patterns: npt.NDArray[np.int32], histogram: npt.NDArray[np.int64]) -> None:
    for pattern in patterns:
        histogram[(pattern & 0x7FFFFFFF) >> _SHIFT] += 1
