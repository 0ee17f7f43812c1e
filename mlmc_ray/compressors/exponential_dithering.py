"""Dithering on levels that are powers: of all entries, or of the largest."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import EntryCount, PaperCost, check_count, count_of
from mlmc_ray.compressors.dithering import check_levels, check_norm
from mlmc_ray.compressors.rounding import (
    check_base,
    draw_seed,
    finite_range,
    geometric_grid,
    wire_step,
)
from mlmc_ray.kernels.norms import bucket_norms
from mlmc_ray.kernels.power_rounding import geometric_codes
from mlmc_ray.kernels.select import largest as largest_entries
from mlmc_ray.payloads import CodesPayload, Payload, Powers, ScatteredPayload, ZeroPayload


@dataclass(frozen=True, kw_only=True, slots=True)
class ExponentialDithering:
    """Round every |v_j| / |v|_p stochastically to 0 or a power base^-r, keeping the mean.

    The levels are 0, base^(1-s), ..., 1/base, 1. Base 2 is natural dithering.

    Attributes:
        levels: s, 1 to 32,767, of those above 0.
        base: above 1, at most 1024.
        norm: p, at least 1, or infinity.

    References:
        Beznosikov et al., 2020, arXiv:2002.12410; Horvath et al., 2019, arXiv:1905.10988.
    """

    levels: int
    base: float = 2.0
    norm: float = 2.0

    def __post_init__(self) -> None:
        check_levels(self.levels)
        check_base(self.base)
        check_norm(self.norm)

    @property
    def unbiased(self) -> bool:
        """True."""
        return True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one code per entry and the scale of the smallest level.

        Raises:
            NonFiniteError: there is NaN or infinity, or the norm does not fit float32.
        """
        _, largest = finite_range(vector)
        vector = vector.detach()
        if largest == 0:
            return ZeroPayload(vector.numel())
        norm = max(largest, float(bucket_norms(vector, vector.numel(), self.norm)))
        lowest = wire_step(norm * math.pow(self.base, 1 - self.levels), 1) or 2.0**-149
        points = geometric_grid(lowest, self.base, norm)
        if len(points) > self.levels:  # a power was rounded down, so that the last stays below
            lowest = float(np.nextafter(np.float32(lowest), np.float32(math.inf)))
            points = geometric_grid(lowest, self.base, norm)
        codes = geometric_codes(vector, points, draw_seed(generator))
        return CodesPayload(codes, torch.tensor([lowest]), codebook=Powers(self.base))

    def omega(self, dim: int) -> float:
        """(b + 1/b + 2) / 4 - 1 + e min(1, e) with e = d^(1/min(p, 2)) b^(1-s)."""
        lost = math.pow(dim, 1 / min(self.norm, 2.0)) * math.pow(self.base, 1 - self.levels)
        return (self.base + 1 / self.base + 2) / 4 - 1 + lost * min(1.0, lost)

    def alpha(self, dim: int) -> None:
        """None: unbiased."""
        return None

    def paper_cost(self, dim: int) -> PaperCost:
        """The norm, and a sign and a level per entry."""
        width = 1 + math.ceil(math.log2(self.levels + 1))
        return PaperCost("64 + d (1 + ceil(log2(s + 1)))", 64 + width * dim)


@dataclass(frozen=True, kw_only=True, slots=True)
class TopKDithering:
    """Keep the k largest entries, dithered exponentially and shrunk by 1 / (1 + omega).

    Shrinking, with the omega that the dithering has in k dimensions, makes it contractive:
    alpha = k / (d (1 + omega)).

    Attributes:
        k: how many entries to keep.
        levels: of the dithering.
        base: of the dithering.
        norm: of the dithering.

    References:
        Beznosikov et al., 2020, arXiv:2002.12410.
    """

    k: EntryCount
    levels: int
    base: float = 2.0
    norm: float = 2.0

    def __post_init__(self) -> None:
        check_count("k", self.k)
        self._dithering()

    @property
    def unbiased(self) -> bool:
        """False."""
        return False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the indices of the kept entries and a code for each."""
        _, largest = finite_range(vector)
        vector = vector.detach()
        dim = vector.numel()
        if largest == 0:
            return ZeroPayload(dim)
        k = count_of(self.k, dim)
        indices = largest_entries(vector.abs(), k)
        dithered = self._dithering().compress(vector[indices], generator=generator)
        return ScatteredPayload(dim, indices, dithered.scaled(1 / (1 + self._inner_omega(dim))))

    def omega(self, dim: int) -> None:
        """None: biased."""
        return None

    def alpha(self, dim: int) -> float:
        """k / (d (1 + omega)) with the dithering's omega in k dimensions."""
        return count_of(self.k, dim) / dim / (1 + self._inner_omega(dim))

    def paper_cost(self, dim: int) -> PaperCost:
        """The norm, and a sign and a level per kept entry; no indices are counted."""
        bits = self._dithering().paper_cost(count_of(self.k, dim)).bits
        return PaperCost("64 + k (1 + ceil(log2(s + 1)))", bits)

    def _dithering(self) -> ExponentialDithering:
        return ExponentialDithering(levels=self.levels, base=self.base, norm=self.norm)

    def _inner_omega(self, dim: int) -> float:
        return self._dithering().omega(count_of(self.k, dim))
