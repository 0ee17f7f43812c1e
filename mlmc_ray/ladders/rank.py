"""The rank ladder: level l adds the l-th singular pair of the vector seen as a matrix."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from mlmc_ray.ladders.base import Levels, check_level
from mlmc_ray.ladders.sizes import VALUE_BITS
from mlmc_ray.payloads import LowRankPayload, Payload


@dataclass(frozen=True, kw_only=True, slots=True)
class RankLadder:
    """Step l is the truncated singular value decomposition of rank l.

    The vector is a matrix of ``rows`` rows, row by row. Increments are sigma_l u_l w_l^T and
    orthogonal to each other, so with the adaptive law, p_l in proportion to sigma_l, the variance
    is (sum sigma)^2 - sum sigma^2. The decomposition takes O(d min(rows, columns)) operations, in
    float64: this ladder is for layers, not for whole models.

    References:
        Golub and Van Loan, "Matrix Computations", section 2.4 (truncation of the decomposition).
    """

    rows: int

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows is {self.rows!r}: give at least 1")

    def levels(self, vector: Tensor, *, generator: Generator | None = None) -> Levels:
        """Return the levels; the decomposition is computed when first needed.

        Raises:
            ValueError: the vector cannot be cut into that many rows.
        """
        self._check(vector.numel())
        return _RankLevels(vector, self.rows)

    def omega(self, dim: int) -> float:
        """The largest possible rank less one."""
        self._check(dim)
        return float(min(self.rows, dim // self.rows) - 1)

    def paper_cost(self, dim: int) -> None:
        """None: the ladder is not in the paper."""
        return None

    def _check(self, dim: int) -> None:
        if dim % self.rows:
            raise ValueError(
                f"rows is {self.rows}: {dim} entries cannot be cut into so many equal rows; give "
                "a divisor of the number of entries"
            )


class _RankLevels:
    def __init__(self, vector: Tensor, rows: int) -> None:
        self._dtype = torch.promote_types(vector.dtype, torch.float32)
        self._matrix = vector.reshape(rows, -1)

    @cached_property
    def _factors(self) -> tuple[Tensor, Tensor, Tensor]:
        left, sizes, right = torch.linalg.svd(self._matrix.to(torch.float64), full_matrices=False)
        return left, sizes, right

    def __len__(self) -> int:
        return min(self._matrix.shape)

    def norms(self) -> Tensor:
        return self._factors[1].cpu()

    def costs(self) -> Tensor:
        bits = float(VALUE_BITS * sum(self._matrix.shape))
        return torch.full((len(self),), bits, dtype=torch.float64)

    def base(self) -> None:
        return None

    def increment(self, level: int) -> Payload:
        check_level(level, len(self))
        left, sizes, right = self._factors
        column = left[:, level - 1 : level] * sizes[level - 1]
        return LowRankPayload(column.to(self._dtype), right[level - 1, :, None].to(self._dtype))

    def own_law(self) -> None:
        return None
