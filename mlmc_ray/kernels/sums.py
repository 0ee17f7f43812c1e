"""Sums in one fixed order, so that every device gets the same bits.

A sum of up to 1024 numbers folds them: the second half, of a power of two of them, is added to the
first until one number is left. Longer sums fold every 1024 numbers, and then the results likewise.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.device import array_of, on_cpu
from mlmc_ray.kernels.tensors import sums as tensors
from mlmc_ray.kernels.tensors.sums import BLOCK

_Sums = npt.NDArray[np.float64]
_SHORT = 8  # entries, a power of two


def segment_energies(vector: Tensor, size: int) -> Tensor:
    """Return the sum of squares of every ``size`` consecutive entries, the last maybe of fewer.

    Args:
        vector: shape (d,), any float dtype, any device; not modified.
        size: at least 1.

    Returns:
        shape (ceil(d / size),), float64, on the device of the vector; infinite where it overflows.
    """
    if on_cpu(vector):
        sums = np.empty(-(-vector.numel() // size))
        _sum_segments(array_of(vector), size, True, sums)
        return torch.from_numpy(sums)
    return tensors.segment_sums(vector.to(torch.float64).square(), size)


def segment_magnitudes(vector: Tensor, size: int) -> Tensor:
    """Return the sum of magnitudes of every ``size`` consecutive entries, as above."""
    if on_cpu(vector):
        sums = np.empty(-(-vector.numel() // size))
        _sum_segments(array_of(vector), size, False, sums)
        return torch.from_numpy(sums)
    return tensors.segment_sums(vector.to(torch.float64).abs(), size)


@compiled
def fold(numbers: _Sums, count: int) -> float:
    """Return the sum of the first ``count`` of 1024 numbers, which are overwritten."""
    width = 1
    while width < count:
        width *= 2
    numbers[count:width] = 0.0
    while width > 1:
        width //= 2
        low, high = numbers[:width], numbers[width : 2 * width]
        for j in range(width):
            low[j] += high[j]
    return numbers[0] if count else 0.0


@compiled
def fold_blocks(parts: _Sums, count: int, buffer: _Sums) -> float:
    """Return the sum of the first ``count`` sums of blocks, which are overwritten."""
    while count > 1:
        shorter = 0
        for first in range(0, count, BLOCK):
            size = min(BLOCK, count - first)
            buffer[:size] = parts[first : first + size]
            parts[shorter] = fold(buffer, size)
            shorter += 1
        count = shorter
    return parts[0] if count else 0.0


@compiled
def _sum_segments(array: npt.NDArray[Any], size: int, squares: bool, sums: _Sums) -> None:
    if size <= _SHORT:
        _sum_short_segments(array, size, squares, sums)
        return
    buffer = np.empty(BLOCK)
    parts = np.empty(min(size, len(array)) // BLOCK + 1)
    for segment in range(len(sums)):
        start, end = segment * size, min(len(array), (segment + 1) * size)
        count = 0
        for first in range(start, end, BLOCK):
            part = array[first : min(first + BLOCK, end)]
            for j in range(len(part)):
                value = np.float64(part[j])
                buffer[j] = value * value if squares else abs(value)
            parts[count] = fold(buffer, len(part))
            count += 1
        sums[segment] = fold_blocks(parts, count, buffer)


@compiled
def _sum_short_segments(array: npt.NDArray[Any], size: int, squares: bool, sums: _Sums) -> None:
    """Do the same where calls of ``fold`` would take longer than the additions."""
    buffer = np.zeros(_SHORT)
    for segment in range(len(sums)):
        start, count = segment * size, min(size, len(array) - segment * size)
        for j in range(_SHORT):
            value = np.float64(array[start + j]) if j < count else 0.0
            buffer[j] = value * value if squares else abs(value)
        width = _SHORT
        while width > 1:
            width //= 2
            for j in range(width):
                buffer[j] += buffer[width + j]
        sums[segment] = buffer[0]
