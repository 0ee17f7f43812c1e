"""Sparse dithering: a step so large that most entries become zero."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import PaperCost, check_positive
from mlmc_ray.compressors.rounding import check_next, draw_seed, finite_range, float32_below
from mlmc_ray.kernels.norms import bucket_norms
from mlmc_ray.kernels.rounding import linear_codes, nearest_codes
from mlmc_ray.payloads import CodesPayload, Payload, ZeroPayload


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseDithering:
    """Round every entry to a multiple of 2 |v| sqrt(nu / d), near the limit of bits and variance.

    No contractive compressor of b bits does better than (1 - alpha) 4^(b/d) = 1, and no unbiased
    one than omega = 1 / (4^(b/d) - 1). Rounding stochastically has omega <= nu and on average at
    most d / (2 sqrt(nu)) entries that are not zero; rounding to the nearest has alpha = 1 - nu.

    Attributes:
        nu: relative variance or error, positive; below 1 where biased.
        unbiased: round stochastically, not to the nearest.

    References:
        Albasyoni et al., 2020, arXiv:2010.03246 (the limit, and an operator of this kind).
    """

    nu: float
    unbiased: bool = True

    def __post_init__(self) -> None:
        check_positive("nu", self.nu)
        if not self.unbiased and self.nu >= 1:
            raise ValueError(f"nu is {self.nu!r}: without unbiased it is an error, below 1")

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one code per entry.

        Raises:
            NonFiniteError: there is NaN or infinity, or the vector does not fit float32.
            ValueError: the codes take more than 31 bits, ``nu`` is too small.
        """
        _, largest = finite_range(vector)
        vector = vector.detach()
        if largest == 0:
            return ZeroPayload(vector.numel())
        dim = vector.numel()
        step = self._step(float(bucket_norms(vector, dim, 2.0)), dim)
        check_next(largest, step)
        highest = math.ceil(largest / step)
        if highest >= 1 << 31:
            raise ValueError(
                f"nu is {self.nu!r}: codes up to {highest:.3g} do not fit 31 bits; give a larger "
                "nu, such as 0.01"
            )
        if self.unbiased:
            steps = torch.tensor([step])
            codes = linear_codes(vector, steps, dim, highest, draw_seed(generator))
        else:
            codes = nearest_codes(vector, step, 0.0, -highest, highest)
        return CodesPayload.on_grid(codes, step)

    def omega(self, dim: int) -> float | None:
        """The least of nu and 2 sqrt(nu) when unbiased."""
        return min(self.nu, 2 * math.sqrt(self.nu)) if self.unbiased else None

    def alpha(self, dim: int) -> float | None:
        """1 - nu when rounded to the nearest."""
        return None if self.unbiased else 1 - self.nu

    def paper_cost(self, dim: int) -> PaperCost:
        """The least that any compressor of this variance or error can take, in the worst case."""
        rate = math.log2(1 + 1 / self.nu) if self.unbiased else -math.log2(self.nu)
        return PaperCost("the lower bound", math.ceil(rate * dim / 2))

    def _step(self, norm: float, dim: int) -> float:
        """Return a step rounded down, which keeps the bounds."""
        return float32_below(2 * norm * math.sqrt(self.nu / dim))
