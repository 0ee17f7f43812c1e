"""Rand-k: keep k entries drawn uniformly, whose indices need not be sent."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import EntryCount, PaperCost, check_count, count_of, peak_of
from mlmc_ray.kernels.subset import random_subset
from mlmc_ray.payloads import Payload, SeededSparsePayload, ZeroPayload


@dataclass(frozen=True, kw_only=True, slots=True)
class RandK:
    """Keep k entries at indices that sender and receiver draw from one 64-bit seed.

    Scaled by d/k it is unbiased with omega = d/k - 1, exactly, for every vector. Unscaled it is
    biased with E|C(v) - v|^2 = (1 - k/d)|v|^2.

    Args:
        k: how many entries to keep: a number of entries from 1, or the fraction of all, in (0, 1).
        scaled: multiply them by d/k, which makes the mean exact.

    References:
        Beznosikov et al., 2020, arXiv:2002.12410.
    """

    k: EntryCount
    scaled: bool = True

    def __post_init__(self) -> None:
        check_count("k", self.k)

    @property
    def unbiased(self) -> bool:
        """True when scaled."""
        return self.scaled

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the kept entries with the seed of their indices."""
        if not peak_of(vector):
            return ZeroPayload(vector.numel())
        seed = int(torch.randint(1 << 62, (), generator=generator))
        return self.with_seed(vector, seed)

    def with_seed(self, vector: Tensor, seed: int) -> SeededSparsePayload:
        """Return the payload that a given seed makes, without drawing."""
        dim = vector.numel()
        k = count_of(self.k, dim)
        indices = torch.from_numpy(random_subset(seed, dim, k)).to(vector.device)
        payload = SeededSparsePayload(dim, seed, vector.detach()[indices])
        return payload.scaled(dim / k) if self.scaled else payload

    def omega(self, dim: int) -> float | None:
        """d/k - 1 when scaled."""
        return dim / count_of(self.k, dim) - 1 if self.scaled else None

    def alpha(self, dim: int) -> float | None:
        """k/d when not scaled."""
        return None if self.scaled else count_of(self.k, dim) / dim

    def paper_cost(self, dim: int) -> PaperCost:
        """k numbers; the paper counts no indices."""
        return PaperCost("64 k", 64 * count_of(self.k, dim))
