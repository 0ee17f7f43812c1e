"""Who of the workers sends which entries, drawn by everyone alike from the shared seed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from mlmc_ray.kernels.subset import random_subset
from mlmc_ray.seeding import seed_for

Entries = slice | Tensor
"""Some entries of a vector: all of them, or int64 indices, strictly ascending."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EntrySharing:
    """Each entry is sent by s of the c workers that take part in a round.

    Column j of a table with a row for every entry k holds a one where (j - s k) mod c < s: every
    row has s ones, and every column floor(s d / c) or ceil(s d / c). The c workers are drawn
    uniformly from all M, and each gets a column, by a random permutation.

    Args:
        senders: s, at least 2; None for all that take part.
        participants: c; None for all M.
        damping: chi; None for the largest that is allowed, nu = M (s - 1) / (s (M - 1)).
    """

    senders: int | None = None
    participants: int | None = None
    damping: float | None = None

    def __post_init__(self) -> None:
        if self.senders is not None and self.senders < 2:
            raise ValueError(
                f"senders is {self.senders!r}: at least 2 workers must send an entry, or there is "
                "nothing to average"
            )
        if self.participants is not None and self.participants < (self.senders or 2):
            raise ValueError(
                f"participants is {self.participants!r}: give at least as many as senders, "
                f"{self.senders or 2}"
            )
        if self.damping is not None and not 0 < self.damping <= 1:
            raise ValueError(f"damping is {self.damping!r}: give a number above 0 and at most 1")

    def counts(self, num_workers: int) -> tuple[int, int]:
        """Return s and c among ``num_workers`` workers.

        Raises:
            ValueError: there are not that many.
        """
        participants = self.participants or num_workers
        senders = self.senders or participants
        if max(senders, participants) > num_workers:
            name = "participants" if self.participants else "senders"
            raise ValueError(
                f"{name} is {max(senders, participants)}, and there are {num_workers} workers: "
                "give at most that many"
            )
        return senders, participants

    def damping_among(self, num_workers: int) -> float:
        """Return chi.

        Raises:
            ValueError: it is above nu.
        """
        senders, _ = self.counts(num_workers)
        largest = num_workers * (senders - 1) / (senders * (num_workers - 1)) if senders > 1 else 1
        if self.damping is None:
            return largest
        if self.damping > largest:
            raise ValueError(
                f"damping is {self.damping!r}: {senders} senders among {num_workers} workers allow "
                f"at most {largest:.6g}"
            )
        return self.damping

    def contraction(self, num_workers: int) -> float:
        """Return chi (s - 1) / (M - 1), by which an exchange draws the controls together."""
        senders, _ = self.counts(num_workers)
        overlap = (senders - 1) / (num_workers - 1) if senders < num_workers else 1
        return self.damping_among(num_workers) * overlap

    def columns(self, seed: int, num_workers: int) -> Mapping[int, int]:
        """Return the column of every worker that takes part, in the order of workers.

        Args:
            seed: the round's shared seed.
            num_workers: M.
        """
        _, size = self.counts(num_workers)
        return _columns(seed, num_workers, size)

    def entries(self, column: int, dim: int, num_workers: int) -> Entries:
        """Return the entries that the worker with this column sends."""
        senders, size = self.counts(num_workers)
        if senders == size:
            return slice(None)
        period = size // math.gcd(size, senders)  # after so many rows the table repeats itself
        rows = np.arange(period)
        ones = rows[(column - senders * rows) % size < senders]
        repeated = (np.arange(0, dim, period)[:, None] + ones).ravel()
        return torch.from_numpy(repeated[repeated < dim])


@lru_cache(maxsize=4)  # all workers of a process ask for the same
def _columns(seed: int, num_workers: int, size: int) -> Mapping[int, int]:
    members = random_subset(seed_for(seed, "participants"), num_workers, size)
    keys = np.random.Philox(key=seed_for(seed, "columns")).random_raw(size)
    order = np.argsort(keys, kind="stable")
    return MappingProxyType({int(i): int(j) for i, j in zip(members, order, strict=True)})
