"""The multilevel Monte Carlo estimator: a ladder and a law over its levels, made unbiased.

Draw a level l with probability p_l and send the increment of that level divided by p_l. Whatever
the ladder and the (positive) probabilities, the expectation is the vector.

References:
    Zukerman, Hamoud and Levy, "Beyond Communication Overhead: A Multilevel Monte Carlo Approach
    for Mitigating Compression Bias in Distributed Learning", ICML 2025, arXiv:2507.05508.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import PaperCost, check_finite
from mlmc_ray.ladders.base import Ladder, Levels
from mlmc_ray.payloads import Payload, ZeroPayload


@runtime_checkable
class LevelLaw(Protocol):
    """The probabilities of the levels."""

    def probabilities(self, levels: Levels) -> Tensor:
        """Return p_1, ..., p_L, float64, summing to 1; all zero where every increment is zero."""

    def omega(self, ladder: Ladder, dim: int) -> float | None:
        """Bound the relative variance of the estimator with this law; None where none holds."""


@dataclass(frozen=True, slots=True)
class OwnLaw:
    """The fixed law that theory gives the ladder (lemma 3.3 for fixed point): paper algorithm 2."""

    def probabilities(self, levels: Levels) -> Tensor:
        """Return the ladder's law.

        Raises:
            ValueError: the ladder has none.
        """
        law = levels.own_law()
        if law is None:
            raise ValueError(
                "law 'own': this ladder has no fixed law of its own; use 'adaptive' or 'given'"
            )
        return law

    def omega(self, ladder: Ladder, dim: int) -> float:
        """The ladder's bound."""
        return ladder.omega(dim)


@dataclass(frozen=True, slots=True)
class AdaptiveLaw:
    """p_l in proportion to the norm of increment l: the least variance (lemma 3.4), algorithm 3."""

    def probabilities(self, levels: Levels) -> Tensor:
        """Return the norms of the increments, normalised."""
        norms = levels.norms()
        total = norms.sum()
        return norms / total if total > 0 else norms

    def omega(self, ladder: Ladder, dim: int) -> float:
        """The ladder's bound."""
        return ladder.omega(dim)


@dataclass(frozen=True, slots=True)
class GivenLaw:
    """Probabilities of one's own, one per level, each positive.

    Fewer levels than probabilities are allowed, since the number of fixed-point levels varies
    with the vector; the others then stand for increments of zero.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values or min(self.values) <= 0 or not math.isclose(sum(self.values), 1):
            raise ValueError(
                f"values are {self.values!r}: give positive probabilities that sum to 1"
            )

    def probabilities(self, levels: Levels) -> Tensor:
        """Return the given probabilities.

        Raises:
            ValueError: the vector has more levels than probabilities were given.
        """
        if len(levels) > len(self.values):
            raise ValueError(
                f"law 'given': {len(self.values)} probabilities were given, and this vector has "
                f"{len(levels)} levels; give one per level"
            )
        return torch.tensor(self.values, dtype=torch.float64)

    def omega(self, ladder: Ladder, dim: int) -> None:
        """None: it depends on the vector."""
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class MLMC:
    """The MLMC estimator, an unbiased compressor.

    With ``AdaptiveLaw`` over ``SegmentedTopKLadder`` it is algorithm 3 of the paper, with
    ``OwnLaw`` over ``FixedPointLadder`` algorithm 2. The payload carries the increment already
    divided by p_l, so the receiver needs neither the level nor the law.
    """

    ladder: Ladder
    law: LevelLaw = field(default_factory=AdaptiveLaw)

    def __post_init__(self) -> None:
        if isinstance(self.law, OwnLaw):
            self.law.probabilities(self.ladder.levels(torch.ones(1)))  # refuse it at once

    @property
    def unbiased(self) -> bool:
        """True for every ladder and law (lemma 3.2)."""
        return True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Draw a level and return its increment divided by its probability."""
        check_finite(vector)
        levels = self.ladder.levels(vector)
        probabilities = self.law.probabilities(levels)
        cumulative = probabilities.cumsum(0)
        if not vector.any() or not cumulative[-1] > 0:
            return ZeroPayload(vector.numel())
        draw = torch.rand((), dtype=torch.float64, generator=generator) * cumulative[-1]
        level = int(torch.searchsorted(cumulative, draw, right=True)) + 1
        return _scaled_increment(levels, probabilities, level, vector.numel())

    def probabilities(self, vector: Tensor) -> Tensor:
        """Return the probabilities of the levels of ``vector``, shape (L,), float64."""
        return self.law.probabilities(self.ladder.levels(vector))

    def at_level(self, vector: Tensor, level: int) -> Payload:
        """Return what would be sent if ``level`` (1 to L) were drawn, without drawing."""
        levels = self.ladder.levels(vector)
        return _scaled_increment(levels, self.law.probabilities(levels), level, vector.numel())

    def variance(self, vector: Tensor) -> float:
        """Return E|C(v) - v|^2 = sum_l |increment_l|^2 / p_l - |v|^2, exactly (lemma 3.4)."""
        levels = self.ladder.levels(vector)
        norms = levels.norms()
        probabilities = self.law.probabilities(levels)[: len(norms)]
        present = norms > 0
        second_moment = (norms[present].square() / probabilities[present]).sum()
        return float(second_moment - vector.to(torch.float64).square().sum())

    def omega(self, dim: int) -> float | None:
        """The bound that the law gives on this ladder."""
        return self.law.omega(self.ladder, dim)

    def alpha(self, dim: int) -> None:
        """None: an unbiased compressor with omega >= 1 need not contract."""
        return None

    def paper_cost(self, dim: int) -> PaperCost:
        """The ladder's."""
        return self.ladder.paper_cost(dim)


def _scaled_increment(levels: Levels, probabilities: Tensor, level: int, dim: int) -> Payload:
    if len(levels) < level <= len(probabilities):
        return ZeroPayload(dim)
    return levels.increment(level).scaled(1 / float(probabilities[level - 1]))
