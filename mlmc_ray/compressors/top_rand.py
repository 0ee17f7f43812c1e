"""Top-k and Rand-k in one: the largest entries as they are, and some of the others at random."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import (
    EntryCount,
    PaperCost,
    check_count,
    count_of,
    is_number,
    peak_of,
)
from mlmc_ray.compressors.rounding import draw_seed
from mlmc_ray.kernels.device import at_least_single
from mlmc_ray.kernels.select import largest_entries
from mlmc_ray.kernels.subset import random_subset
from mlmc_ray.payloads import Payload, SeededSparsePayload, SparsePayload, SumPayload, ZeroPayload
from mlmc_ray.payloads.base import scaled_values

_Positions = npt.NDArray[np.int64]

_SEED_BITS = 100  # of the seed and of the second part of a message, as it is on the wire


@dataclass(frozen=True, kw_only=True, slots=True)
class TopRand:
    """Keep the largest entries as they are, and some of the others, drawn uniformly and scaled.

    Of the k entries sent, K_top = round(top_share k), at most k - 1, are the largest; the other
    K_rand are drawn among the d - K_top that are left, and multiplied by (d - K_top) / K_rand.
    Unbiased, and with r the vector without its K_top largest entries the variance is exactly
    ((d - K_top) / K_rand - 1) |r|^2. ``Induced`` with ``TopK`` and ``RandK`` draws among
    all d, at a larger variance, and may send an entry twice.

    The message holds k values and, where it is shorter, a seed in place of the indices drawn: a
    seeded subset of all d, which also says those of the largest that it meets, and a sparse payload
    of the other largest. Where few entries or more than half are sent it is one sparse payload.

    Attributes:
        k: how many entries are sent.
        top_share: which part of them are the largest, between 0 and 1.

    References:
        Horvath, Richtarik, 2021, arXiv:2006.11077, where the second part is drawn among all.
    """

    k: EntryCount
    top_share: float = 0.5

    def __post_init__(self) -> None:
        check_count("k", self.k)
        if not (is_number(self.top_share) and 0 < self.top_share < 1):
            raise ValueError(
                f"top_share is {self.top_share!r}: give a part of the entries between 0 and 1; "
                "at the ends are RandK and TopK"
            )

    @property
    def unbiased(self) -> bool:
        """True."""
        return True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the kept entries; float32 where the vector has half precision.

        Raises:
            NonFiniteError: there is NaN or infinity, or an entry does not fit once it is scaled.
        """
        if not peak_of(vector):
            return ZeroPayload(vector.numel())
        return self.with_seed(vector, draw_seed(generator))

    def with_seed(self, vector: Tensor, seed: int) -> Payload:
        """Return the payload that a given seed makes, without drawing."""
        dim = vector.numel()
        num_top, num_random = self._counts(dim)
        top = largest_entries(vector, num_top).cpu().numpy()
        if not self._seed_is_shorter(dim):
            ranks = random_subset(seed, dim - num_top, num_random)
            indices = np.sort(np.concatenate([top, _among_others(ranks, top)]))
            return _entries(vector, indices, self._factors(dim, _are_in(indices, top)))
        drawn = _draw_others(seed, dim, top, num_random)
        values = _scaled(vector, drawn, self._factors(dim, _are_in(drawn, top)))
        seeded = SeededSparsePayload(dim, seed, values)
        rest = top[~_are_in(top, drawn)]
        if not len(rest):
            return seeded
        return SumPayload((_entries(vector, rest, np.ones(len(rest))), seeded))

    def omega(self, dim: int) -> float:
        """((d - K_top) / K_rand - 1) (1 - K_top / d), attained when all magnitudes are equal."""
        num_top, num_random = self._counts(dim)
        return ((dim - num_top) / num_random - 1) * (1 - num_top / dim)

    def alpha(self, dim: int) -> None:
        """None: unbiased."""
        return None

    def paper_cost(self, dim: int) -> PaperCost:
        """k numbers; the paper counts no indices."""
        return PaperCost("64 k", 64 * count_of(self.k, dim))

    def _counts(self, dim: int) -> tuple[int, int]:
        """Return K_top and K_rand."""
        k = count_of(self.k, dim)
        num_top = min(round(self.top_share * k), k - 1)
        return num_top, k - num_top

    def _factors(self, dim: int, is_top: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        num_top, num_random = self._counts(dim)
        return np.where(is_top, 1.0, (dim - num_top) / num_random)

    def _seed_is_shorter(self, dim: int) -> bool:
        """Compare the seed with what K_rand more indices take in a set of k."""
        k, (_, num_random) = count_of(self.k, dim), self._counts(dim)
        return 2 * k <= dim and num_random * math.log2(dim / k) > _SEED_BITS


def _among_others(ranks: _Positions, top: _Positions) -> _Positions:
    """Return the entries of given ranks among those that are not in ``top``; all are ascending."""
    return ranks + np.searchsorted(top - np.arange(len(top)), ranks, side="right")


def _are_in(positions: _Positions, ascending: _Positions) -> npt.NDArray[np.bool_]:
    """Return which positions are among others, those in ascending order."""
    found: _Positions = np.append(ascending, -1)[np.searchsorted(ascending, positions)]
    hits: npt.NDArray[np.bool_] = found == positions
    return hits


def _draw_others(seed: int, dim: int, top: _Positions, count: int) -> _Positions:
    """Return the least subset of a seed that holds ``count`` entries which are not in ``top``.

    Up to half of the range, the subsets of a seed are the beginnings of one stream of distinct
    uniform draws, so the entries that are not in ``top`` are ``count`` uniform draws of the others.
    """
    size = count
    while True:
        drawn = random_subset(seed, dim, size)
        missing = count - size + int(_are_in(drawn, top).sum())
        if not missing:
            return drawn
        size += missing


def _entries(
    vector: Tensor, indices: _Positions, factors: npt.NDArray[np.float64]
) -> SparsePayload:
    places = torch.from_numpy(indices).to(vector.device)
    return SparsePayload(vector.numel(), places, _scaled(vector, indices, factors))


def _scaled(vector: Tensor, indices: _Positions, factors: npt.NDArray[np.float64]) -> Tensor:
    """Return some entries times their factors, each rounded once."""
    kept = at_least_single(vector.detach()[torch.from_numpy(indices).to(vector.device)])
    return scaled_values(kept, torch.from_numpy(factors).to(vector.device))
