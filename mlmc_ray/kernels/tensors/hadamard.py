"""The transforms of ``kernels.hadamard`` as tensor operations: the same sums in one order."""

import math

import numpy as np
import torch
from torch import Tensor

from mlmc_ray.kernels.hadamard import BLOCK, Words, span, steps_of


def rotate(vector: Tensor, seed: int) -> Tensor:
    """Do what ``kernels.hadamard.rotate`` does, on the device of the vector."""
    result = vector.clone(memory_format=torch.contiguous_format)
    for start, words in steps_of(len(result), seed):
        part = result[start : start + span(len(result))]
        part *= _factors(words, part)
        _transform(part, 1, len(part))
    return result


def unrotate(rotated: Tensor, seed: int) -> Tensor:
    """Do what ``kernels.hadamard.unrotate`` does, on the device of the vector."""
    result = rotated.clone(memory_format=torch.contiguous_format)
    for start, words in reversed(steps_of(len(result), seed)):
        part = result[start : start + span(len(result))]
        _transform(part, BLOCK, len(part))
        _transform(part, 1, min(BLOCK, len(part)))
        part *= _factors(words, part)
    return result


def _factors(words: Words, part: Tensor) -> Tensor:
    """Return the scale with the random signs, float32, shape of ``part``."""
    bits = torch.from_numpy(words.view(np.int64)).to(part.device)
    places = torch.arange(64, device=part.device)
    negative = ((bits[:, None] >> places) & 1).flatten()[: len(part)]
    return (1 - 2 * negative).to(torch.float32).mul_(float(np.float32(1 / math.sqrt(len(part)))))


def _transform(values: Tensor, stride: int, end: int) -> None:
    """Add and subtract entries ``stride`` apart, then 2 ``stride``, up to ``end`` / 2, in place."""
    while 2 * stride <= end:
        pairs = values.view(-1, 2, stride)
        low, high = pairs[:, 0], pairs[:, 1]
        sums = low + high
        torch.sub(low, high, out=high)
        low.copy_(sums)
        stride *= 2
