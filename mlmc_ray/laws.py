"""Laws: with what probability each level of a ladder is drawn."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import is_number
from mlmc_ray.ladders.base import Ladder, Levels

_NO_OWN_LAW = (
    "law 'own': this ladder has no fixed law of its own; use 'adaptive', 'cost-aware' or 'given'"
)


@runtime_checkable
class LevelLaw(Protocol):
    """The probabilities of the levels."""

    def probabilities(self, levels: Levels) -> Tensor:
        """Return p_1, ..., p_L, float64, summing to 1; all zero where every increment is zero."""

    def omega(self, ladder: Ladder, dim: int) -> float | None:
        """Bound the relative variance of the estimator with this law; None where none holds."""


@dataclass(frozen=True, slots=True)
class OwnLaw:
    """The fixed law that theory gives the ladder (lemma 3.3 for fixed point): paper algorithm 2.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, equations 8 and 20, lemmas 3.3 and B.1.
    """

    def probabilities(self, levels: Levels) -> Tensor:
        """Return the ladder's law.

        Raises:
            ValueError: the ladder has none.
        """
        law = levels.own_law()
        if law is None:
            raise ValueError(_NO_OWN_LAW)
        return law

    def omega(self, ladder: Ladder, dim: int) -> float | None:
        """The ladder's bound."""
        return ladder.omega(dim)


@dataclass(frozen=True, slots=True)
class AdaptiveLaw:
    """p_l in proportion to the norm of increment l: the least variance (lemma 3.4), algorithm 3.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, lemma 3.4 and algorithm 3.
    """

    def probabilities(self, levels: Levels) -> Tensor:
        """Return the norms of the increments, normalised."""
        return _normalised(levels.norms())

    def omega(self, ladder: Ladder, dim: int) -> float | None:
        """The ladder's bound."""
        return ladder.omega(dim)


@dataclass(frozen=True, slots=True)
class CostAwareLaw:
    """p_l in proportion to the norm of increment l over the root of its cost in bits.

    It makes the product of second moment and expected cost the least, (sum_l norm_l cost_l^1/2)^2,
    by Cauchy-Schwarz. Where all levels cost the same it is the adaptive law.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, lemma 3.4, for equal costs; Giles, "Multilevel
        Monte Carlo Path Simulation", Operations Research, 2008, for the samples of other costs.
    """

    def probabilities(self, levels: Levels) -> Tensor:
        """Return the norms over the roots of the costs, normalised."""
        return _normalised(levels.norms() / levels.costs().sqrt())

    def omega(self, ladder: Ladder, dim: int) -> None:
        """None: it depends on how the costs differ."""
        return None


@dataclass(frozen=True, slots=True)
class GivenLaw:
    """Probabilities of one's own, one per level, each positive.

    Fewer levels than probabilities are allowed, since the number of fixed-point levels varies
    with the vector; the others then stand for increments of zero.

    Args:
        values: a probability for every level; they sum to 1.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, lemma 3.2: any positive probabilities do.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not all(is_number(value) for value in self.values):
            raise ValueError(f"values are {self.values!r}: give numbers")
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


def check_law(law: LevelLaw, ladder: Ladder) -> None:
    """Refuse a law that no vector can have on a ladder.

    Raises:
        ValueError: the law is the ladder's own, and the ladder has none.
    """
    if isinstance(law, OwnLaw) and not ladder.has_own_law:
        raise ValueError(_NO_OWN_LAW)


def inclusion_chances(probabilities: Tensor, expected: float) -> Tensor:
    """Return q_l = min(1, c p_l) that sum to ``expected``; 1 for all p_l > 0 if these are fewer.

    Args:
        probabilities: shape (L,), float64, not negative.
        expected: positive.
    """
    possible = probabilities > 0
    if int(possible.sum()) <= expected:
        return possible.to(torch.float64)
    ranked = probabilities.sort(descending=True).values
    rest = ranked.flip(0).cumsum(0).flip(0)  # of the r-th largest and all below it
    wanted = expected - torch.arange(len(ranked), dtype=torch.float64)
    fits = wanted * ranked <= rest  # the r largest are certain, and the next one need not be
    first = int(fits.nonzero()[0])
    factor = wanted[first] / rest[first]
    if torch.isinf(factor):  # the rest is so small that only ratios to it can be held
        return (wanted[first] * (probabilities / rest[first])).clamp(max=1)
    return (factor * probabilities).clamp(max=1)


def draw_levels(probabilities: Tensor, number: int, generator: Generator) -> list[int]:
    """Draw levels from 1 to L independently; none where all probabilities are zero."""
    if not (probabilities > 0).any():
        return []
    return levels_at(probabilities, torch.rand(number, dtype=torch.float64, generator=generator))


def levels_at(probabilities: Tensor, uniform: Tensor) -> list[int]:
    """Return the levels that uniform numbers give, by inverting the distribution function.

    Args:
        probabilities: shape (L,), float64, not all zero.
        uniform: shape (n,), float64, in [0, 1).

    Returns:
        n levels from 1 to L, of positive probability.
    """
    cumulative = probabilities.cumsum(0)
    found = torch.searchsorted(cumulative, uniform * cumulative[-1], right=True)
    levels: list[int] = (found + 1).tolist()
    return levels


def _normalised(weights: Tensor) -> Tensor:
    total = weights.sum()
    return weights / total if total > 0 else weights
