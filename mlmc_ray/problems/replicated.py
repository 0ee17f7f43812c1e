"""A problem whose shards are each held by several workers, for gradient coding."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor, nn

from mlmc_ray.problems.base import Problem, Shard
from mlmc_ray.problems.source import ProblemSource


@dataclass(frozen=True, kw_only=True)
class Replicated:
    """Another problem, of which worker i holds the shards i, i + 1, ..., i + copies - 1 mod M.

    Its function is the mean of theirs, whatever their sizes, so the mean over all workers is what
    it was, and every shard counts on each of its workers with weight 1 / copies. A batch has as
    many examples of each shard as one of the problem's own, and costs ``copies`` times as much.

    Args:
        problem: where the other problem comes from.
        copies: how many workers hold a shard, at least 1 and at most as many as there are.
    """

    problem: ProblemSource
    copies: int = 2

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError(f"copies is {self.copies!r}: at least 1 worker must hold a shard")

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
        held = [(worker_id + offset) % num_workers for offset in range(self.copies)]
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


@dataclass(frozen=True, slots=True)
class _Shards:
    shards: tuple[Shard, ...]

    def sample(self, size: int, generator: Generator) -> tuple[Any, ...]:
        return tuple(shard.sample(size, generator) for shard in self.shards)

    def full(self) -> tuple[Any, ...]:
        return tuple(shard.full() for shard in self.shards)
