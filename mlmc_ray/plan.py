"""What all processes of a run have to agree on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mlmc_ray.downlinks import FULL, Downlink
from mlmc_ray.flat import FlatModel
from mlmc_ray.methods import Method
from mlmc_ray.optimizers import Optimizer
from mlmc_ray.problems import ProblemSource
from mlmc_ray.quorum import Quorum
from mlmc_ray.replica import Replica
from mlmc_ray.schedules import StepSizes
from mlmc_ray.spans import Span, spans_of


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What server and workers are made from.

    Args:
        problem: where the problem comes from; every process loads it for itself.
        method: makes the halves.
        optimizer: takes the step; None if the method does.
        step_sizes: of every round; None for the optimizer's own in all of them.
        num_workers: logical workers of the whole run.
        seed: the run's seed.
        downlink: how the parameters get to the workers.
        servers: how many spans the parameters are cut into, of which each has a server.
        clip_norm: estimates that are longer are shortened to this norm; None for never.
        quorum: when a round closes; None once all workers have reported.
    """

    problem: ProblemSource
    method: Method
    optimizer: Optimizer | None = None
    step_sizes: StepSizes | None = None
    num_workers: int
    seed: int
    downlink: Downlink = FULL
    servers: int = 1
    clip_norm: float | None = None
    quorum: Quorum | None = None

    def spans(self, model: FlatModel) -> tuple[Span, ...]:
        """Return the spans of a model's parameters."""
        return spans_of(model.layers, self.servers)

    def replica(self, span: Span, parameters: Tensor, statistics: Tensor) -> Replica:
        """Make one of what a server has.

        Args:
            span: of the parameters.
            parameters: shape (entries of the span,), on the CPU; the replica's own.
            statistics: the model's first running statistics, which only the first span has.
        """
        return Replica(
            method=self.method,
            optimizer=self.optimizer,
            step_sizes=self.step_sizes,
            clip_norm=self.clip_norm,
            num_workers=self.num_workers,
            seed=self.seed,
            span=span,
            num_spans=self.servers,
            parameters=parameters,
            statistics=statistics if span.index == 0 else torch.empty(0),
        )
