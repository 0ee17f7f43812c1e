"""Lazy compression: a message with some probability, else nothing."""

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import (
    Compressor,
    Context,
    PaperCost,
    bound,
    check_compressor,
    check_finite,
)
from mlmc_ray.compressors.random_sparse import check_probability
from mlmc_ray.kernels.device import at_least_single
from mlmc_ray.payloads import Payload, ZeroPayload


@dataclass(frozen=True, kw_only=True, slots=True)
class Lazy:
    """Send C(v)/p with probability p, else nothing.

    The expectation is that of C. Where C is unbiased, omega = (1 + omega_C)/p - 1.

    Args:
        compressor: of what is sent.
        p: probability of sending, in (0, 1].

    References:
        The Bernoulli compressor of Islamov et al., 2021, arXiv:2102.07158; independent
        participation of the workers has the same effect.
    """

    compressor: Compressor
    p: float

    def __post_init__(self) -> None:
        check_compressor("compressor", self.compressor)
        check_probability("p", self.p)

    def bind(self, context: Context) -> "Lazy":
        """Bind the inner compressor."""
        return replace(self, compressor=bound(self.compressor, context))

    @property
    def unbiased(self) -> bool:
        """Whether the inner compressor is."""
        return self.compressor.unbiased

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the inner compressor's message, scaled up, or none."""
        check_finite(vector)
        coin = torch.rand((), dtype=torch.float64, generator=generator)
        if coin >= self.p:
            return ZeroPayload(vector.numel())
        payload = self.compressor.compress(at_least_single(vector), generator=generator)
        return payload.scaled(1 / self.p)

    def omega(self, dim: int) -> float | None:
        """(1 + omega_C)/p - 1."""
        omega = self.compressor.omega(dim)
        return None if omega is None else (1 + omega) / self.p - 1

    def alpha(self, dim: int) -> float | None:
        """None: scaling up is no contraction, unless everything is sent."""
        return self.compressor.alpha(dim) if self.p == 1 else None

    def paper_cost(self, dim: int) -> PaperCost | None:
        """p times that of the inner compressor: expected."""
        cost = self.compressor.paper_cost(dim)
        return None if cost is None else PaperCost(f"p ({cost.formula})", round(self.p * cost.bits))
