"""What rounding by shared thresholds costs at a step: bits and error, from histograms alone.

With the thresholds known to the receiver, a group is sent or not according to its magnitude S and
to t = (1 - u) step, and an ideal code takes the binary entropy of the share of the layer's groups
with S >= t. That is a function of the layer's magnitudes alone, and so is the error of rounding.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

Floats = npt.NDArray[np.float64]
_SHIFT = 20  # leaves 8 bits of exponent and 3 of mantissa of a float32
_BINS = 1 << (31 - _SHIFT)
_EDGES = (np.arange(_BINS - 7, dtype=np.int32) << _SHIFT).view(np.float32).astype(np.float64)
"""Where bins begin: those of the finite float32, then infinity."""
_LEAST_NORMAL = 2.0**-126
_ROOTS = (np.arange(24) + 0.5) / 24
_HEIGHTS, _WEIGHTS = _ROOTS**2, 2 * _ROOTS / len(_ROOTS)
"""Heights 1 - u that stand for all, denser near 0, where small magnitudes are sent or not."""
_COUNTS = np.append(np.arange(8), 2.0 ** np.arange(3, 33))
"""The counts that a decision of its own tells from those below; between two, bits are raw."""
_ROUNDS = 22  # of halving the range of the step's logarithm
_OCTAVES = 40  # between the root mean square and the ends of the first range


def numbers_above(magnitudes: npt.NDArray[np.float32]) -> Floats:
    """Return how many magnitudes are at least as large as the beginning of every bin."""
    histogram = np.zeros(_BINS, dtype=np.int64)
    _count(magnitudes.view(np.int32), histogram)
    return histogram[::-1].cumsum()[::-1].astype(np.float64)[: len(_EDGES)]


def rounding_cost(above: Floats, step: float, bits: int) -> tuple[float, float]:
    """Return the bits of an ideal code and the error of rounding, averaged over the thresholds.

    Args:
        above: ``numbers_above`` of the magnitudes S of a layer's groups.
        step: positive.
        bits: of the direction of a group that is sent.

    Returns:
        the bits; and the sum of step^2 f (1 - f) over the groups, f being the fraction of S / step.
    """
    return _bits(above, step, bits), step**2 * _variance(above, step)


def step_of(falling: Callable[[float], float], wanted: float, rms: float) -> tuple[float, float]:
    """Return steps next to each other between which a function passes a value.

    Args:
        falling: of the step; it falls, or about.
        wanted: the value.
        rms: the root mean square of the entries, where the search begins.

    Returns:
        the last step at which it is above, and the first at which it is not; the ends of the range,
        2^-40 and 2^40 times ``rms``, where it is nowhere above, or everywhere.
    """
    low, high = math.log2(rms) - _OCTAVES, math.log2(rms) + _OCTAVES
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if falling(2.0**middle) > wanted:
            low = middle
        else:
            high = middle
    return 2.0**low, 2.0**high


@cache
def inverse_square_cosine(n: int, bits: int) -> float:
    """Return E[1 / c^2] for the largest c = <x, y> / |x| of 2^bits independent random directions y.

    In n dimensions a cosine has the density proportional to (1 - c^2)^((n - 3) / 2); the largest
    magnitude of half as many has the distribution function F^(2^(bits - 1)) of magnitudes.
    """
    if n == 1:
        return 1.0
    angles = (np.arange(1 << 14) + 0.5) * (math.pi / 2 / (1 << 14))  # c = cos(angle)
    density = np.sin(angles) ** (n - 2)
    beyond = np.cumsum(density) / density.sum()  # the share of directions with a smaller angle
    largest = (1 - beyond) ** (1 << (bits - 1))
    weights = -np.diff(largest, prepend=1.0)
    return float(weights @ np.cos(angles) ** -2)


@compiled
def _count(patterns: npt.NDArray[np.int32], histogram: npt.NDArray[np.int64]) -> None:
    for pattern in patterns:
        histogram[(pattern & 0x7FFFFFFF) >> _SHIFT] += 1


@compiled
def _number_above(above: Floats, limit: float) -> float:
    """Return about how many magnitudes are at least ``limit``, linearly within a bin."""
    if limit < _LEAST_NORMAL:
        place = limit / _LEAST_NORMAL * 8
    else:
        mantissa, exponent = math.frexp(limit)
        place = (exponent + 125 + 2 * mantissa) * 8
    if place >= len(above) - 1:
        return 0.0
    bin_ = int(place)
    share = place - bin_
    return float(above[bin_] * (1 - share) + above[bin_ + 1] * share)


@compiled
def _entropy(part: float, whole: float) -> float:
    """Return the bits that say which ``part`` of ``whole`` decisions are positive."""
    rest = whole - part
    if part <= 0 or rest <= 0:
        return 0.0
    return part * math.log2(whole / part) + rest * math.log2(whole / rest)


@compiled
def _bits(above: Floats, step: float, bits: int) -> float:
    total = 0.0
    for i in range(len(_HEIGHTS)):
        asked = above[0]
        cost = 0.0
        for j in range(len(_COUNTS)):
            reached = _number_above(above, step * (_HEIGHTS[i] + _COUNTS[j]))
            cost += _entropy(reached, asked)
            if j == 0:
                cost += bits * reached
            else:
                cost += (asked - reached) * math.log2(_COUNTS[j] - _COUNTS[j - 1])
            if reached <= 0:
                break
            asked = reached
        total += _WEIGHTS[i] * cost
    return total


@compiled
def _variance(above: Floats, step: float) -> float:
    """Return the sum of f (1 - f), magnitudes being spread evenly within their bins."""
    total = 0.0
    for b in range(len(above) - 1):
        number = above[b] - above[b + 1]
        if number > 0:
            low, high = _EDGES[b] / step, _EDGES[b + 1] / step
            if not high < 1e12:  # hence evenly spread fractions
                total += number / 6
            else:
                total += number * (_integral(high) - _integral(low)) / (high - low)
    return total


@compiled
def _integral(x: float) -> float:
    """Return the integral of f (1 - f) from 0 to x, f being the fraction."""
    whole = math.floor(x)
    f = x - whole
    return whole / 6 + f * f / 2 - f * f * f / 3
