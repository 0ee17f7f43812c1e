"""Keeping entries at random, independently of each other, or one alone."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import PaperCost, check_finite, is_number
from mlmc_ray.kernels import sampling
from mlmc_ray.kernels.device import array_of, at_least_single, on_cpu
from mlmc_ray.kernels.tensors import sampling as tensors
from mlmc_ray.payloads import Payload, SparsePayload, ZeroPayload
from mlmc_ray.payloads.base import scaled_values

SMALLEST_PROBABILITY = 2.0**-32


@dataclass(frozen=True, kw_only=True, slots=True)
class Bernoulli:
    """Keep every entry independently with probability p, divided by p.

    Unbiased with omega = 1/p - 1, exactly, for every vector. The number of entries is random.

    Args:
        p: probability of an entry, in (0, 1].

    References:
        Khirirat et al., 2018, arXiv:1806.06573; Gorbunov et al., 2021, arXiv:2102.07845.
    """

    p: float

    def __post_init__(self) -> None:
        check_probability("p", self.p)

    @property
    def unbiased(self) -> bool:
        """True."""
        return True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the kept entries; float32 where the vector has half precision."""
        check_finite(vector)
        kept = _kept(vector, self.p, generator)
        if not isinstance(kept, SparsePayload):
            return kept
        values = scaled_values(at_least_single(kept.values), 1 / self.p)
        return SparsePayload(kept.dim, kept.indices, values)

    def omega(self, dim: int) -> float:
        """1/p - 1."""
        return 1 / self.p - 1

    def alpha(self, dim: int) -> None:
        """None: unbiased."""
        return None

    def paper_cost(self, dim: int) -> PaperCost:
        """p d numbers, expected; indices are not counted."""
        return PaperCost("64 p d", round(64 * self.p * dim))


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomSparse:
    """Keep every entry independently with probability p, as it is.

    Biased, with E|C(v) - v|^2 = (1 - p)|v|^2 for every vector.

    Args:
        p: probability of an entry, in (0, 1].

    References:
        "Biased random sparsification" of Beznosikov et al., 2020, arXiv:2002.12410.
    """

    p: float

    def __post_init__(self) -> None:
        check_probability("p", self.p)

    @property
    def unbiased(self) -> bool:
        """Only where everything is kept."""
        return self.p == 1

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the kept entries."""
        check_finite(vector)
        return _kept(vector, self.p, generator)

    def omega(self, dim: int) -> float | None:
        """None: biased, unless everything is kept."""
        return 0.0 if self.unbiased else None

    def alpha(self, dim: int) -> float:
        """The probability p."""
        return self.p

    def paper_cost(self, dim: int) -> PaperCost:
        """p d numbers, expected; indices are not counted."""
        return PaperCost("64 p d", round(64 * self.p * dim))


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveRandom:
    """Keep one entry, drawn with probability |v_j| / |v|_1, as it is.

    Biased, with E|C(v) - v|^2 = |v|^2 - sum |v_j|^3 / |v|_1.

    References:
        "Adaptive random sparsification" of Beznosikov et al., 2020, arXiv:2002.12410.
    """

    @property
    def unbiased(self) -> bool:
        """False."""
        return False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the entry."""
        check_finite(vector)
        ends = block_ends(vector)
        if ends[-1] == 0:
            return ZeroPayload(vector.numel())
        # Below 1, so that the rounded product is below the last end and falls on an entry.
        point = torch.rand(1, dtype=torch.float64, generator=generator) * ends[-1]
        place = find_in_proportion(vector, ends, point.numpy())
        return SparsePayload(vector.numel(), place, vector.detach()[place])

    def probabilities(self, vector: Tensor) -> Tensor:
        """Return the probability of every entry of a vector that is not zero, float64."""
        magnitudes = vector.to(torch.float64).abs()
        return magnitudes / magnitudes.sum()

    def omega(self, dim: int) -> None:
        """None: biased."""
        return None

    def alpha(self, dim: int) -> float:
        """1/d, attained when all magnitudes are equal."""
        return 1 / dim

    def paper_cost(self, dim: int) -> PaperCost:
        """One number; the index is not counted."""
        return PaperCost("64", 64)


def check_probability(name: str, probability: float) -> None:
    """Refuse what is no probability, or one so small that it could not be drawn well.

    Raises:
        ValueError: names the field and quotes the value.
    """
    if not (is_number(probability) and SMALLEST_PROBABILITY <= probability <= 1):
        raise ValueError(f"{name} is {probability!r}: give a probability, from 2^-32 to 1")


def block_ends(vector: Tensor) -> npt.NDArray[np.float64]:
    """Return the sums of |v_j| up to the end of every block of 4096, on the host."""
    return sampling.block_ends(array_of(vector)) if on_cpu(vector) else tensors.block_ends(vector)


def find_in_proportion(
    vector: Tensor, ends: npt.NDArray[np.float64], points: npt.NDArray[np.float64]
) -> Tensor:
    """Return the entries that ascending points fall on when all |v_j| are laid end to end.

    Args:
        vector: shape (d,), any float dtype, any device; not modified.
        ends: its ``block_ends``.
        points: see ``kernels.sampling.find_in_proportion``.

    Returns:
        int64, ascending, on the device of the vector.
    """
    if on_cpu(vector):
        return torch.from_numpy(sampling.find_in_proportion(array_of(vector), ends, points))
    return tensors.find_in_proportion(vector, ends, points)


def _kept(vector: Tensor, probability: float, generator: Generator) -> SparsePayload | ZeroPayload:
    """Return the entries drawn, without those that are zero."""
    dim = vector.numel()
    seed = int(torch.randint(1 << 62, (), generator=generator))
    if on_cpu(vector):
        indices = torch.from_numpy(sampling.bernoulli_subset(seed, dim, probability))
    else:
        indices = tensors.bernoulli_subset(seed, dim, probability, vector.device)
    values = vector.detach()[indices]
    count = int(torch.count_nonzero(values))
    if count == 0:
        return ZeroPayload(dim)
    if count < len(values):
        there = values != 0
        indices, values = indices[there], values[there]
    return SparsePayload(dim, indices, values)
