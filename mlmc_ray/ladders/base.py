"""The shape of a ladder.

A ladder is a family of compressors C^1, ..., C^L of growing quality with C^0 = 0 and C^L(v) = v.
Applied to a vector it gives levels; level l carries the increment C^l(v) - C^(l-1)(v), and the
increments of all levels sum to v (Zukerman et al., 2025, arXiv:2507.05508, definition 3.1).
"""

from typing import Protocol, runtime_checkable

from torch import Tensor

from mlmc_ray.compressors.base import PaperCost
from mlmc_ray.payloads import Payload


class Levels(Protocol):
    """The levels of one vector; work that they share is done once, when first needed."""

    def __len__(self) -> int:
        """The number of levels L, which may depend on the vector."""

    def norms(self) -> Tensor:
        """Return the norms of the increments, shape (L,), float64, on the CPU."""

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

    def levels(self, vector: Tensor) -> Levels:
        """Return the levels of a finite vector of shape (d,), any device; not modified."""

    def omega(self, dim: int) -> float:
        """Bound the relative variance of the MLMC estimator with its best known law."""

    def paper_cost(self, dim: int) -> PaperCost:
        """Return what the paper's formula says that one increment costs."""


def check_level(level: int, num_levels: int) -> None:
    """Refuse a level that the ladder does not have.

    Raises:
        ValueError: quotes the level and the range.
    """
    if not 1 <= level <= num_levels:
        raise ValueError(f"level is {level}: this vector has levels 1 to {num_levels}")
