"""Rounding vectors to codes by tensor operations."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.tensors.splitmix import logical_shift, random_bits, uniforms


def code_dtype(highest: int) -> torch.dtype:
    """Return the smallest of int8, int16 and int32 that holds codes from -highest to highest."""
    return torch.int8 if highest <= 127 else torch.int16 if highest <= 32767 else torch.int32


def linear_codes(
    vector: Tensor, steps: Tensor, bucket_size: int, highest: int, seed: int
) -> Tensor:
    """Do what ``kernels.rounding.linear_codes`` does."""
    widths = steps.to(vector.device, torch.float64).repeat_interleave(bucket_size)
    heights = vector.to(torch.float64).abs().div_(widths[: vector.numel()])
    heights = heights.nan_to_num_(0.0, posinf=0.0).clamp_(max=highest)
    floors = heights.floor()
    ups = uniforms(seed, vector.numel(), vector.device) < heights.sub_(floors)
    return _signed(floors.to(code_dtype(highest)).add_(ups), vector)


def nearest_codes(vector: Tensor, step: float, offset: float, low: int, high: int) -> Tensor:
    """Do what ``kernels.rounding.nearest_codes`` does."""
    heights = (vector.to(torch.float64) / step).sub_(offset).round_().clamp_(low, high)
    return heights.to(code_dtype(max(-low, high)))


def geometric_codes(vector: Tensor, points: npt.NDArray[np.float64], seed: int | None) -> Tensor:
    """Do what ``kernels.power_rounding.geometric_codes`` does."""
    grid = torch.from_numpy(np.concatenate(([0.0], points))).to(vector.device)
    magnitudes = vector.to(torch.float64).abs().clamp_(max=float(points[-1]))
    below = torch.searchsorted(grid, magnitudes, right=True).sub_(1).clamp_(max=len(points) - 1)
    low, high = grid[below], grid[below + 1]
    heights = magnitudes.sub_(low).div_(high.sub_(low))
    draws = 0.5 if seed is None else uniforms(seed, vector.numel(), vector.device)
    return _signed(below.add_(heights > draws).to(code_dtype(len(points))), vector)


def natural_codes(vector: Tensor, first: int, last: int, seed: int) -> Tensor:
    """Return sgn(v_j) (E - first + 1), 0 for E < first, with the exponent field E rounded.

    Args:
        vector: shape (d,), float32 or half precision.
        first: the smallest field that is not 0 once rounded.
        last: the largest field.
        seed: 0 to 2**64 - 1.
    """
    fields = vector.to(torch.float32).contiguous().view(torch.int32).to(torch.int64)
    draws = logical_shift(random_bits(seed, vector.numel(), vector.device), 41)
    exponents = ((fields >> 23) & 0xFF).add_(draws < (fields & 0x7FFFFF))
    codes = exponents.sub_(first - 1).clamp_(min=0).to(code_dtype(last - first + 1))
    return torch.where(fields < 0, -codes, codes)


def nearest_centroids(values: Tensor, boundaries: npt.NDArray[np.float32]) -> Tensor:
    """Return between which boundaries every value lies: the number of those up to it, int8.

    Args:
        values: shape (d,), float32.
        boundaries: ascending, at most 127.
    """
    return torch.bucketize(
        values, torch.from_numpy(boundaries).to(values.device), right=True, out_int32=True
    ).to(torch.int8)


def _signed(codes: Tensor, vector: Tensor) -> Tensor:
    return torch.where(vector < 0, -codes, codes)
