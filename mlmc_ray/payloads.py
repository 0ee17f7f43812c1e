"""What a message says about a vector: one class per representation.

A payload can add itself to a vector without the compressor that made it, so a worker may change
its compressor at any round and the receiver does not care. Floating-point fields keep the dtype of
the vector they came from; on the wire they are float32.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mlmc_ray.kernels.subset import random_subset


class Payload(ABC):
    """Something said, exactly and compactly, about a vector of shape (dim,)."""

    dim: int

    @abstractmethod
    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Add ``weight`` times the vector to ``accumulator`` (shape (dim,), modified in place)."""

    @abstractmethod
    def scaled(self, factor: float) -> "Payload":
        """Return the payload of ``factor`` times the vector."""

    def to_dense(self) -> Tensor:
        """Return the vector, shape (dim,); may share memory with the payload."""
        dense = torch.zeros(self.dim)
        self.add_to(dense)
        return dense


@dataclass(frozen=True, slots=True, eq=False)
class ZeroPayload(Payload):
    """The zero vector."""

    dim: int

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Check the shape; adding zero changes nothing."""
        _check_shape(self, accumulator)

    def scaled(self, factor: float) -> "ZeroPayload":
        """Return itself."""
        return self


@dataclass(frozen=True, slots=True, eq=False)
class DensePayload(Payload):
    """Every entry: ``values`` has shape (dim,)."""

    values: Tensor

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The number of entries."""
        return self.values.numel()

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Add in one pass over the vector."""
        _check_shape(self, accumulator)
        accumulator.add_(self.values, alpha=weight)

    def scaled(self, factor: float) -> "DensePayload":
        """Scale every entry."""
        return DensePayload(_scaled(self.values, factor))

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
        _check_shape(self, accumulator)
        accumulator.index_add_(0, self.indices, self.values.to(accumulator.dtype), alpha=weight)

    def scaled(self, factor: float) -> "SparsePayload":
        """Scale the values."""
        return SparsePayload(self.dim, self.indices, _scaled(self.values, factor))


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
        _check_shape(self, accumulator)
        indices = self.indices().to(self.values.device)
        SparsePayload(self.dim, indices, self.values).add_to(accumulator, weight)

    def scaled(self, factor: float) -> "SeededSparsePayload":
        """Scale the values."""
        return SeededSparsePayload(self.dim, self.seed, _scaled(self.values, factor))


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
        offsets = torch.arange(self.segment_size, device=self.segments.device)
        indices = (self.segments[:, None] * self.segment_size + offsets).flatten()
        return indices[indices < self.dim]

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Add in O(number of entries)."""
        _check_shape(self, accumulator)
        SparsePayload(self.dim, self.indices(), self.values).add_to(accumulator, weight)

    def scaled(self, factor: float) -> "SegmentsPayload":
        """Scale the values."""
        values = _scaled(self.values, factor)
        return SegmentsPayload(self.dim, self.segment_size, self.segments, values)


@dataclass(frozen=True, slots=True, eq=False)
class CodesPayload(Payload):
    """A whole number per entry: entry j is ``scale * codes[j]`` with ``|codes[j]| <= bound``.

    With bound 1 these are ternary symbols. ``codes`` has an integer dtype and shape (dim,);
    ``scale`` is rounded to float32, so that sender and receiver use the same number.
    """

    bound: int
    scale: float
    codes: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", float(np.float32(self.scale)))

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The number of entries."""
        return self.codes.numel()

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Add in one pass over the vector; each product is rounded once, from float64."""
        _check_shape(self, accumulator)
        exact = self.codes.to(torch.float64) * (self.scale * weight)
        accumulator.add_(exact.to(accumulator.dtype))

    def scaled(self, factor: float) -> "CodesPayload":
        """Scale the common scale."""
        return CodesPayload(self.bound, self.scale * factor, self.codes)


@dataclass(frozen=True, slots=True)
class Message:
    """What one side tells the other in a round: a few named payloads and scalars."""

    payloads: Mapping[str, Payload]
    scalars: Mapping[str, float] = field(default_factory=dict)


def _scaled(values: Tensor, factor: float) -> Tensor:
    """Round each product once; a factor such as 1/p may be too large for the values' dtype."""
    return (values.to(torch.float64) * factor).to(values.dtype)


def _check_shape(payload: Payload, accumulator: Tensor) -> None:
    if accumulator.shape != (payload.dim,):
        raise ValueError(
            f"a payload of dimension {payload.dim} cannot be added to a vector of shape "
            f"{tuple(accumulator.shape)}"
        )
