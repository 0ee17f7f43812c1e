"""Vectors said entry by entry: none, all, some, or some segments."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlmc_ray.kernels.adding import set_to_sum
from mlmc_ray.kernels.device import on_cpu
from mlmc_ray.kernels.subset import random_subset
from mlmc_ray.payloads.base import Payload, add_entries, check_shape, scaled_values


@dataclass(frozen=True, slots=True, eq=False)
class ZeroPayload(Payload):
    """The zero vector."""

    dim: int

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Check the shape; adding zero changes nothing."""
        check_shape(self, accumulator)

    def scaled(self, factor: float) -> "ZeroPayload":
        """Return itself."""
        return self


@dataclass(frozen=True, slots=True, eq=False)
class DensePayload(Payload):
    """Every entry: ``values`` has shape (dim,), any float dtype."""

    values: Tensor

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The number of entries."""
        return self.values.numel()

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Add in one pass over the vector."""
        check_shape(self, accumulator)
        accumulator.add_(self.values.to(accumulator), alpha=weight)

    def scaled(self, factor: float) -> "DensePayload":
        """Scale every entry."""
        return DensePayload(scaled_values(self.values, factor))

    def to_dense(self) -> Tensor:
        """Return ``values`` itself."""
        return self.values


@dataclass(frozen=True, slots=True, eq=False)
class SparsePayload(Payload):
    """Some entries: ``values[r]`` at ``indices[r]``, indices int64 and strictly ascending."""

    dim: int
    indices: Tensor
    values: Tensor

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Add in O(number of entries)."""
        check_shape(self, accumulator)
        add_entries(accumulator, self.indices, self.values, weight)

    def scaled(self, factor: float) -> "SparsePayload":
        """Scale the values."""
        return SparsePayload(self.dim, self.indices, scaled_values(self.values, factor))


def sum_payloads(accumulator: Tensor, payloads: Sequence[Payload], weight: float) -> None:
    """Set the accumulator to ``weight`` times the sum of the payloads, added up in their order.

    Args:
        accumulator: shape (d,), any float dtype, any device; modified in place.
        payloads: of d entries each.
        weight: rounded to the dtype of the accumulator, as values are.

    Raises:
        ValueError: a payload is of another size; nothing has been changed.
        IndexError: an index is out of range; others may have been added.
    """
    for payload in payloads:
        check_shape(payload, accumulator)
    sparse = [payload for payload in payloads if isinstance(payload, SparsePayload)]
    if (
        len(sparse) < len(payloads)
        or not sparse
        or not on_cpu(accumulator, torch.float32, torch.float64)
    ):
        accumulator.zero_()
        for payload in payloads:
            payload.add_to(accumulator, weight=weight)
        return
    set_to_sum(
        accumulator.numpy(),
        [payload.indices.cpu().numpy() for payload in sparse],
        [payload.values.to(accumulator).numpy() for payload in sparse],
        weight,
    )


@dataclass(frozen=True, slots=True, eq=False)
class SeededSparsePayload(Payload):
    """Some entries, at indices that both sides draw from ``seed``: none are sent.

    ``values`` are in ascending order of index; the indices are
    ``random_subset(seed, dim, len(values))``.
    """

    dim: int
    seed: int
    values: Tensor

    def indices(self) -> Tensor:
        """Draw the indices, int64, strictly ascending."""
        return torch.from_numpy(random_subset(self.seed, self.dim, self.values.numel()))

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Draw the indices, then add in O(number of entries)."""
        check_shape(self, accumulator)
        SparsePayload(self.dim, self.indices(), self.values).add_to(accumulator, weight)

    def scaled(self, factor: float) -> "SeededSparsePayload":
        """Scale the values."""
        return SeededSparsePayload(self.dim, self.seed, scaled_values(self.values, factor))


@dataclass(frozen=True, slots=True, eq=False)
class SegmentsPayload(Payload):
    """Whole segments of consecutive entries, the vector being cut every ``segment_size`` entries.

    ``segments`` are int64 and strictly ascending; ``values`` holds their entries one after the
    other. The last segment of the vector may be shorter than the others.
    """

    dim: int
    segment_size: int
    segments: Tensor
    values: Tensor

    def indices(self) -> Tensor:
        """Return the index of every value, int64, strictly ascending."""
        length = min(self.segment_size, self.values.numel())  # the last one alone may be shorter
        offsets = torch.arange(length, device=self.segments.device)
        indices = (self.segments[:, None] * self.segment_size + offsets).flatten()
        return indices[indices < self.dim]

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Add in O(number of entries)."""
        check_shape(self, accumulator)
        SparsePayload(self.dim, self.indices(), self.values).add_to(accumulator, weight)

    def scaled(self, factor: float) -> "SegmentsPayload":
        """Scale the values."""
        values = scaled_values(self.values, factor)
        return SegmentsPayload(self.dim, self.segment_size, self.segments, values)
