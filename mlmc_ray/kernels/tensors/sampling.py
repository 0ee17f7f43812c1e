"""Drawing entries at random with tensor operations.

Where magnitudes are added up along the vector, another order of the sums than that of the compiled
loops may move a draw that falls on the border of two entries to the other one.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

from mlmc_ray.kernels.sampling import BLOCK_SIZE, last_kept
from mlmc_ray.kernels.sums import segment_magnitudes
from mlmc_ray.kernels.tensors.splitmix import random_bits, uniforms
from mlmc_ray.kernels.thresholds import KEY_SHIFT, NUM_KEYS, deciding_key, threshold

_SIGN = -(1 << 63)


def bernoulli_subset(seed: int, dim: int, probability: float, device: torch.device) -> Tensor:
    """Do what ``kernels.sampling.bernoulli_subset`` does, on any device."""
    bits = random_bits(seed, dim, device, first=1)
    # As signed numbers, both with the highest bit flipped, they are in the order of unsigned ones.
    return torch.nonzero((bits ^ _SIGN) <= last_kept(probability) + _SIGN).flatten()


def bernoulli_in_proportion(vector: Tensor, full: float, seed: int) -> Tensor:
    """Do what ``kernels.sampling.bernoulli_in_proportion`` does, on the device of the vector."""
    draws = uniforms(seed, vector.numel(), vector.device, first=1).mul_(full)
    return torch.nonzero(draws < vector.to(torch.float64).abs()).flatten()


def systematic_in_proportion(vector: Tensor, full: float, start: float) -> Tensor:
    """Do what ``kernels.sampling.systematic_in_proportion`` does, but for rounding."""
    magnitudes = vector.to(torch.float64).abs()
    sure = magnitudes >= full
    reached = magnitudes.masked_fill(sure, 0.0).cumsum(0).add_(start * full).div_(full).floor_()
    return torch.nonzero(sure | (pad(reached, (1, 0)).diff() > 0)).flatten()


def block_ends(vector: Tensor) -> npt.NDArray[np.float64]:
    """Do what ``kernels.sampling.block_ends`` does; the ends are on the host."""
    return segment_magnitudes(vector, BLOCK_SIZE).cpu().numpy().cumsum()


def find_in_proportion(
    vector: Tensor, ends: npt.NDArray[np.float64], points: npt.NDArray[np.float64]
) -> Tensor:
    """Do what ``kernels.sampling.find_in_proportion`` does, but for rounding."""
    device, dim = vector.device, vector.numel()
    inside = points[: int(np.searchsorted(points, ends[-1], side="left"))]
    of_points = np.searchsorted(ends, inside, side="right")
    blocks = torch.from_numpy(of_points).to(device)
    heights = torch.from_numpy(inside - np.append(0.0, ends)[of_points]).to(device)
    magnitudes = pad(vector.to(torch.float64).abs(), (0, -dim % BLOCK_SIZE)).view(-1, BLOCK_SIZE)
    last = (magnitudes > 0).mul(torch.arange(BLOCK_SIZE, device=device)).amax(dim=1)
    reached = magnitudes.cumsum(dim=1)
    places, step = torch.zeros_like(blocks), BLOCK_SIZE // 2
    while step:  # find how many entries of the block end at or before the point
        ended = reached[blocks, places + step - 1] <= heights
        places += ended * step
        step //= 2
    # Beyond the last entry only where the sum was rounded otherwise.
    return blocks * BLOCK_SIZE + torch.minimum(places, last[blocks])


def full_magnitude(vector: Tensor, count: int) -> float:
    """Do what ``kernels.thresholds.full_magnitude`` does, for float64 but for rounding.

    The magnitudes of the one key that decides are sorted on the host.
    """
    magnitudes = vector.abs()
    keys = magnitudes.to(torch.float32).view(torch.int32) >> KEY_SHIFT
    counts = torch.bincount(keys, minlength=NUM_KEYS).cpu().numpy()
    wide = magnitudes.to(torch.float64)
    sums = torch.bincount(keys, weights=wide, minlength=NUM_KEYS).cpu().numpy()
    key = deciding_key(counts, sums, count)
    return threshold(counts, sums, key, wide[keys == key].cpu().numpy(), count)
