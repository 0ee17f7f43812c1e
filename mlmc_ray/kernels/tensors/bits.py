"""Digits and exponents of float32 numbers, read from their bits with tensor operations."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.digits import UNIT, counts_by_level
from mlmc_ray.kernels.exponents import BIAS, energies_of
from mlmc_ray.kernels.fraction_counts import FRACTION_BITS

_MAGNITUDE = 0x7FFFFFFF
_FRACTION = (1 << FRACTION_BITS) - 1
_ABSENT = FRACTION_BITS + 1  # the first bit that no mantissa has


def digit_counts(vector: Tensor, exponent: int) -> npt.NDArray[np.int64]:
    """Do what ``kernels.digits.digit_counts`` does; the counts are on the host."""
    return counts_by_level(_fraction_counts(vector), exponent)


def digit_positions(vector: Tensor, exponent: int, level: int) -> tuple[Tensor, Tensor]:
    """Do what ``kernels.digits.digit_positions`` does, on the device of the vector."""
    bits, fields = _fields(vector)
    mantissas = (bits & _FRACTION) | ((fields > 0).to(torch.int32) << FRACTION_BITS)
    shifts = exponent - level + UNIT - fields.clamp(min=1)
    there = (shifts >= 0) & (shifts < _ABSENT)
    digits = (mantissas >> shifts.clamp(0, _ABSENT)) & there
    positions = torch.nonzero(digits).flatten()
    return positions, bits[positions] < 0


def exponent_range(vector: Tensor) -> tuple[int, int]:
    """Do what ``kernels.exponents.exponent_range`` does."""
    bits, fields = _fields(vector)
    present = fields.clamp(min=1)[(bits & _MAGNITUDE) != 0]
    if not present.numel():
        return 0, 0
    low, high = torch.aminmax(present)
    return int(low) - BIAS, int(high) - BIAS


def exponent_codes(vector: Tensor, lowest: int, highest: int) -> Tensor:
    """Do what ``kernels.exponents.exponent_codes`` does, on the device of the vector."""
    bits, fields = _fields(vector)
    return _codes(bits, fields, fields > 0, lowest, highest)


def digit_codes(vector: Tensor, lowest: int, highest: int, digit: int) -> Tensor:
    """Do what ``kernels.exponents.digit_codes`` does, on the device of the vector."""
    bits, fields = _fields(vector)
    present = (bits >> (FRACTION_BITS - digit)) & 1 == 1
    return _codes(bits, fields, present, lowest, highest)


def digit_energies(vector: Tensor) -> npt.NDArray[np.float64]:
    """Do what ``kernels.exponents.digit_energies`` does; the energies are on the host."""
    return energies_of(_fraction_counts(vector))


def _codes(bits: Tensor, fields: Tensor, present: Tensor, lowest: int, highest: int) -> Tensor:
    codes = fields.clamp(min=1).sub_(lowest + BIAS - 1)
    signed = torch.where(bits < 0, -codes, codes) * present
    return signed.to(torch.int8 if highest - lowest < 127 else torch.int16)


def _fields(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bits of float32 numbers and their biased exponents, both int32."""
    bits = vector.contiguous().view(torch.int32)
    return bits, (bits >> FRACTION_BITS) & 0xFF


def _fraction_counts(vector: Tensor) -> npt.NDArray[np.int64]:
    """Do what ``kernels.fraction_counts.fraction_counts`` does."""
    bits, fields = _fields(vector)
    parts = (bits >> 15) & 0xFF, (bits >> 7) & 0xFF, bits & 0x7F
    counts = [torch.bincount(fields * 256 + part, minlength=1 << 16) for part in parts]
    return torch.stack([count.view(256, 256) for count in counts], dim=1).cpu().numpy()
