"""The shape of a problem. A user's own task has the same four methods."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Generator, Tensor, nn

_LARGEST_ALPHA = 1e6  # beyond, a Dirichlet law is uniform to three digits, and then overflows


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
        """Return the mean loss of a model on a batch, a scalar with a gradient.

        Where workers compute on a GPU, parameters, buffers and the batch's tensors are there.
        Tensors of the problem's own are not: move them with ``.to(device)``.
        """

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
        """Draw ``size`` examples, uniformly and with replacement; they are where the tensors are.

        Args:
            size: of the batch.
            generator: on the CPU, so that the draws are the same wherever the tensors are.
        """
        rows = torch.randint(len(self.tensors[0]), (size,), generator=generator)
        return tuple(tensor[rows.to(tensor.device)] for tensor in self.tensors)

    def full(self) -> tuple[Tensor, ...]:
        """Return all examples."""
        return self.tensors

    def to(self, device: torch.device) -> "TensorShard":
        """Return a shard of the same examples on a device; the same tensors if they are there."""
        return replace(self, tensors=tuple(tensor.to(device) for tensor in self.tensors))


def split_evenly(
    tensors: tuple[Tensor, ...], worker_id: int, num_workers: int, generator: Generator
) -> TensorShard:
    """Deal shuffled examples to the workers; sizes differ by at most one.

    Raises:
        ValueError: there are more workers than examples.
    """
    order = _shuffled(len(tensors[0]), num_workers, generator)
    rows = order[worker_id::num_workers]
    return TensorShard(tuple(tensor[rows] for tensor in tensors))


def split_by_label(
    tensors: tuple[Tensor, Tensor],
    alpha: float,
    worker_id: int,
    num_workers: int,
    generator: Generator,
) -> TensorShard:
    """Deal every class to the workers in proportions drawn from a symmetric Dirichlet law.

    A small alpha leaves most workers with few classes; a large one deals every class evenly. A
    worker left without an example gets one of the worker that has most.

    Args:
        tensors: examples, and their labels: shape (examples,), any integer type.
        alpha: concentration of the law, positive, at most 1e6.
        worker_id: 0 to ``num_workers`` - 1.
        num_workers: how many shards there are.
        generator: the same draws for every worker.

    Raises:
        ValueError: alpha is out of range, or there are more workers than examples.

    References:
        Yurochkin et al., 2019, arXiv:1905.12022, section 4.
    """
    check_concentration(alpha)
    order = _shuffled(len(tensors[1]), num_workers, generator)
    law = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    labels = tensors[1][order]
    dealt: list[list[Tensor]] = [[] for _ in range(num_workers)]
    for label in torch.unique(labels):
        rows = order[labels == label]
        parts = law.dirichlet([alpha] * num_workers).cumsum()[:-1]
        for own, rows_of_class in zip(
            dealt, rows.tensor_split((parts * len(rows)).round().astype(int).tolist()), strict=True
        ):
            own.append(rows_of_class)
    rows = _none_empty([torch.cat(own) for own in dealt])[worker_id]
    return TensorShard(tuple(tensor[rows] for tensor in tensors))


def check_concentration(alpha: float) -> None:
    """Refuse what is no concentration of a Dirichlet law, with a ``ValueError``."""
    if not 0 < alpha <= _LARGEST_ALPHA:
        raise ValueError(f"alpha is {alpha!r}: give a number above 0 and at most 1e6")


def _shuffled(num_examples: int, num_workers: int, generator: Generator) -> Tensor:
    if num_workers > num_examples:
        raise ValueError(f"{num_examples} examples cannot be dealt to {num_workers} workers")
    return torch.randperm(num_examples, generator=generator)


def _none_empty(shards: list[Tensor]) -> list[Tensor]:
    """Give each empty shard the last row of the longest one."""
    for i, shard in enumerate(shards):
        if not len(shard):
            longest = max(range(len(shards)), key=lambda j: len(shards[j]))
            shards[i], shards[longest] = shards[longest][-1:], shards[longest][:-1]
    return shards
