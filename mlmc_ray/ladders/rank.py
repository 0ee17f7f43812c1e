"""The rank ladder: level l adds the l-th singular pair of the vector seen as a matrix."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import Context, check_whole
from mlmc_ray.compressors.low_rank import sides_of
from mlmc_ray.ladders.base import Levels, check_level
from mlmc_ray.ladders.sizes import VALUE_BITS
from mlmc_ray.payloads import LowRankPayload, Payload


@dataclass(frozen=True, kw_only=True, slots=True)
class RankLadder:
    """Step l is the truncated singular value decomposition of rank l.

    The vector is a matrix of ``rows`` rows, row by row; a layer of more than two dimensions is one
    of its first dimension by the rest, and one of fewer has one level, itself. Increments are
    sigma_l u_l w_l^T and orthogonal to each other, so with the adaptive law, p_l in proportion to
    sigma_l, the variance is (sum sigma)^2 - sum sigma^2. The decomposition takes
    O(d min(rows, columns)) operations, in float64: this ladder is for layers, not for whole models.

    Attributes:
        rows: at least 1; None for those of the layer, which ``bind`` sets where there is one layer,
            as within ``PerLayer``.

    References:
        Golub and Van Loan, "Matrix Computations", section 2.4 (truncation of the decomposition).
    """

    has_own_law: ClassVar[bool] = False

    rows: int | None = None

    def __post_init__(self) -> None:
        if self.rows is not None:
            check_whole("rows", self.rows, 1, advice=", or nothing for those of the layer")

    def bind(self, context: Context) -> "RankLadder":
        """Return the ladder with the rows of the layer, if it has none and there is one layer."""
        if self.rows is not None or len(context.layer_shapes) != 1:
            return self
        return replace(self, rows=sides_of(context.layer_shapes[0])[0])

    def levels(self, vector: Tensor, *, generator: Generator | None = None) -> Levels:
        """Return the levels; the decomposition is computed when first needed.

        Raises:
            ValueError: the vector cannot be cut into that many rows.
        """
        return _RankLevels(vector, self._rows(vector.numel()))

    def omega(self, dim: int) -> float:
        """The largest possible rank less one."""
        rows = self._rows(dim)
        return float(min(rows, dim // rows) - 1)

    def paper_cost(self, dim: int) -> None:
        """None: the ladder is not in the paper."""
        return None

    def _rows(self, dim: int) -> int:
        if self.rows is None:
            raise ValueError(
                f"rows is not given, and {dim} entries are not known to be one layer: use the "
                "ladder per layer (kind: per-layer, compressor: {kind: mlmc, ladder: rank}), or "
                "give rows"
            )
        if dim % self.rows:
            raise ValueError(
                f"rows is {self.rows}: {dim} entries cannot be cut into so many equal rows; give "
                "a divisor of the number of entries, or leave rows out within per-layer"
            )
        return self.rows


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
