"""Signs, exponents and fraction digits of float32 numbers, read from their own representation.

A float32 with biased exponent e > 0 and fraction bits m_1 ... m_23 is 2^(e-127) (1 + sum m_r 2^-r);
with e = 0 it is 2^-126 sum m_r 2^-r. So digit r always stands for 2^(max(e, 1) - 127 - r).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.fraction_counts import FRACTION_BITS, bit_counts, fraction_counts

BIAS = 127
_MAGNITUDE = np.uint32(0x7FFFFFFF)

_Floats = npt.NDArray[np.float32]
_Bits = npt.NDArray[np.uint32]


def exponent_range(vector: _Floats) -> tuple[int, int]:
    """Return the smallest and largest exponent of the entries that are not zero; (0, 0) if none.

    Subnormal entries count as -126, what their digits are relative to.
    """
    low, high = (int(end) for end in _extremes(_bits_of(vector)))
    return (low - BIAS, high - BIAS) if low <= high else (0, 0)


def exponent_codes(vector: _Floats, lowest: int, highest: int) -> npt.NDArray[Any]:
    """Return sgn(v_j) (e_j - lowest + 1) for every entry with an implicit leading 1, else 0.

    Args:
        vector: shape (d,), float32, finite; not modified.
        lowest: of ``exponent_range``.
        highest: of ``exponent_range``.

    Returns:
        shape (d,), int8 or int16.
    """
    return _codes(vector, lowest, highest, -1)


def digit_codes(vector: _Floats, lowest: int, highest: int, digit: int) -> npt.NDArray[Any]:
    """Return sgn(v_j) (e_j - lowest + 1) for every entry whose fraction digit is 1, else 0.

    Args:
        vector: shape (d,), float32, finite; not modified.
        lowest: of ``exponent_range``.
        highest: of ``exponent_range``.
        digit: 1 to 23.

    Returns:
        shape (d,), int8 or int16.
    """
    return _codes(vector, lowest, highest, FRACTION_BITS - digit)


def digit_energies(vector: _Floats) -> npt.NDArray[np.float64]:
    """Return the sum of (2^(e_j - r) m_rj)^2 over the entries, for digits r = 1 to 23."""
    return energies_of(fraction_counts(_bits_of(vector)))


def energies_of(fractions: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return what ``digit_energies`` does, from the counts of ``fraction_counts``."""
    by_digit = bit_counts(fractions)[:, ::-1].astype(np.float64)
    exponents = np.maximum(np.arange(256), 1) - BIAS
    digits = np.arange(1, FRACTION_BITS + 1)
    energies: npt.NDArray[np.float64] = 4.0**exponents @ by_digit * 4.0**-digits
    return energies


def _codes(vector: _Floats, lowest: int, highest: int, place: int) -> npt.NDArray[Any]:
    bits = _bits_of(vector)
    codes = np.empty(bits.size, np.int8 if highest - lowest < 127 else np.int16)
    _write_codes(bits, lowest + BIAS - 1, place, codes)
    return codes


def _bits_of(vector: _Floats) -> _Bits:
    bits: _Bits = np.ascontiguousarray(vector, dtype=np.float32).view(np.uint32)
    return bits


@compiled
def _extremes(bits: _Bits) -> tuple[np.uint32, np.uint32]:
    low, high = np.uint32(255), np.uint32(0)
    for j in range(bits.size):
        magnitude = bits[j] & _MAGNITUDE
        e = max(magnitude >> np.uint32(23), np.uint32(1))
        low = min(low, e if magnitude else np.uint32(255))
        high = max(high, e if magnitude else np.uint32(0))
    return low, high


@compiled
def _write_codes(bits: _Bits, below: int, place: int, codes: npt.NDArray[Any]) -> None:
    """Write sgn (max(e, 1) - below) where the bit at ``place`` is 1, the implicit one for -1."""
    shift = np.uint32(max(place, 0))
    implicit = place < 0
    for j in range(bits.size):
        e = np.int32((bits[j] & _MAGNITUDE) >> np.uint32(23))
        present = e > 0 if implicit else ((bits[j] >> shift) & np.uint32(1)) == 1
        code = max(e, np.int32(1)) - np.int32(below)
        signed = -code if bits[j] > _MAGNITUDE else code
        codes[j] = signed if present else 0
