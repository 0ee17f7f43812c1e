"""The Top-k and s-Top-k ladders: level l adds the next entry, or the next segment of entries."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import EntryCount, PaperCost, check_count, count_of
from mlmc_ray.compressors.topk import segments_of
from mlmc_ray.kernels.magnitudes import magnitude_histogram, rank_energies
from mlmc_ray.kernels.select import entries_between, rank
from mlmc_ray.kernels.sums import segment_energies
from mlmc_ray.ladders.base import Levels, check_level
from mlmc_ray.ladders.sizes import VALUE_BITS, index_bits
from mlmc_ray.payloads import Payload, SparsePayload

_MANY = 1 << 16  # entries, from which a histogram is quicker than a sort
_LONG = 16  # entries of a segment, below which a histogram says too little of it


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentedTopKLadder:
    """Level l adds the segment of rank l: ceil(d/s) levels of s entries.

    Sorted (the paper's): the entries of magnitude rank (l-1)s+1 to ls, ties to the lower index.
    Contiguous: the segments of consecutive entries, in the order of the vector; their order does
    not matter to the estimator, and a message carries one index instead of s.

    Sorting is slow for a long vector. From 65,536 float32 entries on, in segments of at least 16,
    the segments are found by counting magnitudes, exactly, and their norms are read from a
    histogram, each within 0.2% of the exact one (except of subnormal numbers). Any positive
    probabilities make the estimator unbiased, so that changes its variance by far less than a per
    cent, and nothing else.

    The increments are orthogonal, so with the adaptive law omega <= ceil(d/s) - 1.

    Args:
        segment_size: entries a segment: a number from 1, or the fraction of all, in (0, 1).
        contiguous: segments are of neighbours, instead of the entries in order of magnitude.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, sections 2.2 and 3.2, equations 56-60.
    """

    has_own_law: ClassVar[bool] = False

    segment_size: EntryCount
    contiguous: bool = False

    def __post_init__(self) -> None:
        check_count("segment_size", self.segment_size)

    def levels(self, vector: Tensor, *, generator: Generator | None = None) -> Levels:
        """Return the levels; the sort or the segment norms are computed when first needed."""
        size = count_of(self.segment_size, vector.numel())
        if self.contiguous:
            return _ContiguousLevels(vector, size)
        counted = vector.dtype == torch.float32 and vector.numel() >= _MANY and size >= _LONG
        if counted:
            return _HistogramLevels(vector, size)
        return _SortedLevels(vector, size)

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
    variance |v|_1^2 - |v|^2. Where the order of the levels does not matter, as to that estimator,
    ``SegmentedTopKLadder(segment_size=1, contiguous=True)`` has the same law without a sort.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, section 3.2.
    """

    has_own_law: ClassVar[bool] = False

    def levels(self, vector: Tensor, *, generator: Generator | None = None) -> Levels:
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

    def costs(self) -> Tensor:
        sizes = equal_sizes(self._vector.numel(), self._size)
        return VALUE_BITS * sizes + index_bits(len(self))

    def base(self) -> None:
        return None

    def increment(self, level: int) -> Payload:
        check_level(level, len(self))
        segment = torch.full((1,), level - 1, device=self._vector.device)
        return segments_of(self._vector, self._size, segment)

    def own_law(self) -> None:
        return None


class _RankedLevels(ABC):
    """Segments of the entries by decreasing magnitude, however they are found."""

    def __init__(self, vector: Tensor, segment_size: int) -> None:
        self._vector = vector
        self._dim = vector.numel()
        self._size = segment_size

    @abstractmethod
    def _indices(self, low: int, high: int) -> Tensor:
        """Return the positions of the entries of rank ``low`` to ``high - 1``, ascending."""

    @abstractmethod
    def norms(self) -> Tensor:
        """See ``Levels.norms``."""

    def __len__(self) -> int:
        return -(-self._dim // self._size)

    def costs(self) -> Tensor:
        return (VALUE_BITS + index_bits(self._dim)) * equal_sizes(self._dim, self._size)

    def base(self) -> None:
        return None

    def increment(self, level: int) -> Payload:
        """See ``Levels.increment``."""
        check_level(level, len(self))
        indices = self._indices((level - 1) * self._size, min(self._dim, level * self._size))
        return SparsePayload(self._dim, indices, self._vector[indices])

    def own_law(self) -> None:
        return None


class _SortedLevels(_RankedLevels):
    @cached_property
    def _order(self) -> Tensor:
        return rank(self._vector.abs())

    def _indices(self, low: int, high: int) -> Tensor:
        return self._order[low:high].sort().values

    def norms(self) -> Tensor:
        return segment_energies(self._vector[self._order], self._size).sqrt_().cpu()


class _HistogramLevels(_RankedLevels):
    """The levels of a long vector, without a sort."""

    @cached_property
    def _counts(self) -> npt.NDArray[np.int64]:
        return magnitude_histogram(self._vector)

    def _indices(self, low: int, high: int) -> Tensor:
        return entries_between(self._vector, low, high, self._counts)

    def norms(self) -> Tensor:
        """Take every entry to be in the middle of its bin.

        Only positive terms are added: a difference of running sums would lose small levels, and a
        level of no probability would be a bias.
        """
        return torch.from_numpy(np.sqrt(rank_energies(self._counts, self._size)))


def equal_sizes(dim: int, size: int) -> Tensor:
    """Return the sizes of segments of ``size`` entries, the last maybe shorter; float64."""
    sizes = torch.full((-(-dim // size),), float(size), dtype=torch.float64)
    if dim % size:
        sizes[-1] = dim % size
    return sizes
