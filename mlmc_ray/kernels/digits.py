"""The binary digits of the magnitudes of float32 numbers, read from their own representation.

|v_j| / 2^exponent = sum_l b_lj 2^-l with digits b_lj in {0, 1}. A float32 with biased exponent e
and 24-bit mantissa m is m 2^(max(e, 1) - 150), so its digit l is bit exponent - l + 150 - max(e, 1)
of m; the mantissa's highest bit is implicit: 1 unless e = 0.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.fraction_counts import FRACTION_BITS, bit_counts, fraction_counts

_Floats = npt.NDArray[np.float32]
_Bits = npt.NDArray[np.uint32]
_Positions = npt.NDArray[np.int64]

_MAGNITUDE = np.uint32(0x7FFFFFFF)
_FRACTION = np.uint32((1 << FRACTION_BITS) - 1)
UNIT = 150  # the last bit of a mantissa stands for 2^(max(e, 1) - 150)
_ONE, _ABSENT = np.uint32(1), np.uint32(24)
_CHUNK = 1024


def digit_counts(vector: _Floats, exponent: int) -> npt.NDArray[np.int64]:
    """Count, for every level l, the entries whose binary digit l of |v_j| / 2^exponent is 1.

    Args:
        vector: shape (d,), float32, finite; not modified.
        exponent: every magnitude is below 2^exponent.

    Returns:
        int64, shape (L,), with L the last digit of any entry; L is 0 for a vector of zeros. It is
        at most 24 more than the difference between ``exponent`` and the smallest entry's.

    Raises:
        ValueError: a magnitude is not below 2^exponent.
    """
    return counts_by_level(fraction_counts(_bits_of(vector)), exponent)


def counts_by_level(fractions: npt.NDArray[np.int64], exponent: int) -> npt.NDArray[np.int64]:
    """Return what ``digit_counts`` does.

    Args:
        fractions: of ``fraction_counts``.
        exponent: every magnitude is below 2^exponent.

    Raises:
        ValueError: a magnitude is not below 2^exponent.
    """
    by_place = _by_place(fractions)
    places = np.flatnonzero(by_place)
    if not len(places):
        return np.zeros(0, dtype=np.int64)
    # Place 0 stands for 2^(1 - 150), which is digit exponent + 149.
    first_level = exponent + UNIT - 1 - int(places[-1])
    if first_level < 1:
        raise ValueError(f"a magnitude is not below 2^{exponent}")
    counts = np.zeros(exponent + UNIT - 1 - int(places[0]), dtype=np.int64)
    counts[first_level - 1 :] = by_place[places[0] : places[-1] + 1][::-1]
    return counts


def digit_positions(
    vector: _Floats, exponent: int, level: int
) -> tuple[_Positions, npt.NDArray[np.bool_]]:
    """Return the entries whose binary digit ``level`` of |v_j| / 2^exponent is 1.

    Args:
        vector: shape (d,), float32, finite; not modified.
        exponent: every magnitude is below 2^exponent.
        level: 1 or more.

    Returns:
        Their positions, int64, ascending, and whether each of these entries is negative.
    """
    bits = _bits_of(vector)
    place = exponent - level + UNIT
    if not 0 < place < 1 << 31:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.bool_)
    found = np.empty(-(-len(bits) // _CHUNK), dtype=np.int64)
    _count_digit(bits, place, found)
    size = int(found.sum())
    positions, negative = np.empty(size + 1, dtype=np.int64), np.empty(size + 1, dtype=np.bool_)
    _collect_digit(bits, place, found, positions, negative)
    return positions[:size], negative[:size]


@compiled
def truncate(vector: npt.NDArray[Any], inverse_step: float, codes: npt.NDArray[Any]) -> None:
    """Set every code to its entry divided by the step, truncated towards zero.

    Args:
        vector: shape (d,), float32 or float64; not modified.
        inverse_step: 1 / step, a power of two, so that the division is exact.
        codes: shape (d,), integers wide enough; overwritten.
    """
    for j in range(len(vector)):
        codes[j] = np.int32(np.float64(vector[j]) * inverse_step)


def _by_place(fractions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Count the ones of all magnitudes at every place: place p stands for 2^(p - 149)."""
    by_place = np.zeros(256 + FRACTION_BITS, np.int64)
    present = np.flatnonzero(fractions[:, 0].any(axis=1))
    ones, entries = bit_counts(fractions[present]), fractions[present, 0].sum(axis=1)
    for row, e in enumerate(present.tolist()):
        first = max(e, 1) - 1
        by_place[first : first + FRACTION_BITS] += ones[row]
        by_place[first + FRACTION_BITS] += entries[row] if e > 0 else 0  # the implicit bit
    return by_place


def _bits_of(vector: _Floats) -> _Bits:
    bits: _Bits = np.ascontiguousarray(vector, dtype=np.float32).view(np.uint32)
    return bits


@compiled
def _digit(bits: np.uint32, place: np.uint32) -> np.uint32:
    """Return bit ``place - max(e, 1)`` of the mantissa, 0 where it has no such bit."""
    magnitude = np.uint32(bits & _MAGNITUDE)
    e = np.uint32(magnitude >> np.uint32(23))
    mantissa = np.uint32((magnitude & _FRACTION) | (np.uint32(e != 0) << np.uint32(23)))
    shift = np.uint32(place - max(e, _ONE))  # wraps around to a large number below 0
    return np.uint32((mantissa >> (shift & np.uint32(31))) & np.uint32(shift < _ABSENT))


@compiled
def _count_digit(bits: _Bits, place: int, found: npt.NDArray[np.int64]) -> None:
    """Count the digits that are 1 in every 1024 entries."""
    for c in range(found.size):
        chunk = bits[c * _CHUNK : (c + 1) * _CHUNK]
        ones = np.uint32(0)
        for j in range(chunk.size):
            ones += _digit(chunk[j], np.uint32(place))
        found[c] = ones


@compiled
def _collect_digit(
    bits: _Bits,
    place: int,
    found: npt.NDArray[np.int64],
    positions: _Positions,
    negative: npt.NDArray[np.bool_],
) -> None:
    """Write the positions and signs of the ones, from the chunks that have any.

    There is no branch: every position is written, and the next one over it unless it counts.
    """
    digits = np.empty(_CHUNK, np.uint8)
    total = np.int64(0)
    for c in range(found.size):
        if found[c] == 0:
            continue
        start = c * _CHUNK
        chunk = bits[start : start + _CHUNK]
        for j in range(chunk.size):
            digits[j] = _digit(chunk[j], np.uint32(place))
        these, signs, more = positions[total:], negative[total:], np.int64(0)  # faster from 0
        for j in range(chunk.size):
            these[more] = start + j
            signs[more] = chunk[j] > _MAGNITUDE
            more += np.int64(digits[j])
        total += more
