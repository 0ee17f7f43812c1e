"""The shape of a ladder.

A ladder is a family of compressors C^0, C^1, ..., C^L of growing quality with C^L(v) = v. Applied
to a vector it gives levels; level l carries the increment C^l(v) - C^(l-1)(v), and the base C^0(v),
zero for most ladders, and the increments of all levels sum to v (Zukerman et al., 2025,
arXiv:2507.05508, definition 3.1). Where the last step is random, its expectation is v, which does
as well: the estimator is unbiased whenever the draw of the level is independent of it.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import Context, PaperCost
from mlmc_ray.payloads import Payload


class Levels(Protocol):
    """The levels of one vector; work that they share is done once, when first needed."""

    def __len__(self) -> int:
        """The number of levels L, which may depend on the vector."""

    def norms(self) -> Tensor:
        """Return the norms of the increments, shape (L,), float64, on the CPU."""

    def costs(self) -> Tensor:
        """Return about how many bits each increment takes, shape (L,), float64, positive."""

    def base(self) -> Payload | None:
        """Return C^0(v), which is sent whatever the level; None where it is zero."""

    def increment(self, level: int) -> Payload:
        """Return C^level(v) - C^(level-1)(v).

        Args:
            level: 1 to L.
        """

    def own_law(self) -> Tensor | None:
        """Return the fixed probabilities that theory gives this ladder, shape (L,), or None."""


@runtime_checkable
class Ladder(Protocol):
    """A frozen value that turns a vector into levels."""

    @property
    def has_own_law(self) -> bool:
        """Whether ``Levels.own_law`` gives probabilities, for every vector, or None."""

    def levels(self, vector: Tensor, *, generator: Generator | None = None) -> Levels:
        """Return the levels of a finite vector of shape (d,), any device; not modified.

        Args:
            vector: shape (d,).
            generator: for ladders whose steps are random; without one they draw from a fixed seed,
                so that repeated calls agree.
        """

    def omega(self, dim: int) -> float | None:
        """Bound the relative variance of one draw with the adaptive or the ladder's own law.

        It counts what a random top adds. None where no bound is known.
        """

    def paper_cost(self, dim: int) -> PaperCost | None:
        """Return what the paper's formula says that one increment costs; None where it has none."""


@runtime_checkable
class BindableLadder(Protocol):
    """A ladder made of compressors that need to know where they are used."""

    def bind(self, context: Context) -> Ladder:
        """Return the ladder for this worker and round."""


def bound_ladder(ladder: Ladder, context: Context) -> Ladder:
    """Return a ladder as it is to be used in a context; most are the same everywhere."""
    return ladder.bind(context) if isinstance(ladder, BindableLadder) else ladder


@runtime_checkable
class RandomTopLadder(Protocol):
    """A ladder whose highest step may be random: an unbiased estimate of the vector."""

    def top_omega(self, dim: int) -> float | None:
        """Bound w of E|C^L(v) - v|^2 <= w|v|^2, 0 where it is exact; None where none is known."""


def top_omega(ladder: Ladder, dim: int) -> float | None:
    """Return the relative variance of the highest step, which no number of draws reduces.

    0 for a ladder that does not say: its highest step is the vector.
    """
    return ladder.top_omega(dim) if isinstance(ladder, RandomTopLadder) else 0.0


def halving_law(num_levels: int) -> Tensor:
    """Return p_l = 2^-l / (1 - 2^-L) for l = 1 to L, the law of binary digits.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, equations 8 and 20.
    """
    weights = 2.0 ** -torch.arange(1, num_levels + 1, dtype=torch.float64)
    return weights / weights.sum()


def fixed_generator() -> Generator:
    """Return the generator of fixed seed that stands in where none is given."""
    return Generator().manual_seed(0)


def check_level(level: int, num_levels: int) -> None:
    """Refuse a level that the ladder does not have.

    Raises:
        ValueError: quotes the level and the range.
    """
    if not 1 <= level <= num_levels:
        raise ValueError(f"level is {level}: this vector has levels 1 to {num_levels}")
