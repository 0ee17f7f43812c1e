"""Induced compression: what a biased compressor leaves out, sent by an unbiased one."""

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
from mlmc_ray.compressors.wrappers.named import named
from mlmc_ray.kernels.device import at_least_single
from mlmc_ray.payloads import Payload, SumPayload, ZeroPayload


@dataclass(frozen=True, kw_only=True, slots=True)
class Induced:
    """Send C1(v), and an unbiased C2 of what that leaves out: C1(v) + C2(v - C1(v)).

    Unbiased, with omega = omega_2 (1 - alpha_1).

    Attributes:
        contractive: C1, any compressor.
        correction: C2, an unbiased one.

    References:
        Horvath, Richtarik, 2021, arXiv:2006.11077.
    """

    contractive: Compressor
    correction: Compressor

    def __post_init__(self) -> None:
        check_compressor("contractive", self.contractive)
        check_compressor("correction", self.correction)
        if not self.correction.unbiased:
            raise ValueError(
                f"correction is {self.correction!r}, which is biased: give an unbiased compressor, "
                "such as RandK"
            )

    def bind(self, context: Context) -> "Induced":
        """Bind both, each with a shared seed of its own: C2 must not know what C1 left out."""
        return replace(
            self,
            contractive=bound(self.contractive, named(context, "contractive")),
            correction=bound(self.correction, named(context, "correction")),
        )

    @property
    def unbiased(self) -> bool:
        """True."""
        return True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return both messages."""
        check_finite(vector)
        vector = vector.detach()
        if not vector.any():
            return ZeroPayload(vector.numel())
        first = self.contractive.compress(vector, generator=generator)
        rest = at_least_single(vector).clone(memory_format=torch.contiguous_format)
        first.add_to(rest, -1.0)
        return SumPayload((first, self.correction.compress(rest, generator=generator)))

    def omega(self, dim: int) -> float | None:
        """omega_2 (1 - alpha_1)."""
        alpha, omega = self.contractive.alpha(dim), self.correction.omega(dim)
        return None if alpha is None or omega is None else omega * (1 - alpha)

    def alpha(self, dim: int) -> None:
        """None: unbiased."""
        return None

    def paper_cost(self, dim: int) -> PaperCost | None:
        """Those of both messages."""
        first, second = self.contractive.paper_cost(dim), self.correction.paper_cost(dim)
        if first is None or second is None:
            return None
        return PaperCost(f"{first.formula} + {second.formula}", first.bits + second.bits)
