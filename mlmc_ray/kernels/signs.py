"""The signs of a vector, and what its positive and its negative entries add up to."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.device import array_of, on_cpu
from mlmc_ray.kernels.sums import fold, fold_blocks
from mlmc_ray.kernels.tensors import sums as tensors
from mlmc_ray.kernels.tensors.sums import BLOCK


def sign_codes(vector: Tensor) -> tuple[Tensor, int, float, float]:
    """Return codes 1 where v_j >= 0 and else 0, how many are 1, and both groups' sums (float64).

    Args:
        vector: shape (d,), finite, any float dtype, any device; not modified.
    """
    if on_cpu(vector):
        codes = torch.empty(vector.numel(), dtype=torch.int8)
        return codes, *_signs(array_of(vector), codes.numpy())
    values, codes = vector.to(torch.float64), (vector >= 0).to(torch.int8)
    positive, negative = tensors.total(values.clamp(min=0)), tensors.total(values.clamp(max=0))
    return codes, int(codes.sum()), positive, negative


@compiled
def _signs(array: npt.NDArray[Any], codes: npt.NDArray[np.int8]) -> tuple[int, float, float]:
    count, num_blocks = 0, -(-len(array) // BLOCK)
    above, below = np.empty(BLOCK), np.empty(BLOCK)
    positive, negative = np.empty(num_blocks), np.empty(num_blocks)
    for block in range(num_blocks):
        part, signs = array[block * BLOCK :][:BLOCK], codes[block * BLOCK :][:BLOCK]
        for j in range(len(part)):
            value = np.float64(part[j])
            signs[j] = part[j] >= 0
            above[j], below[j] = max(value, 0.0), min(value, 0.0)
        for j in range(len(part)):
            count += signs[j]
        positive[block], negative[block] = fold(above, len(part)), fold(below, len(part))
    sums = fold_blocks(positive, num_blocks, above), fold_blocks(negative, num_blocks, below)
    return count, sums[0], sums[1]
