"""The successive-refinement ladder: any biased compressor, applied again to what it left."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import (
    Compressor,
    Context,
    RunTime,
    bound,
    check_compressor,
    check_whole,
)
from mlmc_ray.compressors.wrappers.named import named
from mlmc_ray.ladders.base import Levels, check_level, fixed_generator
from mlmc_ray.ladders.sizes import packed_bits
from mlmc_ray.ladders.sums import difference
from mlmc_ray.payloads import DensePayload, Payload, SegmentsPayload, SparsePayload


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinementLadder:
    """Level l adds C(r_(l-1)), r_l = r_(l-1) - C(r_(l-1)), r_0 = v; the top level adds the rest.

    So an increment is a message of the compressor C, or, with a probability that falls with the
    norm of the rest, the rest itself. The estimator is unbiased for every C. Where C contracts, the
    norms fall geometrically; an unbiased C is refused, since r_l need not be shorter than r_(l-1).

    Attributes:
        compressor: C, biased.
        steps: how many times it is applied; there is one level more.
        top: an unbiased compressor for the rest; by default all of its entries are sent.
        step_compressors: the compressor as it is bound for each of the steps; set by ``bind``.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, section 3, for any ladder; the steps are those of
        multistage quantisation: Gray, "Vector Quantization", IEEE ASSP Magazine, 1984.
    """

    has_own_law: ClassVar[bool] = False

    compressor: Compressor
    steps: int = 1
    top: Compressor | None = None
    step_compressors: RunTime[tuple[Compressor, ...]] = ()

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, 1)
        check_compressor("compressor", self.compressor)
        if self.top is not None:
            check_compressor("top", self.top)
        if self.compressor.unbiased:
            raise ValueError(
                f"compressor is {self.compressor!r}, which is unbiased: what it leaves may be "
                "longer than the vector; use it without mlmc, or give a biased one, such as top-k, "
                "or rand-k with scaled: false"
            )
        if self.top is not None and not self.top.unbiased:
            raise ValueError(
                f"top is {self.top!r}, which is biased: give an unbiased compressor, or none to "
                "send the rest as it is"
            )

    def bind(self, context: Context) -> "RefinementLadder":
        """Return the ladder whose compressors know where they are used.

        Every step, and the top, has a shared seed of its own: what it is given must not depend on
        its draws, or the top has another mean, and a step need not contract.
        """
        each = [bound(self.compressor, named(context, "step", i)) for i in range(self.steps)]
        top = None if self.top is None else bound(self.top, named(context, "top"))
        if top is self.top and all(one is self.compressor for one in each):
            return self
        return replace(self, top=top, step_compressors=tuple(each))

    def levels(self, vector: Tensor, *, generator: Generator | None = None) -> Levels:
        """Return the levels, for which all compressors run at once."""
        return _RefinementLevels(self, vector, generator or fixed_generator())

    def compressors(self) -> tuple[Compressor, ...]:
        """Return what is applied in each of the steps."""
        return self.step_compressors or (self.compressor,) * self.steps

    def omega(self, dim: int) -> float | None:
        """(1 + 2 sum_(l < n) a^l + a^n (1 + (1 + w)^1/2))^2 - 1 with a^2 = 1 - alpha, n = steps.

        w is the omega of the top, 0 by default. Level l has at most a^(l-1) + a^l of the norm of
        the vector, and by Minkowski's inequality random compressors need no more in expectation.
        """
        alpha = self.compressors()[0].alpha(dim)
        top = 0.0 if self.top is None else self.top.omega(dim)
        if alpha is None or top is None:
            return None
        a = math.sqrt(1 - alpha)
        steps = 1 + 2 * sum(a**level for level in range(1, self.steps))
        return float((steps + a**self.steps * (1 + math.sqrt(1 + top))) ** 2 - 1)

    def top_omega(self, dim: int) -> float | None:
        """(1 - alpha)^steps w: what the top makes of the rest."""
        top = 0.0 if self.top is None else self.top.omega(dim)
        if not top:
            return top
        alpha = self.compressors()[0].alpha(dim)
        return None if alpha is None else float((1 - alpha) ** self.steps * top)

    def paper_cost(self, dim: int) -> None:
        """None: no paper has a formula for levels of which the top is dense."""
        return None


class _RefinementLevels:
    def __init__(self, ladder: RefinementLadder, vector: Tensor, generator: Generator) -> None:
        rest = vector.to(torch.promote_types(vector.dtype, torch.float32))
        self._device = vector.device
        self._increments: list[Payload] = []
        for compressor in ladder.compressors():
            self._increments.append(compressor.compress(rest, generator=generator))
            rest = difference(rest, self._increments[-1])
        top = ladder.top
        last = DensePayload(rest) if top is None else top.compress(rest, generator=generator)
        self._increments.append(last)

    def __len__(self) -> int:
        return len(self._increments)

    @cached_property
    def _norms(self) -> Tensor:
        norms = [_norm(payload, self._device) for payload in self._increments]
        return torch.tensor(norms, dtype=torch.float64)

    def norms(self) -> Tensor:
        return self._norms

    def costs(self) -> Tensor:
        bits = [packed_bits(payload) for payload in self._increments]
        return torch.tensor(bits, dtype=torch.float64)

    def base(self) -> None:
        return None

    def increment(self, level: int) -> Payload:
        check_level(level, len(self))
        return self._increments[level - 1]

    def own_law(self) -> None:
        return None


def _norm(payload: Payload, device: torch.device) -> float:
    if isinstance(payload, DensePayload | SparsePayload | SegmentsPayload):
        values = payload.values
    else:
        values = torch.zeros(payload.dim, dtype=torch.float64, device=device)
        payload.add_to(values)
    return float(torch.linalg.vector_norm(values, dtype=torch.float64))
