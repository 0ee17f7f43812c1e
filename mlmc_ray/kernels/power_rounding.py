"""Rounding vectors to the points of a growing grid, such as the powers of a base.

A stochastic rounding takes one seed; entry j uses bits that are a hash of the seed and j.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.device import array_of, on_cpu
from mlmc_ray.kernels.splitmix import random_bits, uniform_of
from mlmc_ray.kernels.tensors import rounding as tensors
from mlmc_ray.kernels.tensors.rounding import code_dtype

_Array = npt.NDArray[Any]


def geometric_codes(vector: Tensor, points: npt.NDArray[np.float64], seed: int | None) -> Tensor:
    """Round every |v_j| to 0 or a point, stochastically or to the nearest, with v_j's sign.

    Args:
        vector: shape (d,), finite, any float dtype, any device; not modified.
        points: ascending and positive; larger magnitudes are cut to the last.
        seed: 0 to 2**64 - 1; None for the nearest, the lower on ties.

    Returns:
        0, or plus or minus one more than the position of the point, in the smallest of int8, int16
        and int32 that holds them, on the vector's device.
    """
    if not on_cpu(vector):
        return tensors.geometric_codes(vector, points, seed)
    array = array_of(vector)
    wide = array.dtype == np.float64
    mantissa_bits, bias, num_exponents = (52, 1023, 2048) if wide else (23, 127, 256)
    starts = np.empty(num_exponents + 1, dtype=np.int64)
    octaves = np.ldexp(1.0, np.arange(num_exponents - 1) - bias)
    starts[:-2] = np.searchsorted(points, octaves, side="right")
    starts[0], starts[-2:] = 0, len(points)
    codes = torch.empty(len(array), dtype=code_dtype(len(points)))
    draw = np.uint64(0 if seed is None else seed)
    bits = array.view(np.int64 if wide else np.int32)
    _geometric(array, bits, mantissa_bits, points, starts, draw, seed is None, codes.numpy())
    return codes


def natural_codes(vector: Tensor, smallest: float, largest: float, seed: int) -> tuple[Tensor, int]:
    """Round float32 magnitudes stochastically to powers of two, by their bits.

    With exponent field E and mantissa field m, E goes up by one with probability m / 2^23, exactly;
    below 2^-126 this rounds between 0 and 2^-126.

    Args:
        vector: shape (d,), float32 or half precision, any device; not modified.
        smallest: the smallest magnitude that is not zero.
        largest: the largest magnitude, below 2^127.
        seed: 0 to 2**64 - 1.

    Returns:
        Codes q that stand for sgn(q) 2^(|q| - 1 + e), 0 for 0, and e.
    """
    fields = np.array([smallest, largest], dtype=np.float32).view(np.int32) >> 23
    first, last = max(1, int(fields[0])), int(fields[1]) + 1
    if not on_cpu(vector):
        return tensors.natural_codes(vector, first, last, seed), first - 127
    codes = torch.empty(vector.numel(), dtype=code_dtype(last - first + 1))
    _natural(array_of(vector).view(np.int32), first - 1, np.uint64(seed), codes.numpy())
    return codes, first - 127


@compiled
def _geometric(
    array: _Array,
    bits: _Array,
    mantissa_bits: int,
    points: npt.NDArray[np.float64],
    starts: npt.NDArray[np.int64],
    seed: np.uint64,
    nearest: bool,
    codes: _Array,
) -> None:
    mask = len(starts) - 2
    for j in range(len(array)):
        magnitude = abs(np.float64(array[j]))
        exponent = np.int64(bits[j] >> mantissa_bits) & mask
        below, above = starts[exponent], starts[exponent + 1]
        while below < above:  # find how many points are at most the magnitude
            middle = (below + above) // 2
            if points[middle] <= magnitude:
                below = middle + 1
            else:
                above = middle
        if below < len(points):
            low = points[below - 1] if below > 0 else 0.0
            height = (magnitude - low) / (points[below] - low)
            uniform = 0.5
            if not nearest:
                uniform = uniform_of(random_bits(seed, j))
            below += uniform < height
        codes[j] = -below if array[j] < 0 else below


@compiled
def _natural(
    bits: npt.NDArray[np.int32], before_first: int, seed: np.uint64, codes: _Array
) -> None:
    for j in range(len(bits)):
        field = np.int64(bits[j])
        mantissa = field & 0x7FFFFF
        draw = np.int64(random_bits(seed, j) >> np.uint64(41))
        exponent = ((field >> 23) & 0xFF) + (draw < mantissa)
        code = exponent - before_first if exponent > before_first else 0
        codes[j] = -code if field < 0 else code
