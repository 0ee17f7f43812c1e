"""What all processes of a run have to agree on."""

from dataclasses import dataclass

from mlmc_ray.methods import Method
from mlmc_ray.optimizers import Optimizer
from mlmc_ray.problems import ProblemSource


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What server and workers are made from.

    Args:
        problem: where the problem comes from; every process loads it for itself.
        method: makes the halves.
        optimizer: takes the step; None if the method does.
        num_workers: logical workers of the whole run.
        seed: the run's seed.
    """

    problem: ProblemSource
    method: Method
    optimizer: Optimizer | None = None
    num_workers: int
    seed: int
