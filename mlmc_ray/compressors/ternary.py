"""TernGrad: a sign or nothing for every entry, relative to the largest."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import PaperCost, check_positive
from mlmc_ray.compressors.rounding import draw_seed, finite_range, wire_steps
from mlmc_ray.kernels.norms import bucket_norms
from mlmc_ray.kernels.rounding import linear_codes
from mlmc_ray.payloads import CodesPayload, Payload, ZeroPayload


@dataclass(frozen=True, kw_only=True, slots=True)
class TernGrad:
    """Keep the sign of entry j with probability |v_j| / S, else nothing; S is the maximum.

    The variance is exactly S |v|_1 - |v|^2. With ``clip`` = c, entries are first cut to c times
    the standard deviation of the vector's entries (the paper takes 2.5), unless they are all
    equal: less variance, but biased.

    Args:
        clip: standard deviations at which entries are cut off first; None for no cut.

    References:
        Wen et al., 2017, arXiv:1705.07878.
    """

    clip: float | None = None

    def __post_init__(self) -> None:
        if self.clip is not None:
            advice = "a positive number of standard deviations, or nothing"
            check_positive("clip", self.clip, advice)

    @property
    def unbiased(self) -> bool:
        """True without clipping."""
        return self.clip is None

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return a code -1, 0 or 1 per entry.

        Raises:
            NonFiniteError: there is NaN or infinity, or the maximum does not fit float32.
        """
        _, scale = finite_range(vector)
        vector = vector.detach()
        if self.clip is not None:
            deviation = _deviation(vector)
            scale = min(scale, self.clip * deviation) if deviation > 0 else scale
        if scale == 0:
            return ZeroPayload(vector.numel())
        steps = wire_steps(torch.tensor([scale], dtype=torch.float64), 1)
        dim = vector.numel()
        return CodesPayload(linear_codes(vector, steps, dim, 1, draw_seed(generator)), steps)

    def omega(self, dim: int) -> float | None:
        """(sqrt(d) - 1) / 2 without clipping.

        Attained by one entry 1 and d - 1 entries 1 / (1 + sqrt(d)).
        """
        return (math.sqrt(dim) - 1) / 2 if self.clip is None else None

    def alpha(self, dim: int) -> None:
        """None: unbiased, or biased without a bound."""
        return None

    def paper_cost(self, dim: int) -> PaperCost:
        """Two bits per entry, and the scale."""
        return PaperCost("2 d + 64", 2 * dim + 64)


def _deviation(vector: Tensor) -> float:
    """Return the standard deviation of the entries, as one population."""
    dim = vector.numel()
    deviations = vector.to(torch.float64) - vector.sum(dtype=torch.float64) / dim
    return float(bucket_norms(deviations, dim, 2.0)) / math.sqrt(dim)
