"""The shape of a problem. A user's own task has the same four methods."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn


class Shard(Protocol):
    """The data of one worker."""

    def sample(self, size: int, generator: Generator) -> Any:
        """Draw a batch of ``size`` examples, uniformly and with replacement."""

    def full(self) -> Any:
        """Return all examples as one batch."""


@runtime_checkable
class Problem(Protocol):
    """What is trained. Every process makes its own instance, from the same arguments."""

    def model(self) -> nn.Module:
        """Make a model; torch's global generator is seeded alike in every process.

        Parameters must be float32. Those that do not require a gradient are not trained. What a
        worker's model remembers from round to round belongs into buffers, of which every worker
        has its own; plain attributes are shared by the workers of a process.
        """

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss of a model on a batch, a scalar with a gradient."""

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> Shard:
        """Return the data of one worker.

        Args:
            worker_id: 0 to ``num_workers`` - 1.
            num_workers: how many shards there are.
            generator: the same draws for every worker, so that all cut one permutation.
        """

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Return named measures of a model, such as ``accuracy`` and ``loss`` on test data.

        The names are the same every time. torch's global generator is seeded by the round.
        """


@dataclass(frozen=True, slots=True)
class TensorShard:
    """Examples held as tensors with the same first dimension; a batch is their tuple.

    Raises:
        ValueError: there is no example, or the tensors have different numbers of them.
    """

    tensors: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        lengths = [len(tensor) for tensor in self.tensors]
        if not lengths or min(lengths) < 1 or min(lengths) < max(lengths):
            raise ValueError(
                f"a shard's tensors have {lengths} examples: give each the same number, at least 1"
            )

    def sample(self, size: int, generator: Generator) -> tuple[Tensor, ...]:
        """Draw ``size`` examples, uniformly and with replacement."""
        rows = torch.randint(len(self.tensors[0]), (size,), generator=generator)
        return tuple(tensor[rows] for tensor in self.tensors)

    def full(self) -> tuple[Tensor, ...]:
        """Return all examples."""
        return self.tensors


def split_evenly(
    tensors: tuple[Tensor, ...], worker_id: int, num_workers: int, generator: Generator
) -> TensorShard:
    """Deal shuffled examples to the workers; sizes differ by at most one.

    Raises:
        ValueError: there are more workers than examples.
    """
    num_examples = len(tensors[0])
    if num_workers > num_examples:
        raise ValueError(f"{num_examples} examples cannot be dealt to {num_workers} workers")
    rows = torch.randperm(num_examples, generator=generator)[worker_id::num_workers]
    return TensorShard(tuple(tensor[rows] for tensor in tensors))
