"""A small task of one's own, with the layers that need care, and helpers around it."""

import os
from dataclasses import dataclass
from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from mlmc_ray.problems import TensorShard, split_evenly
from mlmc_ray.seeding import generator_for

NUM_EXAMPLES = 48


def examples() -> tuple[Tensor, Tensor]:
    """Return points, shape (48, 3), and targets, shape (48, 1)."""
    draws = torch.Generator().manual_seed(7)
    points = torch.randn(NUM_EXAMPLES, 3, generator=draws)
    return points, points.square().sum(dim=1, keepdim=True)


def rows_of(worker_id: int, num_workers: int, seed: int) -> Tensor:
    """Return which examples are worker i's in a run with this seed."""
    return torch.randperm(NUM_EXAMPLES, generator=generator_for(seed, "shards"))[
        worker_id::num_workers
    ]


@dataclass(frozen=True, kw_only=True)
class Regression:
    """A network of 29 parameters, or 37 and 8 running statistics with batch normalisation.

    Args:
        batch_norm: after the first layer.
        dropout: probability of dropping a hidden unit.
        nan_worker: whose gradient of the last bias is NaN.
    """

    batch_norm: bool = False
    dropout: float = 0.0
    nan_worker: int | None = None

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(3, 4),
            *([nn.BatchNorm1d(4)] if self.batch_norm else []),
            nn.Tanh(),
            nn.Dropout(self.dropout),
            nn.Linear(4, 2),
            nn.Linear(2, 1),
        )

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        points, targets, slopes = batch
        last = cast("nn.Linear", cast("nn.Sequential", model)[-1]).bias
        return functional.mse_loss(model(points), targets) + slopes.mean() * last.sum()

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> TensorShard:
        slopes = torch.zeros(NUM_EXAMPLES)
        if worker_id == self.nan_worker:
            slopes.fill_(torch.nan)
        return split_evenly((*examples(), slopes), worker_id, num_workers, generator)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        points, targets = examples()
        with torch.no_grad():
            return {"loss": functional.mse_loss(model(points), targets).item()}


class _Remembering(nn.Module):
    """Output depends on buffers of every sort: local, float64, reassigned, made late, counting."""

    average: Tensor
    doubled: Tensor
    count: Tensor
    last: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.register_buffer("average", torch.zeros(1), persistent=False)
        self.register_buffer("doubled", torch.zeros(1, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last", None)

    def forward(self, points: Tensor) -> Tensor:
        outputs: Tensor = self.linear(points)
        if self.last is not None:
            outputs = outputs + self.last
        if self.training:
            mean = outputs.detach().mean(dim=0)
            self.average = 0.5 * self.average + 0.5 * mean
            self.doubled.mul_(0.5).add_(mean.double())
            self.count += 1
            self.last = mean.clone()
        return outputs + self.average + self.doubled.float() + 0.01 * self.count


class Remembering(Regression):
    """A model whose gradients depend on all that it has seen."""

    def model(self) -> nn.Module:
        return _Remembering()

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        points, targets, _ = batch
        return functional.mse_loss(model(points), targets)


class Fatal(Regression):
    """Ends the process that computes a loss, as running out of memory would."""

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        os._exit(1)
