"""Top-k and segmented Top-k: keep the largest entries, or the largest segments."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import (
    EntryCount,
    PaperCost,
    SegmentCount,
    check_count,
    check_vector,
    check_whole,
    count_of,
    peak_of,
)
from mlmc_ray.kernels.select import largest, largest_entries
from mlmc_ray.kernels.sums import segment_energies
from mlmc_ray.payloads import Payload, SegmentsPayload, SparsePayload, ZeroPayload


@dataclass(frozen=True, kw_only=True, slots=True)
class TopK:
    """Keep the k entries of largest magnitude; ties go to the lower index.

    Deterministic and biased, with alpha = k/d.

    Args:
        k: how many entries to keep: a number of entries from 1, or the fraction of all, in (0, 1).

    References:
        Zukerman et al., 2025, arXiv:2507.05508, section 2.2.
    """

    k: EntryCount

    def __post_init__(self) -> None:
        check_count("k", self.k)

    @property
    def unbiased(self) -> bool:
        """False."""
        return False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the kept entries; the generator is not used."""
        if not peak_of(vector):
            return ZeroPayload(vector.numel())
        indices = largest_entries(vector, count_of(self.k, vector.numel()))
        return SparsePayload(vector.numel(), indices, vector.detach()[indices])

    def omega(self, dim: int) -> None:
        """None: biased."""
        return None

    def alpha(self, dim: int) -> float:
        """k/d, attained when all magnitudes are equal."""
        return count_of(self.k, dim) / dim

    def paper_cost(self, dim: int) -> PaperCost:
        """k numbers; the paper counts no indices."""
        return PaperCost("64 k", 64 * count_of(self.k, dim))


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentedTopK:
    """s-Top-k: cut the entries into segments and keep the k segments of largest norm.

    The paper cuts the list *sorted by magnitude*, so that its s-Top-k keeps the min(ks, d) largest
    entries; the segment size then matters as the grain of the multilevel ladder only. The
    contiguous variant cuts the vector in its own order: one index a segment instead of one an
    entry, for a larger error.

    Args:
        k: how many segments to keep, at least 1.
        segment_size: entries a segment: a number from 1, or the fraction of all, in (0, 1).
        contiguous: segments are of neighbours, instead of the entries in order of magnitude.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, section 2.2 and appendix D.
    """

    k: SegmentCount
    segment_size: EntryCount
    contiguous: bool = False

    def __post_init__(self) -> None:
        check_count("segment_size", self.segment_size)
        check_whole("k", self.k, 1, advice=" segment")

    @property
    def unbiased(self) -> bool:
        """False."""
        return False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the kept segments; the generator is not used."""
        check_vector(vector)
        if not self.contiguous:
            return TopK(k=max(1, self._kept(vector.numel()))).compress(vector, generator=generator)
        dim, size = vector.numel(), count_of(self.segment_size, vector.numel())
        if not peak_of(vector):
            return ZeroPayload(dim)
        energies = segment_energies(vector, size)
        return segments_of(vector, size, largest(energies, min(self.k, len(energies))))

    def omega(self, dim: int) -> None:
        """None: biased."""
        return None

    def alpha(self, dim: int) -> float:
        """Kept entries over d when sorted; kept segments over all segments when contiguous."""
        if not self.contiguous:
            return self._kept(dim) / dim
        num_segments = -(-dim // count_of(self.segment_size, dim))
        return min(self.k, num_segments) / num_segments

    def paper_cost(self, dim: int) -> PaperCost:
        """k times s numbers; the paper counts no indices."""
        return PaperCost("64 k s", 64 * self._kept(dim))

    def _kept(self, dim: int) -> int:
        return min(dim, self.k * count_of(self.segment_size, dim))


def segments_of(vector: Tensor, segment_size: int, segments: Tensor) -> SegmentsPayload:
    """Return the payload of the given segments (int64, ascending) of a vector."""
    dim = vector.numel()
    offsets = torch.arange(segment_size, device=segments.device)
    indices = (segments[:, None] * segment_size + offsets).flatten()
    values = vector.detach()[indices[indices < dim]]  # the last segment may be shorter
    return SegmentsPayload(dim, segment_size, segments, values)
