"""The Top-k and s-Top-k ladders: level l adds the next entry, or the next segment of entries."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mlmc_ray.compressors.base import EntryCount, PaperCost, check_count, count_of
from mlmc_ray.compressors.topk import segment_energies, segments_of
from mlmc_ray.kernels.select import rank
from mlmc_ray.ladders.base import Levels, check_level
from mlmc_ray.payloads import Payload, SparsePayload


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentedTopKLadder:
    """Level l adds the segment of rank l: ceil(d/s) levels of s entries.

    Sorted (the paper's): the entries of magnitude rank (l-1)s+1 to ls, ties to the lower index.
    Contiguous: the segments of consecutive entries, in the order of the vector; their order does
    not matter to the estimator, and a message carries one index instead of s.

    The increments are orthogonal, so with the adaptive law omega <= ceil(d/s) - 1.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, sections 2.2 and 3.2, equations 56-60.
    """

    segment_size: EntryCount
    contiguous: bool = False

    def __post_init__(self) -> None:
        check_count("segment_size", self.segment_size)

    def levels(self, vector: Tensor) -> Levels:
        """Return the levels; the sort or the segment norms are computed when first needed."""
        size = count_of(self.segment_size, vector.numel())
        return _ContiguousLevels(vector, size) if self.contiguous else _SortedLevels(vector, size)

    def omega(self, dim: int) -> float:
        """ceil(d/s) - 1, from Cauchy-Schwarz on orthogonal increments."""
        return float(-(-dim // count_of(self.segment_size, dim)) - 1)

    def paper_cost(self, dim: int) -> PaperCost:
        """s numbers; the paper counts neither indices nor the scaling by 1/p."""
        return PaperCost("64 s", 64 * count_of(self.segment_size, dim))


@dataclass(frozen=True, kw_only=True, slots=True)
class TopKLadder:
    """Level l adds the entry of magnitude rank l: d levels of one entry.

    With the adaptive law this is importance sampling of coordinates in proportion to |v_j|, with
    variance |v|_1^2 - |v|^2.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, section 3.2.
    """

    def levels(self, vector: Tensor) -> Levels:
        """Return the levels; the sort is done when first needed."""
        return _SortedLevels(vector, 1)

    def omega(self, dim: int) -> float:
        """d - 1, attained when all magnitudes are equal."""
        return float(dim - 1)

    def paper_cost(self, dim: int) -> PaperCost:
        """One number."""
        return PaperCost("64", 64)


class _ContiguousLevels:
    def __init__(self, vector: Tensor, segment_size: int) -> None:
        self._vector = vector
        self._size = segment_size

    def __len__(self) -> int:
        return -(-self._vector.numel() // self._size)

    def norms(self) -> Tensor:
        return segment_energies(self._vector, self._size).sqrt_().cpu()

    def increment(self, level: int) -> Payload:
        check_level(level, len(self))
        segment = torch.tensor([level - 1], device=self._vector.device)
        return segments_of(self._vector, self._size, segment)

    def own_law(self) -> None:
        return None


class _SortedLevels:
    def __init__(self, vector: Tensor, segment_size: int) -> None:
        self._vector = vector
        self._size = segment_size

    @cached_property
    def _order(self) -> Tensor:
        return rank(self._vector.abs())

    def __len__(self) -> int:
        return -(-self._vector.numel() // self._size)

    def norms(self) -> Tensor:
        return segment_energies(self._vector[self._order], self._size).sqrt_().cpu()

    def increment(self, level: int) -> Payload:
        check_level(level, len(self))
        ranked = self._order[(level - 1) * self._size : level * self._size]
        indices = ranked.sort().values
        return SparsePayload(self._vector.numel(), indices, self._vector[indices])

    def own_law(self) -> None:
        return None
