"""Rounding vectors to whole multiples of a step: stochastically or to the nearest.

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


def linear_codes(
    vector: Tensor, steps: Tensor, bucket_size: int, highest: int, seed: int
) -> Tensor:
    """Round |v_j| / step stochastically to a whole number of at most ``highest``, with v_j's sign.

    Args:
        vector: shape (d,), finite, any float dtype; not modified.
        steps: float32, one for every ``bucket_size`` entries, on any device; 0 makes codes 0.
        bucket_size: entries a bucket, at least 1.
        highest: the largest code; larger magnitudes are cut.
        seed: 0 to 2**64 - 1.

    Returns:
        The codes, in the smallest of int8, int16 and int32 that holds them, on the vector's device.
    """
    if not on_cpu(vector):
        return tensors.linear_codes(vector, steps, bucket_size, highest, seed)
    codes = torch.empty(vector.numel(), dtype=code_dtype(highest))
    widths, draw = steps.cpu().numpy(), np.uint64(seed)
    _linear(array_of(vector), widths, bucket_size, highest, draw, codes.numpy())
    return codes


def nearest_codes(vector: Tensor, step: float, offset: float, low: int, high: int) -> Tensor:
    """Return the whole number nearest to v_j / step - offset, even ones on ties, in [low, high].

    Args:
        vector: shape (d,), finite, any float dtype, any device; not modified.
        step: positive.
        offset: taken away before rounding.
        low: the smallest code.
        high: the largest code.

    Returns:
        The codes, in the smallest of int8, int16 and int32 that holds them, on the vector's device.
    """
    if not on_cpu(vector):
        return tensors.nearest_codes(vector, step, offset, low, high)
    codes = torch.empty(vector.numel(), dtype=code_dtype(max(-low, high)))
    _nearest(array_of(vector), step, offset, low, high, codes.numpy())
    return codes


def nearest_counts(vector: Tensor, step: float, offset: float, num_codes: int) -> _Array:
    """Count how often ``nearest_codes`` from 0 to ``num_codes`` - 1 gives each of them; int64."""
    if on_cpu(vector):
        counts = np.zeros(num_codes, dtype=np.int64)
        _count_nearest(array_of(vector), step, offset, counts)
        return counts
    codes = nearest_codes(vector, step, offset, 0, num_codes - 1)
    return torch.bincount(codes, minlength=num_codes).cpu().numpy()


@compiled
def _linear(
    array: _Array,
    steps: npt.NDArray[np.float32],
    bucket_size: int,
    highest: int,
    seed: np.uint64,
    codes: _Array,
) -> None:
    for bucket in range(len(steps)):
        start = bucket * bucket_size
        end = min(len(array), start + bucket_size)
        if steps[bucket] == 0:
            codes[start:end] = 0
        else:
            step, limit = np.float64(steps[bucket]), np.float64(highest)
            _linear_bucket(array[start:end], step, limit, seed, start, codes[start:end])


@compiled
def _linear_bucket(
    array: _Array, step: float, highest: float, seed: np.uint64, start: int, codes: _Array
) -> None:
    for j in range(len(array)):  # a loop this plain is vectorised
        uniform = uniform_of(random_bits(seed, start + j))
        height = min(abs(np.float64(array[j])) / step, highest)
        floor = np.int64(height)
        code = floor + (uniform < height - np.float64(floor))
        codes[j] = -code if array[j] < 0 else code


@compiled
def _nearest(array: _Array, step: float, offset: float, low: int, high: int, codes: _Array) -> None:
    for j in range(len(array)):
        height = np.rint(np.float64(array[j]) / step - offset)
        codes[j] = np.int32(min(max(height, np.float64(low)), np.float64(high)))


@compiled
def _count_nearest(
    array: _Array, step: float, offset: float, counts: npt.NDArray[np.int64]
) -> None:
    highest = np.float64(len(counts) - 1)
    for j in range(len(array)):
        height = np.rint(np.float64(array[j]) / step - offset)
        counts[np.int64(min(max(height, 0.0), highest))] += 1
