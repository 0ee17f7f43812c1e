"""The geometric ladder: every level doubles the number of entries, so there are few levels."""

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import EntryCount, check_count, count_of
from mlmc_ray.kernels.device import on_cpu
from mlmc_ray.kernels.magnitudes import magnitude_histogram
from mlmc_ray.kernels.select import entries_between, rank
from mlmc_ray.kernels.sums import segment_energies
from mlmc_ray.ladders.base import Levels, check_level
from mlmc_ray.ladders.sizes import VALUE_BITS, index_bits
from mlmc_ray.payloads import Payload, SparsePayload

_MANY_LEVELS = 32  # above it one sort is cheaper than a selection for every level


@dataclass(frozen=True, kw_only=True, slots=True)
class GeometricLadder:
    """Step l is Top-k with k = ``first`` 2^(l-1): about log2(d / first) levels.

    The last levels are long messages: half of the entries in the worst case. With ``tail_segment``
    a level that would add more entries than that adds ``tail_segment`` of them, and so does every
    level after it, so a message never has more.

    The increments are orthogonal, so with the adaptive law omega is at most the number of levels
    less one, whatever the vector.

    Attributes:
        first: entries of the first level.
        tail_segment: the most entries a level may add; None for no limit.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, section 3.2, for segments of one size.
    """

    has_own_law: ClassVar[bool] = False

    first: EntryCount
    tail_segment: EntryCount | None = None

    def __post_init__(self) -> None:
        check_count("first", self.first)
        if self.tail_segment is not None:
            check_count("tail_segment", self.tail_segment)

    def levels(self, vector: Tensor, *, generator: Generator | None = None) -> Levels:
        """Return the levels; entries are selected when first needed."""
        head, tail = self._sizes(vector.numel())
        return _GeometricLevels(vector, head, tail)

    def omega(self, dim: int) -> float:
        """Levels - 1: ceil(log2(d / first)) without ``tail_segment``."""
        head, tail = self._sizes(dim)
        return float(len(head) + _num_segments(dim - sum(head), tail) - 1)

    def paper_cost(self, dim: int) -> None:
        """None: the ladder is not in the paper."""
        return None

    def _sizes(self, dim: int) -> tuple[list[int], int]:
        """Return the sizes of the levels that double, and the size of those after them."""
        limit = dim if self.tail_segment is None else count_of(self.tail_segment, dim)
        sizes, size = [min(limit, count_of(self.first, dim))], count_of(self.first, dim)
        while (left := dim - sum(sizes)) > 0 and size <= limit:
            sizes.append(min(size, left))
            size *= 2
        return sizes, limit


def _num_segments(entries: int, size: int) -> int:
    return -(-entries // size)


class _GeometricLevels:
    def __init__(self, vector: Tensor, head: list[int], tail: int) -> None:
        self._vector = vector
        self._dim = vector.numel()
        self._tail = tail
        ends = torch.tensor(head).cumsum(0).tolist()
        self._ends = [*ends, *range(ends[-1] + tail, self._dim, tail)]
        if self._ends[-1] < self._dim:
            self._ends.append(self._dim)
        self._num_head = len(head)

    def __len__(self) -> int:
        return len(self._ends)

    @cached_property
    def _order(self) -> Tensor | None:
        """All entries by rank, where a sort is cheaper than selecting level by level."""
        selects = on_cpu(self._vector, torch.float32) and len(self) <= _MANY_LEVELS
        return None if selects else rank(self._vector.abs())

    @cached_property
    def _histogram(self) -> npt.NDArray[np.int64]:
        return magnitude_histogram(self._vector)

    def _indices(self, level: int) -> Tensor:
        start, end = self._ends[level - 2] if level > 1 else 0, self._ends[level - 1]
        if self._order is not None:
            return self._order[start:end].sort().values
        return entries_between(self._vector, start, end, self._histogram)

    def norms(self) -> Tensor:
        if self._order is None or len(self) <= _MANY_LEVELS:
            values = [self._vector[self._indices(level)] for level in range(1, len(self) + 1)]
            return torch.stack([_norm(part) for part in values]).cpu()
        ranked = self._vector[self._order]
        ends = self._ends[: self._num_head]
        head = [_norm(ranked[a:b]) for a, b in itertools.pairwise([0, *ends])]
        tail = segment_energies(ranked[ends[-1] :], self._tail).sqrt()
        return torch.cat([torch.stack(head), tail]).cpu()

    def costs(self) -> Tensor:
        sizes = torch.tensor([0, *self._ends], dtype=torch.float64).diff()
        return (VALUE_BITS + index_bits(self._dim)) * sizes

    def base(self) -> None:
        return None

    def increment(self, level: int) -> Payload:
        check_level(level, len(self))
        indices = self._indices(level)
        return SparsePayload(self._dim, indices, self._vector[indices])

    def own_law(self) -> None:
        return None


def _norm(values: Tensor) -> Tensor:
    return segment_energies(values, max(1, values.numel())).sum().sqrt()  # of one sum, or none
