"""A problem whose shards are each held by several workers, for gradient coding."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Generator, Tensor, nn

from mlmc_ray.problems.base import Problem, Shard
from mlmc_ray.problems.source import ProblemSource
from mlmc_ray.seeding import seed_for

Allocation = Literal["cyclic", "random"]

Held = tuple[tuple[int, ...], ...]
"""The shards of every worker."""

_TRADES = 10  # for every worker: enough to forget the allocation from which they start


@dataclass(frozen=True, kw_only=True)
class Replicated:
    """Another problem, each of whose shards is held by several workers.

    Every shard is on ``copies`` workers, and every worker holds as many shards: worker i the shards
    i, i + 1, ..., i + copies - 1 mod M, or the choice is drawn uniformly among all such ones. Its
    function is the mean of theirs, whatever their sizes, so the mean over all workers is what
    it was, and every shard counts on each of its workers with weight 1 / copies. A batch has as
    many examples of each shard as one of the problem's own, and costs ``copies`` times as much.

    Args:
        problem: where the other problem comes from.
        copies: how many workers hold a shard, at least 1 and at most as many as there are.
        allocation: "cyclic" or "random".
        seed: of the random allocation.
    """

    problem: ProblemSource
    copies: int = 2
    allocation: Allocation = "cyclic"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError(f"copies is {self.copies!r}: at least 1 worker must hold a shard")
        if self.allocation not in get_args(Allocation):
            raise ValueError(
                f"allocation is {self.allocation!r}: give one of {list(get_args(Allocation))}"
            )

    def model(self) -> nn.Module:
        """The problem's own."""
        return self._own.model()

    def loss(self, model: nn.Module, batch: tuple[Any, ...]) -> Tensor:
        """The mean over the shards of the loss on their part of the batch."""
        return torch.stack([self._own.loss(model, part) for part in batch]).mean()

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> "_Shards":
        """Return the shards of one worker.

        Raises:
            ValueError: there are more copies than workers.
        """
        if self.copies > num_workers:
            raise ValueError(
                f"copies is {self.copies}, and there are {num_workers} workers: give at most that "
                "many"
            )
        state = generator.get_state()  # every shard is cut by the same draws
        held = cyclic_allocation(num_workers, self.copies)[worker_id]
        if self.allocation == "random":
            held = random_allocation(num_workers, self.copies, self.seed)[worker_id]
        return _Shards(
            tuple(
                self._own.shard(i, num_workers, Generator().set_state(state.clone())) for i in held
            )
        )

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """The problem's own measures."""
        return self._own.evaluate(model)

    @cached_property
    def _own(self) -> Problem:
        return self.problem.load()


def cyclic_allocation(num_workers: int, copies: int) -> Held:
    """Return the shards of every worker: i, i + 1, ..., i + copies - 1 mod M."""
    offsets = range(copies)
    return tuple(tuple((i + k) % num_workers for k in offsets) for i in range(num_workers))


@lru_cache(maxsize=4)  # all workers of a process ask for the same
def random_allocation(num_workers: int, copies: int, seed: int) -> Held:
    """Return the shards of every worker, drawn so that each is on ``copies`` workers.

    From the cyclic allocation, random pairs of workers deal out anew what one of them holds alone,
    as many to each as before; the uniform law over all allocations is what such trades tend to.

    References:
        Strona et al., 2014, doi:10.1038/ncomms5114 (the curveball algorithm).
    """
    held = [set(shards) for shards in cyclic_allocation(num_workers, copies)]
    draws = np.random.Generator(np.random.Philox(seed_for(seed, "allocation")))
    for _ in range(_TRADES * num_workers if num_workers > 1 else 0):
        one, other = draws.choice(num_workers, size=2, replace=False)
        both = held[one] & held[other]
        alone = draws.permutation(sorted(held[one] ^ held[other])).tolist()
        held[one], held[other] = both.union(alone[::2]), both.union(alone[1::2])
    return tuple(tuple(sorted(shards)) for shards in held)


@dataclass(frozen=True, slots=True)
class _Shards:
    shards: tuple[Shard, ...]

    def sample(self, size: int, generator: Generator) -> tuple[Any, ...]:
        return tuple(shard.sample(size, generator) for shard in self.shards)

    def full(self) -> tuple[Any, ...]:
        return tuple(shard.full() for shard in self.shards)
