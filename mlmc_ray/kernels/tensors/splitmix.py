"""The random bits of ``kernels.splitmix`` as tensors."""

import torch
from torch import Tensor

from mlmc_ray.kernels.splitmix import FIRST_FACTOR, GOLDEN, SECOND_FACTOR, UNIT


def random_bits(seed: int, count: int, device: torch.device, first: int = 0) -> Tensor:
    """Return the 64 bits of counters ``first`` to ``first + count - 1`` as int64, shape (count,).

    Args:
        seed: 0 to 2**64 - 1.
        count: how many counters.
        device: of the result.
        first: the first counter.
    """
    z = torch.arange(first, first + count, device=device).mul_(_signed(GOLDEN)).add_(_signed(seed))
    z = (z ^ logical_shift(z, 30)).mul_(_signed(FIRST_FACTOR))
    z = (z ^ logical_shift(z, 27)).mul_(_signed(SECOND_FACTOR))
    return z ^ logical_shift(z, 31)


def uniforms(seed: int, count: int, device: torch.device, first: int = 0) -> Tensor:
    """Return uniform numbers in [0, 1): multiples of 2^-53, float64, shape (count,)."""
    return logical_shift(random_bits(seed, count, device, first), 11).to(torch.float64).mul_(UNIT)


def logical_shift(values: Tensor, places: int) -> Tensor:
    """Return int64 shifted to the right, with zeros from the left; ``places`` is 1 to 63."""
    return (values >> places) & ((1 << (64 - places)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
