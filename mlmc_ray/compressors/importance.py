"""Drawing entries in proportion to their magnitudes, and sending little more than their signs."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import (
    DrawCount,
    EntryCount,
    PaperCost,
    check_count,
    check_draws,
    check_finite,
    count_of,
)
from mlmc_ray.compressors.random_sparse import block_ends, find_in_proportion
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels import sampling
from mlmc_ray.kernels.device import array_of, on_cpu
from mlmc_ray.kernels.tensors import sampling as tensors
from mlmc_ray.kernels.thresholds import full_magnitude
from mlmc_ray.payloads import (
    CodesPayload,
    Payload,
    ScatteredPayload,
    SparsePayload,
    SumPayload,
    ZeroPayload,
)

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportanceSampled:
    """Draw an entry k times with probability |v_j| / |v|_1; send |v|_1 / k and signed counts.

    Unbiased, with variance (|v|_1^2 - |v|^2) / k. The scale |v|_1 / k is rounded up to float32 and
    every draw falls on no entry with the small probability that this leaves, so the mean is exact.

    Args:
        draws: how many: a number from 1, or that over the number of entries, in (0, 1).

    References:
        The one-entry ladder of Zukerman et al., 2025, arXiv:2507.05508, section 3.2, with k levels
        drawn; one draw is Alistarh et al., 2017, arXiv:1610.02132, with the 1-norm.
    """

    draws: DrawCount

    def __post_init__(self) -> None:
        check_draws("draws", self.draws)

    @property
    def unbiased(self) -> bool:
        """True."""
        return True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the entries drawn, each with how often it was drawn and its sign."""
        check_finite(vector)
        vector = vector.detach()
        dim = vector.numel()
        draws = _num_draws(self.draws, dim)
        ends = block_ends(vector)
        if ends[-1] == 0:
            return ZeroPayload(dim)
        scale = _rounded_up(ends[-1] / draws)
        points = torch.rand(draws, dtype=torch.float64, generator=generator).numpy()
        points.sort()
        drawn = find_in_proportion(vector, ends, points * (draws * scale))
        if not len(drawn):
            return ZeroPayload(dim)
        places, counts = torch.unique_consecutive(drawn, return_counts=True)
        small = torch.int8 if int(counts.max()) <= torch.iinfo(torch.int8).max else torch.int32
        codes = (counts * vector[places].sign().long()).to(small)
        return _scattered(vector, places, codes, scale)

    def probabilities(self, vector: Tensor) -> Tensor:
        """Return the probability of every entry in one draw, float64; they may sum to less than 1.

        Args:
            vector: shape (d,), not zero.
        """
        draws = _num_draws(self.draws, vector.numel())
        norm = float(block_ends(vector)[-1])
        return vector.to(torch.float64).abs() / (draws * _rounded_up(norm / draws))

    def omega(self, dim: int) -> float:
        """(d - 1)/k, attained when all magnitudes are equal."""
        return (dim - 1) / _num_draws(self.draws, dim)

    def alpha(self, dim: int) -> None:
        """None: unbiased."""
        return None

    def paper_cost(self, dim: int) -> PaperCost:
        """One number and k signs; indices are not counted."""
        return PaperCost("64 + k", 64 + _num_draws(self.draws, dim))


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimalSparse:
    """Keep entries with the probabilities of least variance for a mean number k of them.

    Those are p_j = min(1, |v_j| / t), where t makes their sum k. An entry below t is sent as t or
    -t: a sign; one above t is always sent, as it is. The scale t is rounded up to float32, and the
    probabilities are those of the rounded one, so the mean is exact and the sum is at most k.

    ``systematic`` draws the entries below t not independently, but so that their number is the sum
    of their probabilities, rounded up or down: k entries, hardly ever k - 1. The probabilities
    stay, and with them the mean and the variance.

    Args:
        k: how many entries to keep on average: a number of entries from 1, or the fraction of all,
            in (0, 1).
        systematic: keep k entries, or hardly ever k - 1, instead of drawing each on its own.

    References:
        Wangni et al., 2018, arXiv:1710.09854.
    """

    k: EntryCount
    systematic: bool = False

    def __post_init__(self) -> None:
        check_count("k", self.k)

    @property
    def unbiased(self) -> bool:
        """True."""
        return True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the entries that are sure, and the signs of those that were drawn."""
        check_finite(vector)
        vector = vector.detach()
        dim, scale = vector.numel(), self._scale(vector)
        if scale == 0:
            places = torch.nonzero(vector).flatten()
            return _sparse(vector, places) if len(places) else ZeroPayload(dim)
        if self.systematic:
            start = float(torch.rand((), dtype=torch.float64, generator=generator))
            places = _systematic(vector, scale, start)
        else:
            seed = int(torch.randint(1 << 62, (), generator=generator))
            places = _bernoulli(vector, scale, seed)
        sure = vector[places].to(torch.float64).abs() >= scale
        drawn = places[~sure]
        parts: list[Payload] = []
        if sure.any():
            parts.append(_sparse(vector, places[sure]))
        if len(drawn):
            parts.append(_scattered(vector, drawn, vector[drawn].sign().to(torch.int8), scale))
        if len(parts) < 2:
            return parts[0] if parts else ZeroPayload(dim)
        return SumPayload(tuple(parts))

    def probabilities(self, vector: Tensor) -> Tensor:
        """Return the probability of every entry of a vector that is not zero, float64."""
        scale = self._scale(vector)
        magnitudes = vector.to(torch.float64).abs()
        return (magnitudes / scale).clamp(max=1) if scale else magnitudes.sign()

    def omega(self, dim: int) -> float:
        """d/k - 1, attained when all magnitudes are equal."""
        return dim / count_of(self.k, dim) - 1

    def alpha(self, dim: int) -> None:
        """None: unbiased."""
        return None

    def paper_cost(self, dim: int) -> PaperCost:
        """k numbers at most; indices are not counted."""
        return PaperCost("64 k", 64 * count_of(self.k, dim))

    def _scale(self, vector: Tensor) -> float:
        """Return t, or 0 where every entry that is not zero is sure."""
        k = count_of(self.k, vector.numel())
        if int(torch.count_nonzero(vector)) <= k:
            return 0.0
        if on_cpu(vector):
            return _rounded_up(full_magnitude(array_of(vector), k))
        return _rounded_up(tensors.full_magnitude(vector, k))


def _num_draws(draws: DrawCount, dim: int) -> int:
    """Return how many draws are meant: unlike entries, there may be more than ``dim`` of them."""
    return draws if isinstance(draws, int) else count_of(draws, dim)


def _rounded_up(scale: float) -> float:
    """Return the smallest float32 that is not below a positive number.

    Raises:
        NonFiniteError: there is none.
    """
    if scale > _LARGEST:
        raise NonFiniteError(
            f"the entries add up to a scale of {scale}, beyond the largest float32: scale them down"
        )
    rounded = np.float32(scale)
    if float(rounded) < scale:
        rounded = np.nextafter(rounded, np.float32(_LARGEST))
    return float(rounded)


def _systematic(vector: Tensor, scale: float, start: float) -> Tensor:
    if on_cpu(vector):
        kept = sampling.systematic_in_proportion(array_of(vector), scale, start)
        return torch.from_numpy(kept)
    return tensors.systematic_in_proportion(vector, scale, start)


def _bernoulli(vector: Tensor, scale: float, seed: int) -> Tensor:
    if on_cpu(vector):
        return torch.from_numpy(sampling.bernoulli_in_proportion(array_of(vector), scale, seed))
    return tensors.bernoulli_in_proportion(vector, scale, seed)


def _sparse(vector: Tensor, places: Tensor) -> SparsePayload:
    return SparsePayload(vector.numel(), places, vector[places])


def _scattered(vector: Tensor, places: Tensor, codes: Tensor, scale: float) -> ScatteredPayload:
    return ScatteredPayload(vector.numel(), places, CodesPayload.on_grid(codes, scale))
