"""A small task of one's own, with the layers that need care, and helpers around it."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from mlmc_ray.problems import TensorShard
from mlmc_ray.problems.base import split_evenly
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
        last = model.get_parameter("5.bias" if self.batch_norm else "4.bias")
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
