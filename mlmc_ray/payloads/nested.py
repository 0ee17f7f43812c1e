"""Payloads made of payloads: parts side by side, sums, vectors inside others, rotated vectors."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mlmc_ray.kernels.device import on_cpu
from mlmc_ray.kernels.hadamard import unrotate
from mlmc_ray.kernels.subset import random_subset
from mlmc_ray.kernels.tensors import hadamard as tensors
from mlmc_ray.payloads.base import Payload, add_entries, check_shape, scaled_values


@dataclass(frozen=True, slots=True, eq=False)
class ConcatPayload(Payload):
    """Vectors one after the other, such as the layers of a model; at least one."""

    parts: tuple[Payload, ...]

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The sum of the parts' dimensions."""
        return sum(part.dim for part in self.parts)

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Add every part to its range."""
        check_shape(self, accumulator)
        start = 0
        for part in self.parts:
            part.add_to(accumulator[start : start + part.dim], weight)
            start += part.dim

    def scaled(self, factor: float) -> "ConcatPayload":
        """Scale every part."""
        return ConcatPayload(tuple(part.scaled(factor) for part in self.parts))


@dataclass(frozen=True, slots=True, eq=False)
class SumPayload(Payload):
    """The sum of vectors of one dimension; at least one."""

    parts: tuple[Payload, ...]

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The dimension of every part."""
        return self.parts[0].dim

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Add the parts, in their order."""
        for part in self.parts:
            part.add_to(accumulator, weight)

    def scaled(self, factor: float) -> "SumPayload":
        """Scale every part."""
        return SumPayload(tuple(part.scaled(factor) for part in self.parts))


@dataclass(frozen=True, slots=True, eq=False)
class ScatteredPayload(Payload):
    """A shorter vector at some entries: entry r of ``inner`` at ``indices[r]``, ascending int64."""

    dim: int
    indices: Tensor
    inner: Payload

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Build the shorter vector, then add in O(number of entries)."""
        check_shape(self, accumulator)
        values = _values(self.inner, accumulator, weight)
        add_entries(accumulator, self.indices, values, 1.0)

    def scaled(self, factor: float) -> "ScatteredPayload":
        """Scale the shorter vector."""
        return ScatteredPayload(self.dim, self.indices, self.inner.scaled(factor))


@dataclass(frozen=True, slots=True, eq=False)
class SeededScatteredPayload(Payload):
    """A shorter vector at entries that both sides draw from ``seed``: none are sent.

    The entries are ``random_subset(seed, dim, inner.dim)``.
    """

    dim: int
    seed: int
    inner: Payload

    def indices(self) -> Tensor:
        """Draw the indices, int64, strictly ascending."""
        return torch.from_numpy(random_subset(self.seed, self.dim, self.inner.dim))

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Draw the indices, then add in O(number of entries)."""
        check_shape(self, accumulator)
        ScatteredPayload(self.dim, self.indices(), self.inner).add_to(accumulator, weight)

    def scaled(self, factor: float) -> "SeededScatteredPayload":
        """Scale the shorter vector."""
        return SeededScatteredPayload(self.dim, self.seed, self.inner.scaled(factor))


@dataclass(frozen=True, slots=True, eq=False)
class RotatedPayload(Payload):
    """A vector said after a random rotation, which both sides draw from ``seed``.

    The rotation is ``kernels.hadamard.rotate``; ``inner`` is the rotated vector.
    """

    seed: int
    inner: Payload

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The dimension of the rotated vector, which is that of the vector."""
        return self.inner.dim

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Build the rotated vector, rotate back, add."""
        check_shape(self, accumulator)
        rotated = torch.zeros(self.dim, device=accumulator.device)
        self.inner.add_to(rotated)
        if on_cpu(rotated):
            vector = torch.from_numpy(unrotate(rotated.numpy(), self.seed))
        else:
            vector = tensors.unrotate(rotated, self.seed)
        accumulator.add_(vector.to(accumulator), alpha=weight)

    def scaled(self, factor: float) -> "RotatedPayload":
        """Scale the rotated vector."""
        return RotatedPayload(self.seed, self.inner.scaled(factor))


@dataclass(frozen=True, slots=True, eq=False)
class LowRankPayload(Payload):
    """A matrix ``left @ right.T``, row by row.

    ``left`` has shape (rows, rank), ``right`` (columns, rank); the rank is at least 1.
    """

    left: Tensor
    right: Tensor

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Rows times columns."""
        return len(self.left) * len(self.right)

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Add the product of the factors."""
        check_shape(self, accumulator)
        left, right = self.left.to(accumulator), self.right.to(accumulator)
        accumulator.view(len(left), -1).addmm_(left, right.T, alpha=weight)

    def scaled(self, factor: float) -> "LowRankPayload":
        """Scale the left factor."""
        return LowRankPayload(scaled_values(self.left, factor), self.right)


def _values(inner: Payload, like: Tensor, weight: float) -> Tensor:
    values = torch.zeros(inner.dim, dtype=like.dtype, device=like.device)
    inner.add_to(values, weight)
    return values
