"""Replicas to try downlinks with."""

from torch import nn

from mlmc_ray.flat import FlatModel
from mlmc_ray.methods import DataParallelSGD, Method
from mlmc_ray.optimizers import Optimizer
from mlmc_ray.replica import Replica
from mlmc_ray.spans import spans_of


def replica_of(
    inputs: int = 9,
    *,
    method: Method | None = None,
    optimizer: Optimizer | None = None,
    norm: bool = False,
) -> Replica:
    """A replica of ``inputs + 1`` zeros; with ``norm`` of 4 more, and 4 statistics."""
    layers = [nn.Linear(inputs, 1), *([nn.BatchNorm1d(2)] if norm else [])]
    model = FlatModel(nn.Sequential(*layers))
    model.parameters.zero_()
    return Replica(
        method=method or DataParallelSGD(),
        optimizer=optimizer,
        step_sizes=None,
        clip_norm=None,
        num_workers=3,
        seed=1,
        span=spans_of(model.layers, 1)[0],
        num_spans=1,
        parameters=model.parameters.clone(),
        statistics=model.statistics(),
    )
